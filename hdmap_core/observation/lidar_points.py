"""LiDAR points of an observation as models take them: position, intensity and age."""

import numpy as np

from hdmap_core.observation import Observation


def lidar_points(observation: Observation) -> np.ndarray:
    """(P, 5) float32: x, y, z in metres (ego frame), intensity 0..255, age in seconds; (0, 5) without LiDAR.

    The five features of HDMapNet's pillars (Li et al., ICRA 2022, published code). The ring is left out: it says
    nothing that the height does not, and other sensors have none.
    """
    if observation.points is None:
        return np.zeros((0, 5), np.float32)
    age = observation.point_age_s
    if age is None:
        age = np.zeros(len(observation.points), np.float32)
    return np.concatenate([observation.points[:, :4], age[:, None]], axis=1, dtype=np.float32)
