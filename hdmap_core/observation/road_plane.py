"""Observations on the road's plane: the same function for data sets, bag replay and the node."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from hdmap_core.geometry import se3
from hdmap_core.geometry.ground_relief import relief_from_points
from hdmap_core.geometry.road_plane import road_from_points, road_from_poses
from hdmap_core.observation import Observation


def on_the_road(
    observation: Observation,
    poses: Sequence[np.ndarray] = (),
    stamps_ns: Sequence[int] = (),
    sweep: np.ndarray | None = None,
) -> Observation:
    """The observation with its ego frame turned onto the road: z = 0 is then the ground, as models take it.

    Cameras and points turn by a few tenths of a degree; `map_from_ego`, of which x, y and yaw count, stays. The road is
    what `sweep` sees of it, with the ground's relief over the plane; else what the newest sweep of the points sees,
    else what the poses tell, else the ego frame's own plane.

    Args:
        observation: of the last pose's instant.
        poses: (4, 4) each, recent poses of the car in a fixed frame, its own at last; empty where they are not known.
        stamps_ns: of the poses.
        sweep: (P, 3 or more) x, y, z in metres, ego frame: of a LiDAR that the model itself need not look at.
    """
    points, age_s = observation.points, observation.point_age_s
    road = relief = None
    if sweep is not None:
        road = road_from_points(sweep)
        if road is not None:
            relief = relief_from_points(se3.transform_points(road, sweep[:, :3].astype(np.float64)))
    if road is None and points is not None:
        road = road_from_points(points if age_s is None else points[age_s == 0.0])
    if road is None and len(poses) > 0:
        road = road_from_poses(poses, stamps_ns)
    if road is None:
        return observation
    import torch

    road_from_ego = torch.from_numpy(road)
    if points is not None:
        points = np.concatenate([se3.transform_points(road, points[:, :3]).astype(np.float32), points[:, 3:]], axis=1)
    rig = observation.rig.changed_poses(lambda poses: road_from_ego @ poses)
    return replace(observation, rig=rig, points=points, relief=relief)
