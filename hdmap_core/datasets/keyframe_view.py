"""What the sensors of one keyframe saw, in the ego frame of its instant: cameras with their rig, and LiDAR points."""

from collections.abc import Sequence

import numpy as np

from hdmap_core.datasets.protocol import SensorFrame
from hdmap_core.datasets.sensor_files import read_image, read_points
from hdmap_core.geometry import CameraRig, se3
from hdmap_core.image_decoding import reduction_for

OWN_VEHICLE_M = 2.2  # as in HDMapNet's code

Pictures = tuple[np.ndarray | None, ...]


def camera_view(
    cameras: Sequence[SensorFrame],
    map_from_ego: np.ndarray,
    images: bool = True,
    at_least: tuple[int, int] | None = None,
    coarse: bool = False,
) -> tuple[Pictures, CameraRig]:
    """Pictures of the cameras, and the rig with the car's motion up to the keyframe's instant in its poses.

    Args:
        cameras: in the order of the rig.
        map_from_ego: (4, 4) the car's pose at the keyframe's instant.
        images: decode the pictures; without, each is None.
        at_least: (H, W) that is enough, see `MapDataset.observation`.
        coarse: see `decode_image`.
    """
    ego_from_map = se3.inverse(map_from_ego)
    sizes = [camera.image_size for camera in cameras]
    reduction = 1 if at_least is None else min(reduction_for(size, at_least) for size in sizes)
    pictures = tuple(read_image(camera, reduction, coarse) if images else None for camera in cameras)
    rig = CameraRig.from_arrays(
        [camera.channel for camera in cameras],
        np.array([camera.intrinsics for camera in cameras]).reshape(-1, 3, 3),
        [ego_from_map @ camera.map_from_ego @ camera.ego_from_sensor for camera in cameras],
        sizes,
        [camera.lens for camera in cameras],
        [camera.ego_from_sensor for camera in cameras],
    )
    if reduction > 1:
        rig = rig.resized([(height // reduction, width // reduction) for height, width in sizes])
    return pictures, rig


def points_view(key: SensorFrame, earlier: Sequence[SensorFrame] = ()) -> tuple[np.ndarray, np.ndarray]:
    """Points (P, 5) in the ego frame of a LiDAR sweep and their ages (P,) in seconds, newest sweep first.

    Returns from the car itself are left out of earlier sweeps, where its motion would draw them out behind it.
    """
    clouds, ages = [read_points(key, key.ego_from_sensor)], [0.0]
    ego_from_map = se3.inverse(key.map_from_ego)
    for frame in earlier:
        key_from_sensor = ego_from_map @ frame.map_from_ego @ frame.ego_from_sensor
        clouds.append(read_points(frame, key_from_sensor, beyond=OWN_VEHICLE_M))
        ages.append((key.stamp_ns - frame.stamp_ns) * 1e-9)
    return np.concatenate(clouds), np.repeat(np.array(ages, np.float32), [len(cloud) for cloud in clouds])
