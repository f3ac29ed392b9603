"""What is in a data set of any format, and what is missing from it."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from hdmap_core.datasets.protocol import CLASSES, MapDataset, Scene, lidar_of
from hdmap_core.elements import MapClass

MOST = 200
"""Keyframes whose truth is cut out, and whose files are looked for."""


@dataclass(frozen=True)
class SceneContents:
    """One scene.

    Attributes:
        name, location: of the scene.
        frames: keyframes.
        seconds: from the first to the last.
        splits: names of those that have it.
        metres: along the keyframes' places; None where nobody knows the poses.
    """

    name: str
    location: str
    frames: int
    seconds: float
    splits: tuple[str, ...]
    metres: float | None


@dataclass(frozen=True)
class Contents:
    """A data set.

    Attributes:
        scenes: in the folder's order.
        splits: name -> (scenes, keyframes) that the folder has of it.
        sensors: name -> (H, W) of a camera's images, or None.
        looked_at: tokens of the keyframes, spread evenly, that `elements` and `missing` are about.
        elements: class -> true elements in all of these, in a region of 60 x 30 m; empty without truth.
        missing: what these lack -> of how many of them, with an example.
    """

    scenes: tuple[SceneContents, ...]
    splits: dict[str, tuple[int, int]]
    sensors: dict[str, tuple[int, int] | None]
    looked_at: tuple[str, ...]
    elements: dict[MapClass, int]
    missing: dict[str, tuple[int, str]]


def contents_of(
    dataset: MapDataset, most: int = MOST, progress: Callable[[int, int], None] = lambda done, total: None
) -> Contents:
    """Looks through a data set.

    Args:
        dataset: of any format.
        most: so many keyframes, spread evenly over all, are looked at more closely.
        progress: called with keyframes done and in all.

    Raises:
        HdmapError: if its description or its map is damaged.
    """
    tokens = dataset.tokens[:: max(1, -(-len(dataset.tokens) // most))]
    sensors: dict[str, tuple[int, int] | None] = {}
    elements: Counter[MapClass] = Counter()
    missing: dict[str, list[str]] = {}
    with_truth = 0
    for number, token in enumerate(tokens, start=1):
        for name, frame in dataset.keyframe(token).items():
            sensors.setdefault(name, frame.image_size if frame.modality == "camera" else None)
        for what, example in _lacking(dataset, token):
            missing.setdefault(what, []).append(example)
        if dataset.has_vector_map(token):
            with_truth += 1
            elements.update(element.label for element in dataset.elements(token))
        progress(number, len(tokens))
    known = {scene.name: len(scene.sample_tokens) for scene in dataset.scenes}
    here = {name: [scene for scene in scenes if scene in known] for name, scenes in dataset.splits.items()}
    return Contents(
        scenes=tuple(_scene(dataset, scene) for scene in dataset.scenes),
        splits={name: (len(scenes), sum(known[scene] for scene in scenes)) for name, scenes in here.items() if scenes},
        sensors=sensors,
        looked_at=tokens,
        elements={label: elements[label] for label in CLASSES} if with_truth else {},
        missing={what: (len(examples), examples[0]) for what, examples in missing.items()},
    )


def _scene(dataset: MapDataset, scene: Scene) -> SceneContents:
    tokens = scene.sample_tokens
    poses = [dataset.map_from_ego(token) for token in tokens]
    places = [pose[:3, 3] for pose in poses if pose is not None]
    metres = None
    if len(places) == len(tokens):
        metres = sum(float(np.linalg.norm(later - earlier)) for earlier, later in pairwise(places))
    stamps = [_stamp_ns(dataset, token) for token in (*tokens[:1], *tokens[-1:])]
    splits = tuple(name for name, scenes in dataset.splits.items() if scene.name in scenes)
    seconds = (stamps[-1] - stamps[0]) * 1e-9 if stamps else 0.0
    return SceneContents(scene.name, scene.location, len(tokens), seconds, splits, metres)


def _stamp_ns(dataset: MapDataset, token: str) -> int:
    frames = dataset.keyframe(token)
    return (lidar_of(frames) or next(iter(frames.values()))).stamp_ns


def _lacking(dataset: MapDataset, token: str) -> Sequence[tuple[str, str]]:
    """What a keyframe lacks, each with where that would lie."""
    frames = dataset.keyframe(token)
    lidar = lidar_of(frames)
    lacking = [
        (f"{frame.modality} files of {name}", str(frame.path))
        for name, frame in frames.items()
        if not frame.path.is_file()
    ]
    if lidar is None:
        lacking.append(("LiDAR", f"keyframe {token}"))
    elif (
        not any(sweep.path.is_file() for sweep in dataset.previous_sweeps(token))
        and dataset.scene_of(token).sample_tokens[0] != token
    ):
        lacking.append(("LiDAR sweeps before the keyframe's", f"keyframe {token}"))
    if dataset.map_from_ego(token) is None:
        lacking.append(("poses", f"keyframe {token}"))
    if not dataset.has_vector_map(token):
        lacking.append(("true maps", dataset.advice("vector map", token)))
    if dataset.sd_lines(token) is None:
        lacking.append(("SD maps", dataset.advice("SD map", token)))
    return lacking
