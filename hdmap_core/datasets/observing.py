"""From the files of a keyframe to an `Observation`, the same for every format."""

from collections.abc import Sequence

import numpy as np

from hdmap_core.datasets.protocol import SensorFrame
from hdmap_core.datasets.sensor_files import read_image, read_points, reduction_of
from hdmap_core.geometry import CameraRig, se3
from hdmap_core.geometry.map_origin import MapOrigin
from hdmap_core.images.decoding import Enough
from hdmap_core.observation import Observation
from hdmap_core.observation.road_plane import on_the_road

OWN_VEHICLE_M = 2.2  # as in HDMapNet's code


def observe(
    token: str,
    stamp_ns: int,
    map_from_ego: np.ndarray | None,
    cameras: Sequence[SensorFrame],
    *,
    sweeps: Sequence[SensorFrame] = (),
    images: bool = True,
    at_least: Enough | None = None,
    coarse: bool = False,
    sd_lines: tuple[np.ndarray, ...] | None = None,
    map_origin: MapOrigin | None = None,
    recent: tuple[Sequence[np.ndarray], Sequence[int]] | None = None,
    ground: SensorFrame | None = None,
) -> Observation:
    """One keyframe; each camera's pose is carried over by the car's own motion to the keyframe's instant.

    Args:
        token: of the keyframe.
        stamp_ns: its instant.
        map_from_ego: (4, 4) the car's pose then; None where nobody knows it: then nothing is carried over.
        cameras: in the order of the rig.
        sweeps: of the LiDAR, the keyframe's first; empty: no points.
        images: decode the images.
        at_least: what is enough, see `MapDataset.observation`.
        coarse: see `decode_image`.
        sd_lines: of the SD map.
        map_origin: of the map frame.
        recent: poses and stamps of the car up to this keyframe, to turn the observation onto the road; None: leave it
            in the ego frame as it is.
        ground: a sweep that shows the road then, whoever looks at points; None: as `on_the_road` finds it without.

    Raises:
        DatasetError: if a file is missing or does not fit what the data set says of it.
        ImageError: if an image is truncated or damaged.
    """
    sizes = [camera.image_size for camera in cameras]
    reductions = [reduction_of(camera, at_least) for camera in cameras]
    pictures = tuple(
        read_image(camera, reduction, coarse) if images else None
        for camera, reduction in zip(cameras, reductions, strict=True)
    )
    ego_from_map = None if map_from_ego is None else se3.inverse(map_from_ego)
    rig = CameraRig.from_arrays(
        [camera.channel for camera in cameras],
        np.array([camera.intrinsics for camera in cameras]).reshape(-1, 3, 3),
        [_ego_from_sensor(ego_from_map, camera) for camera in cameras],
        sizes,
        [camera.lens for camera in cameras],
        [camera.ego_from_sensor for camera in cameras],
    )
    if max(reductions) > 1:
        rig = rig.resized([(height // n, width // n) for (height, width), n in zip(sizes, reductions, strict=True)])
    points, age_s = _points(sweeps, ego_from_map, stamp_ns) if sweeps else (None, None)
    observation = Observation(
        images=pictures,
        rig=rig,
        stamp_ns=stamp_ns,
        token=token,
        points=points,
        sd_lines=sd_lines,
        map_from_ego=map_from_ego,
        camera_stamps_ns=tuple(camera.stamp_ns for camera in cameras),
        point_age_s=age_s,
        map_origin=map_origin,
    )
    if recent is None:
        return observation
    return on_the_road(observation, *recent, None if ground is None else read_points(ground, ground.ego_from_sensor))


def _ego_from_sensor(ego_from_map: np.ndarray | None, frame: SensorFrame) -> np.ndarray:
    return frame.ego_from_sensor if ego_from_map is None else ego_from_map @ frame.map_from_ego @ frame.ego_from_sensor


def _points(
    sweeps: Sequence[SensorFrame], ego_from_map: np.ndarray | None, stamp_ns: int
) -> tuple[np.ndarray, np.ndarray]:
    """Points (P, 5) and their ages (P,), newest sweep first.

    Returns from the car itself are left out of older sweeps, where its motion would draw them out behind it.
    """
    clouds, ages = [], []
    for number, frame in enumerate(sweeps):
        pose = _ego_from_sensor(ego_from_map, frame) if number else frame.ego_from_sensor
        clouds.append(read_points(frame, pose, beyond=OWN_VEHICLE_M if number else 0.0))
        ages.append((stamp_ns - frame.stamp_ns) * 1e-9 if number else 0.0)
    return np.concatenate(clouds), np.repeat(np.array(ages, np.float32), [len(cloud) for cloud in clouds])
