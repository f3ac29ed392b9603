"""Inputs that need no data: six cameras of a synthetic town, drawn here in a few seconds, always the same."""

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from hdmap_core.datasets.nuscenes import NuScenesDataset
from hdmap_core.datasets.synthetic.presets import PRESETS
from hdmap_core.datasets.synthetic.writer import write_dataset
from hdmap_core.geometry import CameraRig
from hdmap_core.geometry.se3 import rotation_from_euler, se3
from hdmap_core.model_io import ModelInput
from hdmap_core.models import ModelConfig
from hdmap_core.observation import Observation
from hdmap_core.preprocess import preprocess


def sample_inputs(model: ModelConfig, cameras: int = 6) -> tuple[ModelInput, ModelInput]:
    """What a model of this config is given: a whole keyframe, and the same one mirrored, its first camera missing.

    Args:
        model: says which fields.
        cameras: how many, for a model that names none itself.
    """
    names = model.image_backbone.cameras if model.image_backbone else ()
    numbered = [f"CAMERA_{number}" for number in range(cameras)] if cameras != 6 else ()
    whole = sample_observation(names or numbered, lidar=model.lidar_sweeps > 0)
    mirrored = tuple(cv2.flip(image, 1) for image in whole.images if image is not None)
    points = None if whole.points is None else whole.points[::2]
    ages = None if whole.point_age_s is None else whole.point_age_s[::2]
    other = replace(whole, images=(None, *mirrored[1:]), points=points, point_age_s=ages)
    return preprocess(whole, model), preprocess(other, model)


def sample_observation(
    cameras: Sequence[str] = (), size: tuple[int, int] = (900, 1600), *, lidar: bool = False
) -> Observation:
    """A keyframe with images, calibration and roads of an SD map.

    Args:
        cameras: what a model calls its cameras. Names that the town's car has not are given to its cameras in turn.
            Empty: the six of nuScenes.
        size: (H, W) of the images.
        lidar: with the points of one sweep.
    """
    observation = _keyframe(size, lidar)
    rig = observation.rig
    if not cameras:
        return observation
    known = set(cameras) <= set(rig.names)
    places = [rig.names.index(name) if known else index % rig.num_cameras for index, name in enumerate(cameras)]
    chosen = rig.select([rig.names[place] for place in places])
    images = tuple(observation.images[place] for place in places)
    return replace(observation, rig=replace(chosen, names=tuple(cameras)), images=images, camera_stamps_ns=())


def ring_observation(cameras: Sequence[str], image: np.ndarray) -> Observation:
    """A ring of level cameras that all show this image, (H, W, 3) uint8, for what needs any rig at once."""
    height, width = image.shape[:2]
    focal = 0.7875 * width  # nuScenes' 1260 of 1600
    intrinsics = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    optical = rotation_from_euler(-np.pi / 2, 0.0, -np.pi / 2)  # camera axes of a camera that looks along x
    yaws = 2 * np.pi * np.arange(len(cameras)) / len(cameras)
    poses = [se3(rotation_from_euler(0, 0, yaw) @ optical, [0.0, 0.0, 1.5]) for yaw in yaws]
    rig = CameraRig.from_arrays(cameras, [intrinsics] * len(cameras), poses, (height, width))
    return Observation((image,) * len(cameras), rig, 0, "warm-up")


@cache
def _keyframe(size: tuple[int, int], lidar: bool) -> Observation:
    change = {"towns": {"val": 1}, "keyframes": 1, "image_size": size, "lidar": "keyframes" if lidar else "none"}
    with tempfile.TemporaryDirectory() as folder:
        write_dataset(Path(folder), PRESETS["tiny"].model_copy(update=change))
        dataset = NuScenesDataset(folder)
        return dataset.observation(dataset.tokens[0], points=lidar)
