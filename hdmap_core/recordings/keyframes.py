"""Recordings of data sets: one keyframe, or those of a scene."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from hdmap_core.datasets.opening import open_dataset
from hdmap_core.datasets.protocol import MapDataset, scene_named
from hdmap_core.datasets.sensor_check import check_sensors
from hdmap_core.elements import MapElement
from hdmap_core.errors import DatasetError
from hdmap_core.fusion.ground import elements_to_fixed
from hdmap_core.observation import Observation
from hdmap_core.recordings.recording import Recording, Wanted

_AROUND_M = 60.0  # of the true map, beyond the car's way


def open_keyframes(root: Path, wanted: Wanted) -> Recording:
    """The recording in a data set's folder.

    Raises:
        DatasetError: if it has no such keyframe or scene, or lacks what the model looks at.
    """
    dataset = open_dataset(root, wanted.version)
    if not dataset.tokens:
        raise DatasetError(f"{root} has no keyframes to predict")
    whole_drive = bool(wanted.whole_drive)
    if whole_drive:
        first = dataset.scene_of(wanted.sample or dataset.tokens[0])
        scene = first if wanted.scene is None else scene_named(dataset, wanted.scene)
        tokens = scene.sample_tokens
    else:
        choice = dataset.tokens if wanted.scene is None else scene_named(dataset, wanted.scene).sample_tokens
        tokens = (wanted.sample or choice[0],)
        scene = dataset.scene_of(tokens[0])
    check_sensors(dataset, tokens, lidar=wanted.sweeps > 0, sd_map=wanted.sd_map, ground=wanted.lidar_ground)
    way = way_of(dataset, tokens)
    has_map = way is not None and dataset.has_vector_map(tokens[0])
    return Recording(
        name=scene.name if whole_drive else tokens[0],
        frames=_frames(dataset, tokens, wanted),
        whole_drive=whole_drive,
        count=len(tokens),
        truth=lambda token: truth_of(dataset, token, wanted),
        true_map=(lambda: true_map(dataset, tokens, wanted)) if has_map else None,
        way=way,
        origin=dataset.observation(tokens[0], images=False, points=False, roads=False).map_origin,
    )


def truth_of(dataset: MapDataset, token: str, wanted: Wanted) -> list[MapElement] | None:
    """True elements of a keyframe; None where it has none."""
    if not dataset.has_vector_map(token):
        return None
    grid = wanted.grid
    return dataset.elements(token, grid.x_range, grid.y_range, wanted.classes, wanted.crossings)


def way_of(dataset: MapDataset, tokens: Sequence[str]) -> np.ndarray | None:
    """(N, 2) metres: where the car was at keyframes; None where nobody knows."""
    poses = [pose for token in tokens if (pose := dataset.map_from_ego(token)) is not None]
    return np.array([pose[:2, 3] for pose in poses]) if len(poses) == len(tokens) else None


def true_map(dataset: MapDataset, tokens: Sequence[str], wanted: Wanted) -> list[MapElement]:
    """True elements around all of a scene's way, in the map's frame."""
    way = way_of(dataset, tokens)
    assert way is not None
    middle = tokens[int(np.argmin(np.linalg.norm(way - (way.min(axis=0) + way.max(axis=0)) / 2, axis=1)))]
    pose = dataset.map_from_ego(middle)
    assert pose is not None
    reach = float(np.linalg.norm(way - pose[:2, 3], axis=1).max()) + _AROUND_M
    around = (-reach, reach)
    return elements_to_fixed(dataset.elements(middle, around, around, wanted.classes), pose)


def _frames(dataset: MapDataset, tokens: Sequence[str], wanted: Wanted) -> Iterator[Observation]:
    for token in tokens:
        yield dataset.observation(
            token,
            points=wanted.sweeps > 0,
            sweeps=max(1, wanted.sweeps),
            at_least=wanted.at_least,
            coarse=wanted.at_least is not None,
            lidar_ground=wanted.lidar_ground,
        )
