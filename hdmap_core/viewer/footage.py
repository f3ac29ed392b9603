"""What can be looked at: moments of a drive, with what the cameras saw, what a model said, and what is true."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from hdmap_core.elements import MapElement
from hdmap_core.errors import ConfigError
from hdmap_core.geometry import BEVGrid
from hdmap_core.observation import Observation

_EDGE_M = 1.0  # a line may stray so far out of the region that it was predicted in


@dataclass(frozen=True)
class Moment:
    """One instant of a drive; what is not known is None or empty.

    Attributes:
        token: name of the frame; the same in everything that shows the same instant.
        stamp_ns: nanoseconds since 1970.
        observation: images, calibration, pose.
        predicted: what a model said, metres, ego frame.
        truth: ground truth, metres, ego frame.
        latency_ms: stage -> milliseconds of the model.
    """

    token: str
    stamp_ns: int | None = None
    observation: Observation | None = None
    predicted: Sequence[MapElement] | None = None
    truth: Sequence[MapElement] | None = None
    latency_ms: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Footage:
    """A thing that can be looked at.

    Attributes:
        name: what it is called.
        facts: what is known of it, in sentences.
        scenes: name of a scene -> tokens of its moments, as far as they are known before reading.
        moments: the moments of a scene, in the order of time.
        data: where the images of a result are said to be; None: with it, or nobody knows.
        version: which of several data sets in `data`.
        region: that its maps show, metres.
        problems: called at the end: what was wrong with it, a line each.
    """

    name: str
    facts: tuple[str, ...]
    scenes: Mapping[str, Sequence[str]]
    moments: Callable[[str], Iterator[Moment]]
    data: Path | None = None
    version: str | None = None
    region: BEVGrid = field(default_factory=BEVGrid)
    problems: Callable[[], Sequence[str]] = lambda: ()

    def scene(self, wanted: str | None) -> str:
        """The scene of that name, or the first.

        Raises:
            ConfigError: if there is none of that name.
        """
        if wanted is not None and wanted not in self.scenes:
            some = ", ".join(list(self.scenes)[:8])
            raise ConfigError(f"{self.name} has no scene {wanted!r}; it has {some}")
        return wanted or next(iter(self.scenes))


def joined(result: Footage, data: Footage) -> Footage:
    """The moments of a data set or bag with what a result says of them; scenes without a common moment are left out.

    Args:
        result: predictions, of which all moments are read.
        data: images and poses.

    Raises:
        ConfigError: when reading, if not one moment is in both.
    """
    said = {moment.token: moment for scene in result.scenes for moment in result.moments(scene)}
    scenes = {
        name: [token for token in tokens if token in said]
        for name, tokens in data.scenes.items()
        if not tokens or not said.keys().isdisjoint(tokens)
    }
    apart = (
        f"{result.name} and {data.name} have no frame in common: the one has {next(iter(said), 'none')!r}, the other "
        f"{next((token for tokens in data.scenes.values() for token in tokens), 'others')!r}; give what the result was "
        "made of with --data"
    )
    if not scenes:
        raise ConfigError(apart)

    def moments(scene: str) -> Iterator[Moment]:
        is_empty = True
        for moment in data.moments(scene):
            if (about := said.get(moment.token)) is not None:
                is_empty = False
                yield replace(
                    moment,
                    predicted=about.predicted,
                    truth=moment.truth if about.truth is None else about.truth,
                    latency_ms=about.latency_ms or moment.latency_ms,
                )
        if is_empty:
            raise ConfigError(apart)

    return Footage(result.name, (*result.facts, *data.facts), scenes, moments, region=result.region)


def region_of(elements: Iterable[MapElement]) -> BEVGrid:
    """The usual 60 x 30 m, or more in steps of 15 m where elements reach farther; at most 300 x 300 m; ego frame."""
    reach = np.array([30.0, 15.0])
    for element in elements:
        reach = np.maximum(reach, np.abs(element.points).max(axis=0))
    x, y = np.minimum(150.0, 15.0 * np.ceil((reach - _EDGE_M) / 15.0)).tolist()
    return BEVGrid((-x, x), (-y, y))
