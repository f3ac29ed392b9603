"""Footage of what the core writes and reads: data sets, elements in files, folders of results, images and videos.

Other packages bring their own by entry points of the group `hdmap.view`: a function of a path, and of what is wanted of
it, that returns None where the thing is not of its kind.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import cv2

from hdmap_core.datasets.frames.reading import NAMES as FRAMES_FILES
from hdmap_core.elements import read_elements
from hdmap_core.errors import ConfigError
from hdmap_core.observation import Observation
from hdmap_core.recordings.opening import open_recording
from hdmap_core.recordings.recording import Wanted
from hdmap_core.viewer.footage import Footage, Moment, region_of

ENOUGH_PIXELS = (450, 800)
"""(H, W) of images that will do on a screen that shows six of them."""
_REPORT, _PREDICTIONS, _TRUTH = "report.json", "predictions.jsonl", "gt.jsonl"


def open_footage(path: Path, wanted: Wanted) -> Footage:
    """What there is to see of a file or folder.

    Args:
        path: the thing.
        wanted: of images the ground by LiDAR; of a data set also its version, and whether points are shown (`sweeps`).

    Raises:
        ConfigError: if it is not there, or nothing that can be looked at.
        HdmapError: if it is damaged.
    """
    if not path.exists():
        raise ConfigError(f"{path}: no such file or folder")
    for entry in sorted(entry_points(group="hdmap.view"), key=lambda entry: entry.name):
        if (found := entry.load()(path, wanted)) is not None:
            return found
    raise ConfigError(
        f"{path} cannot be looked at: give a bag (.mcap, a rosbag2 folder), predictions (.jsonl), a folder of hdmap "
        "evaluate or hdmap bag replay, or a data set; hdmap info says what it is"
    )


def core_footage(path: Path, wanted: Wanted) -> Footage | None:
    """Data sets, elements in a file, folders of results."""
    if path.is_file() and path.name not in FRAMES_FILES:
        return result_footage(path) if path.suffix in (".jsonl", ".json") else None
    if (path / _PREDICTIONS).is_file():
        return result_footage(path / _PREDICTIONS)
    return data_footage(path, wanted)


def recording_footage(things: Sequence[str], wanted: Wanted) -> Footage:
    """What `hdmap predict` reads with a rig file: images, a folder of images, videos, a bag without CameraInfo.

    Args:
        things: see `open_recording`.
        wanted: with the rig file, all of the drive.

    Raises:
        HdmapError: as `open_recording`.
    """
    recording = open_recording(things, wanted)

    def moments(scene: str) -> Iterator[Moment]:
        for observation in recording.frames:
            yield Moment(observation.token, observation.stamp_ns, _for_a_screen(observation))

    return Footage(recording.name, recording.facts, {"drive": ()}, moments, problems=recording.problems)


def _for_a_screen(observation: Observation) -> Observation:
    """The same with smaller images, of `ENOUGH_PIXELS` at least."""
    images, sizes = [], []
    for image, (height, width) in zip(observation.images, observation.rig.image_sizes, strict=True):
        times = max(1, min(height // ENOUGH_PIXELS[0], width // ENOUGH_PIXELS[1]))
        size = height // times, width // times
        small = None if image is None else cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)
        images.append(image if times == 1 else small)
        sizes.append(size)
    return replace(observation, images=tuple(images), rig=observation.rig.resized(sizes))


def read_report(folder: Path) -> dict[str, Any]:
    """The report beside results; empty where there is none that can be read."""
    try:
        report = json.loads((folder / _REPORT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return report if isinstance(report, dict) else {}


def result_footage(path: Path) -> Footage:
    """Elements that `hdmap evaluate`, `predict` or `bag replay` wrote, with the truth that lies beside them.

    Raises:
        ConfigError: if there is nothing in it.
        ElementError: if a file is damaged.
    """
    frames = read_elements(path)
    if not frames:
        raise ConfigError(f"{path} holds no frames")
    report = read_report(path.parent) if path.name == _PREDICTIONS else {}
    truth = read_elements(path.parent / _TRUTH) if report and (path.parent / _TRUTH).is_file() else {}
    only_truth = not truth and all(element.score == 1.0 for elements in frames.values() for element in elements)
    latencies = latencies_of(report, list(frames))

    def moments(scene: str) -> Iterator[Moment]:
        for token, elements in frames.items():
            stamp_ns = int(token) if token.isdecimal() and len(token) > 15 else None
            predicted, true = (None, elements) if only_truth else (elements, truth.get(token))
            yield Moment(token, stamp_ns, predicted=predicted, truth=true, latency_ms=latencies.get(token, {}))

    data = report.get("data")
    model = report.get("checkpoint") or report.get("model_id")
    return Footage(
        str(path),
        (f"of the model {model}",) if model else (),
        {"all": list(frames)},
        moments,
        Path(data) if isinstance(data, str) else None,
        report.get("data_version"),
        region_of(element for elements in frames.values() for element in elements),
    )


def latencies_of(report: Mapping[str, Any], tokens: Sequence[str]) -> dict[str, dict[str, float]]:
    """Token -> stage -> milliseconds, of the newest frames of a replay."""
    stages = report.get("latency_ms_by_map")
    if not isinstance(stages, dict) or not all(isinstance(values, list) for values in stages.values()):
        return {}
    lengths = {len(values) for values in stages.values()}
    if len(lengths) != 1 or (number := lengths.pop()) > len(tokens):
        return {}
    newest = tokens[len(tokens) - number :]
    return {token: {stage: values[at] for stage, values in stages.items()} for at, token in enumerate(newest)}


def data_footage(path: Path, wanted: Wanted) -> Footage:
    """The scenes of a data set, with ground truth where it has a vector map.

    Raises:
        DatasetError: if the folder holds none; when reading, if no LiDAR shows the ground that is wanted by it.
    """
    from hdmap_core.datasets.opening import open_dataset
    from hdmap_core.datasets.sensor_check import check_sensors

    dataset = open_dataset(path, wanted.version)
    scenes = {scene.name: scene.sample_tokens for scene in dataset.scenes}

    def moments(scene: str) -> Iterator[Moment]:
        check_sensors(dataset, scenes[scene], lidar=False, sd_map=False, ground=wanted.lidar_ground)
        for token in scenes[scene]:
            observation = dataset.observation(
                token,
                points=wanted.sweeps > 0,
                at_least=ENOUGH_PIXELS,
                coarse=True,
                lidar_ground=wanted.lidar_ground,
            )
            truth = dataset.elements(token) if dataset.has_vector_map(token) else None
            yield Moment(token, observation.stamp_ns, observation, truth=truth)

    return Footage(str(path), (f"{len(scenes)} scenes, {len(dataset.tokens)} keyframes",), scenes, moments)
