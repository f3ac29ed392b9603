"""The road's plane under the car, as a turn of the ego frame.

The body pitches and rolls on its springs by some tenths of a degree; half a degree moves what is 20 m ahead by two
metres on the ground. Gravity does not tell the road: where the road is tilted the car is too. So either LiDAR shows the
ground, or the recent poses do: what the body does within seconds is its springs', what lasts is the road's. Where the
poses have heights the slope of the path is taken off first, so that hills count as road.

Ours; what it is worth is measured in docs/results/road_plane.md.
"""

from collections.abc import Sequence

import numpy as np

from hdmap_core.geometry import se3

WINDOW_S = 4.0
PATH_M = 10.0
"""How far back the path is looked at for its slope."""
STEADY_DEGREES = 0.3
"""Where pitch or roll spread more than this within the window, a road that turns is likelier than springs."""
_LEAST_PATH_M = 0.5
_BEND = 0.01
"""Against bends of the path that few points would make up."""
_NEAR = ((-15.0, 30.0), (-8.0, 8.0))
_OWN_VEHICLE_M = 2.2
_LEAST_POINTS = 200
_BANDS_M = (0.4, 0.2, 0.1, 0.06, 0.06, 0.06)
"""How far from the plane a point may lie in successive rounds."""
_STEEPEST = np.tan(np.deg2rad(4.0))


def road_from_poses(poses: Sequence[np.ndarray], stamps_ns: Sequence[int]) -> np.ndarray:
    """The ego frame of the last pose, turned so that z stands on the road.

    Pitch and roll, of the body against the path, less their mean over the last `WINDOW_S`; less of it where they spread
    more than springs let them. With one pose, or poses without pitch and roll, nothing is turned.

    Args:
        poses: (4, 4) each, any fixed frame from ego, z up; in the order of time, at least one.
        stamps_ns: of the poses, nanoseconds.

    Returns:
        (4, 4) float64, road from ego; its yaw and translation are 0.
    """
    since = stamps_ns[-1] - int(WINDOW_S * 1e9)
    track = np.stack([pose for pose, stamp in zip(poses, stamps_ns, strict=True) if stamp >= since])
    # Of the frame's z axis as the body sees it: roll about x, pitch about y.
    up = track[:, 2, :3]
    tilt = np.stack([np.arctan2(up[:, 1], up[:, 2]), np.arcsin(np.clip(-up[:, 0], -1.0, 1.0))], axis=1)
    tilt[:, 1] += _slopes(track[:, :3, 3])
    spread = tilt.std(axis=0) / np.deg2rad(STEADY_DEGREES)
    roll, pitch = (tilt[-1] - tilt.mean(axis=0)) / (1 + spread**4)
    return se3.se3(se3.rotation_from_euler(roll, pitch, 0.0), np.zeros(3))


def road_from_points(points: np.ndarray) -> np.ndarray | None:
    """The ego frame, turned and raised so that its plane z = 0 is the ground that a LiDAR sees near the car.

    Args:
        points: (P, 3 or more) float32 x, y, z in metres, ego frame.

    Returns:
        (4, 4) float64, road from ego, without yaw; None if too little ground is seen.
    """
    xyz = np.asarray(points[:, :3], dtype=np.float64)
    (x0, x1), (y0, y1) = _NEAR
    beyond_car = np.abs(xyz[:, :2]).max(axis=1, initial=0) > _OWN_VEHICLE_M
    near = (xyz[:, 0] > x0) & (xyz[:, 0] < x1) & (xyz[:, 1] > y0) & (xyz[:, 1] < y1) & beyond_car
    xyz = xyz[near]
    plane = np.zeros(3)  # z = a x + b y + c
    for band in _BANDS_M:
        ground = xyz[np.abs(xyz[:, :2] @ plane[:2] + plane[2] - xyz[:, 2]) < band]
        if len(ground) < _LEAST_POINTS:
            return None
        plane = np.linalg.lstsq(np.c_[ground[:, :2], np.ones(len(ground))], ground[:, 2], rcond=None)[0]
    if np.abs(plane[:2]).max() > _STEEPEST:
        return None
    normal = np.array([-plane[0], -plane[1], 1.0]) / np.sqrt(1 + plane[0] ** 2 + plane[1] ** 2)
    turn = se3.rotation_from_euler(np.arctan2(normal[1], normal[2]), np.arcsin(-normal[0]), 0.0)
    return se3.se3(turn, np.array([0.0, 0.0, -plane[2] * normal[2]]))


def _slopes(path: np.ndarray) -> np.ndarray:
    """(K,) climb of a (K, 3) path in radians at each point, of a parabola through what lies behind it.

    Where the car has not moved it is that of the point before.
    """
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(path[:, :2], axis=0), axis=1))])
    x = (along[None] - along[:, None]) / PATH_M
    behind = np.tri(len(path), dtype=bool) & (x >= -1.0)
    powers = behind[..., None] * np.stack([np.ones_like(x), x, x**2], axis=-1)
    normal = np.einsum("kni,knj->kij", powers, powers) + np.diag([1e-9, 1e-9, _BEND])
    heights = path[None, :, 2] - path[:, None, 2]
    slopes = np.arctan(np.linalg.solve(normal, np.einsum("kni,kn->ki", powers, heights)[..., None])[:, 1, 0] / PATH_M)
    moved = -(x * behind).min(axis=1) * PATH_M > _LEAST_PATH_M
    last = np.maximum.accumulate(np.where(moved, np.arange(len(path)), -1))
    first = int(np.argmax(moved))
    return np.where(moved.any(), slopes[np.where(last < 0, first, last)], 0.0)
