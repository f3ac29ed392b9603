"""StreamMapNet's and MapTracker's `submission_vector.json`.

{"meta", "results": {sample token: {"vectors": [[[x, y], ...], ...], "scores", "labels", ...}}}, written by the base of
both programs' data sets (https://github.com/yuantianyuan01/StreamMapNet, https://github.com/woodfrog/maptracker).
Metres, x forward, y left; from the ego frame's origin in StreamMapNet, from the LiDAR in MapTracker, whose files have
`props` where StreamMapNet's have `prop`. A sample that is left out was predicted empty. Rasters and tracks are not
read.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from hdmap_core.elements import MapClass, MapElement
from hdmap_core.errors import ElementError
from hdmap_core.exchange.lines import ToEgo, check_metres, element_of, from_above_lidar, from_ego
from hdmap_core.exchange.maptr import numbered

NUMBERS = (MapClass.PED_CROSSING, MapClass.DIVIDER, MapClass.BOUNDARY)
"""The classes by number, as both programs' configurations have them; the file holds numbers alone."""


def frames_of(content: Mapping[str, Any], numbers: Sequence[MapClass] = NUMBERS) -> dict[str, list[MapElement]]:
    """Sample token -> elements in the ego frame.

    Args:
        content: the JSON object.
        numbers: the classes by number.

    Raises:
        ElementError: naming frame and line of the first that is malformed.
    """
    samples = content["results"]
    to_ego = from_above_lidar if is_of_maptracker(content) else from_ego
    frames = {}
    for token, sample in samples.items():
        try:
            frames[token] = _elements(sample, numbers, to_ego)
        except ElementError as error:
            raise ElementError(f"frame {token!r}: {error}") from None
    check_metres(frames, to_ego)
    return frames


def is_of_maptracker(content: Mapping[str, Any]) -> bool:
    """Whether the origin is the LiDAR."""
    return any(isinstance(sample, Mapping) and "props" in sample for sample in content["results"].values())


def _elements(sample: Any, numbers: Sequence[MapClass], to_ego: ToEgo) -> list[MapElement]:
    sample = sample if isinstance(sample, Mapping) else {}
    vectors, labels = sample.get("vectors"), sample.get("labels")
    if not isinstance(vectors, list) or not isinstance(labels, list):
        raise ElementError('expected an object with lists "vectors", "scores" and "labels"')
    scores = sample.get("scores", [1.0] * len(vectors))  # ground truth has none
    if not isinstance(scores, list) or not len(vectors) == len(labels) == len(scores):
        raise ElementError('"vectors", "scores" and "labels" must be lists of one length')
    elements = []
    for index, (points, label, score) in enumerate(zip(vectors, labels, scores, strict=True)):
        try:
            elements.append(element_of(numbered(label, numbers), points, score, to_ego))
        except ElementError as error:
            raise ElementError(f"line {index}: {error}") from None
    return [element for element in elements if element is not None]
