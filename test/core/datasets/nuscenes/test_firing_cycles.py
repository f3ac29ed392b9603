"""A firing cycle as an observation."""

from pathlib import Path

import numpy as np

from hdmap_core.datasets.nuscenes import CAMERAS, NuScenesDataset
from hdmap_core.datasets.nuscenes.firing_cycles import observe_cycle


def test_at_a_keyframe_it_is_the_keyframes_images_in_the_anchors_frame(tiny_world: Path) -> None:
    dataset = NuScenesDataset(tiny_world)
    scene = dataset.scenes[0]
    frames = dataset.tables.sensor_frames(scene, CAMERAS)
    anchor = next(frame for frame in frames if frame.channel == "CAM_FRONT" and frame.is_key_frame)
    found, keyframe = observe_cycle(frames, anchor), dataset[0]
    assert (found.rig.names, found.stamp_ns) == (CAMERAS, anchor.stamp_ns)
    for name, image in zip(CAMERAS, found.images, strict=True):
        other = keyframe.images[keyframe.rig.names.index(name)]
        assert image is not None and other is not None and np.array_equal(image, other)
    front = found.rig.ego_from_camera[CAMERAS.index("CAM_FRONT")].numpy()
    assert np.allclose(front, anchor.ego_from_sensor)
