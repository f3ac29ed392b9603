"""Rigid transforms as 4x4 float64 arrays, named target_from_source; products read a_from_b @ b_from_c.

Quaternions are (w, x, y, z), as in nuScenes; ROS puts w last.
"""

import numpy as np
from numpy.typing import ArrayLike

from hdmap_core.errors import CalibrationError


def se3(rotation: ArrayLike, translation: ArrayLike) -> np.ndarray:
    """The (4, 4) transform with this (3, 3) rotation and (3,) translation in metres."""
    transform = np.eye(4)
    transform[:3, :3] = rotation
    transform[:3, 3] = translation
    return transform


def inverse(transform: np.ndarray) -> np.ndarray:
    """The inverse of rigid transforms (..., 4, 4)."""
    rotation_t = np.swapaxes(transform[..., :3, :3], -1, -2)
    result = np.zeros_like(transform)
    result[..., :3, :3] = rotation_t
    result[..., :3, 3:] = -rotation_t @ transform[..., :3, 3:]
    result[..., 3, 3] = 1.0
    return result


def rotation_from_quaternion(wxyz: ArrayLike) -> np.ndarray:
    """The (3, 3) rotation of a quaternion (w, x, y, z), which need not be of unit length.

    Raises:
        CalibrationError: if the quaternion is zero or not finite.
    """
    quaternion = np.asarray(wxyz, dtype=np.float64)
    norm = np.linalg.norm(quaternion)
    if quaternion.shape != (4,) or not np.isfinite(norm) or norm < 1e-8:
        raise CalibrationError(f"not a rotation quaternion (w, x, y, z): {quaternion.tolist()}")
    w, x, y, z = quaternion / norm
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def quaternion_from_rotation(rotation: np.ndarray) -> np.ndarray:
    """The unit quaternion (w, x, y, z), w >= 0, of a (3, 3) rotation: the eigenvector of Bar-Itzhack's matrix."""
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = np.asarray(rotation, dtype=np.float64)
    lower_triangle = np.array(
        [
            [xx - yy - zz, 0, 0, 0],
            [xy + yx, yy - xx - zz, 0, 0],
            [xz + zx, yz + zy, zz - xx - yy, 0],
            [zy - yz, xz - zx, yx - xy, xx + yy + zz],
        ]
    )
    x, y, z, w = np.linalg.eigh(lower_triangle / 3)[1][:, -1]
    quaternion = np.array([w, x, y, z])
    return quaternion if w >= 0 else -quaternion


def rotation_from_euler(roll: float, pitch: float, yaw: float) -> np.ndarray:
    """The (3, 3) rotation Rz(yaw) @ Ry(pitch) @ Rx(roll), radians, as in REP-103: positive pitch lowers the nose."""
    cr, sr, cp, sp, cy, sy = np.cos(roll), np.sin(roll), np.cos(pitch), np.sin(pitch), np.cos(yaw), np.sin(yaw)
    about_z = np.array([[cy, -sy, 0.0], [sy, cy, 0.0], [0.0, 0.0, 1.0]])
    about_y = np.array([[cp, 0.0, sp], [0.0, 1.0, 0.0], [-sp, 0.0, cp]])
    about_x = np.array([[1.0, 0.0, 0.0], [0.0, cr, -sr], [0.0, sr, cr]])
    return about_z @ about_y @ about_x


def yaw_of(transform: np.ndarray) -> float:
    """The heading of a transform's x axis in the target frame's plane, radians."""
    return float(np.arctan2(transform[1, 0], transform[0, 0]))


def transform_points(target_from_source: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(..., 3) points moved from source to target frame."""
    return points @ target_from_source[:3, :3].T + target_from_source[:3, 3]
