"""Which keyframes of a data set cannot be used, and why."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from hdmap_core.datasets.opening import open_dataset
from hdmap_core.datasets.protocol import MapDataset, SensorFrame, lidar_of
from hdmap_core.datasets.sensor_files import read_image
from hdmap_core.errors import DatasetError, ImageError
from hdmap_core.running.parallel import map_scenes

_CHECK_REDUCTION = 8  # all compressed data are still read


@dataclass(frozen=True)
class BadKeyframe:
    """A keyframe that cannot be used.

    Attributes:
        token: of the sample.
        scene: its scene's name.
        reason: what kind of fault, a few words.
        detail: what is wrong, naming the file or sensor.
    """

    token: str
    scene: str
    reason: str
    detail: str


@dataclass(frozen=True)
class Inspection:
    """What to look at.

    Attributes:
        root: the data set's folder.
        version: which data set of it.
        cache: where its index lies.
        cameras: which cameras every keyframe must have; None: those that any keyframe of its scene has.
        sweeps: how many LiDAR sweeps are needed, the keyframe's own and those before it.
        decode: decode every image (at an eighth of its size) instead of only looking for the file.
    """

    root: Path
    version: str
    cache: Path
    cameras: tuple[str, ...] | None
    sweeps: int = 0
    decode: bool = False


@lru_cache(maxsize=8)  # training and validation may be of two versions, and training of several folders
def opened(root: Path, version: str, cache: Path) -> MapDataset:
    """A data set, by its index if it has one; kept open in this process."""
    return open_dataset(root, version, cache=cache)


def find_bad(
    scenes: Sequence[tuple[str, ...]],
    inspection: Inspection,
    workers: int,
    ray: str | None,
    done: Callable[[int], object],
) -> list[BadKeyframe]:
    """The keyframes, in order, that cannot be used.

    Args:
        scenes: sample tokens, scene by scene.
        inspection: what to look at.
        workers: processes.
        ray: address of a Ray cluster to run on instead, if any.
        done: called with how many keyframes were looked at.
    """

    def looked_at(index: int, _: list[BadKeyframe]) -> None:
        done(len(scenes[index]))

    found = map_scenes(_scene, [(tokens, inspection) for tokens in scenes], workers, ray, looked_at)
    return [bad for scene in found for bad in scene]


def summary(bad: Sequence[BadKeyframe], total: int, shown: int = 3) -> str:
    """One line: how many of which kind, and the first few."""
    kinds = ", ".join(f"{count} {reason}" for reason, count in Counter(frame.reason for frame in bad).most_common())
    first = "; ".join(f"sample {frame.token} of {frame.scene}: {frame.detail}" for frame in bad[:shown])
    more = f"; and {len(bad) - shown} more" if len(bad) > shown else ""
    return f"{len(bad)} of {total} keyframes cannot be used ({kinds}): {first}{more}"


def _scene(job: tuple[tuple[str, ...], Inspection]) -> list[BadKeyframe]:
    tokens, inspection = job
    dataset = opened(inspection.root, inspection.version, inspection.cache)
    found = []
    cameras = _cameras_of_scene(dataset, tokens) if inspection.cameras is None else inspection.cameras
    for token in tokens:
        fault = _fault(dataset, token, cameras, inspection)
        if fault is not None:
            found.append(BadKeyframe(token, dataset.scene_of(token).name, *fault))
    return found


def _cameras_of_scene(dataset: MapDataset, tokens: tuple[str, ...]) -> tuple[str, ...]:
    """A scene has one rig; another may have another (`hdmap synth --rigs varied`)."""
    frames = (frame for token in tokens for frame in dataset.keyframe(token).values())
    return tuple(dict.fromkeys(frame.channel for frame in frames if frame.modality == "camera"))


def _fault(dataset: MapDataset, token: str, cameras: tuple[str, ...], inspection: Inspection) -> tuple[str, str] | None:
    """(reason, detail) of the first fault."""
    frames = dataset.keyframe(token)
    missing = [name for name in cameras if name not in frames]
    if missing:
        return "without all cameras", f"{dataset.place} has no {', '.join(missing)} of it"
    lidar = lidar_of(frames) if inspection.sweeps else None
    if inspection.sweeps and lidar is None:
        return "without LiDAR", f"{dataset.place} has no LiDAR sweep of it"
    if not dataset.has_vector_map(token):
        return "without map", dataset.advice("vector map", token)
    for name in cameras:
        if not frames[name].path.is_file():
            return "with a missing image", f"no file {frames[name].path}"
    earlier = dataset.previous_sweeps(token)[: inspection.sweeps - 1] if inspection.sweeps > 1 else []
    for sweep in [lidar, *earlier] if lidar is not None else []:
        if not sweep.path.is_file():
            return "with a missing sweep", f"no file {sweep.path}"
    for name in cameras if inspection.decode else ():
        fault = _unreadable(frames[name])
        if fault is not None:
            return "with an unreadable image", fault
    return None


def _unreadable(frame: SensorFrame) -> str | None:
    try:
        read_image(frame, _CHECK_REDUCTION)
    except (DatasetError, ImageError) as error:
        return str(error)
    return None
