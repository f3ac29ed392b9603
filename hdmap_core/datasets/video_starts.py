"""When each camera's video begins: as its owner says, as the videos sound, as the files say, or all at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path

from hdmap_core.datasets.rig_file import LATEST_START_S, RigCamera
from hdmap_core.datasets.video_sound import starts_by_sound
from hdmap_core.datasets.videos import video_facts
from hdmap_core.errors import ConfigError

_NS = 1_000_000_000


@dataclass(frozen=True)
class Beginning:
    """What `--start` says.

    Attributes:
        first_ns: when the first camera's video, or the first image, is to begin; the others follow. None: as it comes.
        cameras_ns: camera -> when its video begins.
    """

    first_ns: int | None = None
    cameras_ns: Mapping[str, int] | None = None


@dataclass(frozen=True)
class Starts:
    """When videos begin.

    Attributes:
        at_ns: camera -> nanoseconds on a clock that all share.
        told: who says so, in a sentence.
    """

    at_ns: dict[str, int]
    told: str


def parse_beginning(given: Sequence[str]) -> Beginning:
    """What `--start` says, each `SECONDS` or `CAMERA=SECONDS`.

    Raises:
        ConfigError: if one is neither.
    """
    first_ns, cameras_ns = None, {}
    for text in given:
        camera, equals, seconds = text.rpartition("=")
        start_ns = _ns(f"--start {text}", seconds)
        if equals:
            cameras_ns[camera] = start_ns
        else:
            first_ns = start_ns
    return Beginning(first_ns, cameras_ns)


def starts_of(
    videos: Mapping[str, Path], rig: Mapping[str, RigCamera], beginning: Beginning, align: bool = False
) -> Starts:
    """When videos begin: by sound if that is wanted, else as `--start` says, else the rig file, else the files, if all
    do so finer than in whole seconds; else all at once.

    Args:
        videos: camera -> file; the first is that to which `Beginning.first_ns` belongs.
        rig: what the rig file says of them.
        beginning: what `--start` says.
        align: by their sound.

    Raises:
        ConfigError: if it is said of a camera without a video, or by two at once.
        DatasetError: if their sound does not tell.
        ImageError, MissingDependencyError: if a file cannot be read.
    """
    given = beginning.cameras_ns or {}
    for camera in given:
        if camera not in videos:
            raise ConfigError(f"--start {camera}=...: there is no video of this camera; there are {', '.join(videos)}")
    if align and given:
        raise ConfigError("--align finds when each video begins, --start CAMERA=SECONDS says it; give one of the two")
    starts = _aligned(videos) if align else _said(videos, rig, given) or _of_files(videos)
    if beginning.first_ns is not None:
        shift_ns = beginning.first_ns - next(iter(starts.at_ns.values()))
        starts = Starts({name: at_ns + shift_ns for name, at_ns in starts.at_ns.items()}, starts.told)
    early = min(starts.at_ns, key=starts.at_ns.__getitem__)
    if starts.at_ns[early] < 0:
        raise ConfigError(f"the video of {early} would begin {_shown(-starts.at_ns[early])} s before 0; add to --start")
    return starts


def _aligned(videos: Mapping[str, Path]) -> Starts:
    if len(videos) < 2:
        raise ConfigError("--align holds the sound of several videos against each other; give more than one")
    at_ns, ratio = starts_by_sound(videos)
    again = " ".join(f"--start {name}={_shown(start)}" for name, start in at_ns.items())
    return Starts(at_ns, f"by their sound (it fits {ratio:.1f} times as well as anywhere else): {again}")


def _said(videos: Mapping[str, Path], rig: Mapping[str, RigCamera], given: Mapping[str, int]) -> Starts | None:
    of_rig = {name: start_ns for name in videos if (start_ns := rig[name].start_ns) is not None}
    if not given and not of_rig:
        return None
    at_ns = {**dict.fromkeys(videos, 0), **of_rig, **given}
    who = "the rig file says" if not given else "--start says" if not of_rig else "the rig file and --start say"
    return Starts(at_ns, f"as {who}: {_listed(at_ns)}")


def _of_files(videos: Mapping[str, Path]) -> Starts:
    """By the files' own times if all have fine ones and there is an instant that all cover; else all at once."""
    together = Starts(dict.fromkeys(videos, 0), "")
    if len(videos) < 2:
        return together
    facts = {name: video_facts(path) for name, path in videos.items()}
    created = {name: each.created_ns for name, each in facts.items() if each.created_ns is not None}
    finely = len(created) == len(videos) and all(each.created_finely for each in facts.values())
    ends_ns = [start + facts[name].length_ns for name, start in created.items()]
    if finely and max(created.values()) < min(ends_ns):
        return Starts(created, f"as the files say, to the fraction of a second: {_listed(created)}")
    why = ""
    if len(created) == len(videos):
        why = ", whatever their files say, " + (
            "which would leave no common instant" if finely else "which is in whole seconds"
        )
    return Starts(together.at_ns, f"all at once{why}; --align finds it by their sound, --start CAMERA=SECONDS says it")


def _listed(at_ns: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {_shown(start)} s" for name, start in at_ns.items())


def _shown(at_ns: int) -> str:
    """Seconds, to the last digit."""
    seconds, rest = divmod(at_ns, _NS)
    return f"{seconds}.{rest:09d}".rstrip("0").rstrip(".")


def _ns(where: str, text: str) -> int:
    try:
        seconds = Decimal(text)
    except InvalidOperation:
        seconds = Decimal("nan")
    if not (seconds.is_finite() and 0 <= seconds < LATEST_START_S):
        raise ConfigError(f"{where}: expected seconds, 0 or more, since 1970 or since the first begins, got {text!r}")
    return round(seconds * _NS)
