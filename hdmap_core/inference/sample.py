"""An observation that needs no data: six cameras of a synthetic town, drawn here in a few seconds, always the same."""

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from hdmap_core.datasets.nuscenes import NuScenesDataset
from hdmap_core.datasets.synthetic.presets import PRESETS
from hdmap_core.datasets.synthetic.writer import write_dataset
from hdmap_core.observation import Observation


def sample_observation(cameras: Sequence[str] = (), size: tuple[int, int] = (900, 1600)) -> Observation:
    """A keyframe with images, calibration and roads of an SD map, without LiDAR.

    Args:
        cameras: what a model calls its cameras. Names that the town's car has not are given to its cameras in turn.
            Empty: the six of nuScenes.
        size: (H, W) of the images.
    """
    observation = _keyframe(size)
    rig = observation.rig
    if not cameras:
        return observation
    known = set(cameras) <= set(rig.names)
    places = [rig.names.index(name) if known else index % rig.num_cameras for index, name in enumerate(cameras)]
    chosen = rig.select([rig.names[place] for place in places])
    images = tuple(observation.images[place] for place in places)
    return replace(observation, rig=replace(chosen, names=tuple(cameras)), images=images, camera_stamps_ns=())


@cache
def _keyframe(size: tuple[int, int]) -> Observation:
    change = {"towns": {"val": 1}, "keyframes": 1, "image_size": size, "lidar": "none"}
    with tempfile.TemporaryDirectory() as folder:
        write_dataset(Path(folder), PRESETS["tiny"].model_copy(update=change))
        dataset = NuScenesDataset(folder)
        return dataset.observation(dataset.tokens[0], points=False)
