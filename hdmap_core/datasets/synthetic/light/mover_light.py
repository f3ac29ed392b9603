"""Light and shadow that moving vehicles lay on the road: neither can be baked into the ground."""

from collections.abc import Iterator
from functools import cache

import cv2
import numpy as np
import shapely

from hdmap_core.datasets.synthetic.curve import directions, left_of
from hdmap_core.datasets.synthetic.ground.relief import Relief
from hdmap_core.datasets.synthetic.ground.view import GroundPlane
from hdmap_core.datasets.synthetic.light.shading import Lighting
from hdmap_core.datasets.synthetic.town import Mover, Town

_ONE = 40
"""Brightness factor 1 in the sprite of a pool."""
_NEAR_M, _FAR_M = 1.0, 24.0
_HALF_WIDTH_M = 5.0
_FARTHEST_M = 80.0
_SHIFT = 4


def over_ground(town_from_camera: np.ndarray, relief: Relief, at: np.ndarray) -> np.ndarray:
    """A camera's pose (4, 4) in a world sheared so that the road around `at` (2,) becomes the plane z = 0."""
    if relief.is_flat:
        return town_from_camera
    return _sheared(town_from_camera, relief.slope(at, 3.0), relief.smooth(at), at)


def _sheared(town_from_camera: np.ndarray, slope: np.ndarray, height: np.ndarray, at: np.ndarray) -> np.ndarray:
    shear = np.eye(4)
    shear[2, :2] = -slope
    shear[2, 3] = slope @ at - height
    return shear @ town_from_camera


def draw_beams(
    image: np.ndarray, intrinsics: np.ndarray, pose: np.ndarray, town: Town, centres: np.ndarray, yaws: np.ndarray
) -> None:
    """Brighten the road ahead of the town's moving vehicles, in place.

    Args:
        image: (H, W, 3) uint8.
        intrinsics: (3, 3) of the camera.
        pose: (4, 4) town from camera.
        town: whose vehicles and ground they are.
        centres: (N, 2) of the vehicles.
        yaws: (N,).
    """
    sprite = _beam()
    per_m = (sprite.shape[1] - 1) / (_FAR_M - _NEAR_M), (sprite.shape[0] - 1) / (2 * _HALF_WIDTH_M)
    reach = np.array([0.5 * mover.size[0] for mover in town.movers]) + _FAR_M + _HALF_WIDTH_M
    for mover, centre, yaw, plane_from_image in _near(intrinsics, pose, town, centres, yaws, reach):
        start = 0.5 * mover.size[0] + _NEAR_M
        ahead = directions(yaw)
        left = left_of(ahead)
        along = np.array([0.0, 0.0, _FAR_M - _NEAR_M, _FAR_M - _NEAR_M]) + start
        across = np.array([1, -1, -1, 1]) * _HALF_WIDTH_M
        part = _part(image, plane_from_image, centre + along[:, None] * ahead + across[:, None] * left)
        if part is None:
            continue
        _, low, high = part
        sprite_from_plane = np.array(
            [
                [*(per_m[0] * ahead), -per_m[0] * (centre @ ahead + start)],
                [*(per_m[1] * left), -per_m[1] * (centre @ left - _HALF_WIDTH_M)],
                [0.0, 0.0, 1.0],
            ]
        )
        shift = np.array([[1.0, 0.0, low[0]], [0.0, 1.0, low[1]], [0.0, 0.0, 1.0]])
        pool = cv2.warpPerspective(
            sprite,
            sprite_from_plane @ plane_from_image @ shift,
            tuple((high - low).tolist()),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=(_ONE,) * 3,
        )
        lit = image[low[1] : high[1], low[0] : high[0]]
        cv2.multiply(lit, pool, dst=lit, scale=1.0 / _ONE)


def draw_shadows(
    image: np.ndarray,
    intrinsics: np.ndarray,
    pose: np.ndarray,
    town: Town,
    centres: np.ndarray,
    yaws: np.ndarray,
    light: Lighting,
) -> None:
    """Darken the ground where the sun's light does not come past vehicles, in place; arguments as `draw_beams`."""
    away = -light.to_sun[:2] / light.to_sun[2]
    if light.shadow_gain > 0.98:
        return
    per_m = float(np.hypot(*away))
    reach = np.array([mover.size[0] + mover.size[1] + mover.size[2] * per_m for mover in town.movers])
    for mover, centre, yaw, plane_from_image in _near(intrinsics, pose, town, centres, yaws, reach):
        ahead = directions(yaw)
        left = left_of(ahead)
        length, width, height = mover.size
        feet = centre + 0.5 * np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) * (length, width) @ np.stack([ahead, left])
        outline = shapely.convex_hull(shapely.multipoints(np.concatenate([feet, feet + 0.85 * height * away])))
        part = _part(image, plane_from_image, shapely.get_coordinates(outline)[:-1])
        if part is None:
            continue
        pixels, low, high = part
        mask = np.full((*(high - low)[::-1],), 255, np.uint8)
        cv2.fillConvexPoly(
            mask,
            np.rint((pixels - low) * (1 << _SHIFT)).astype(np.int32),
            255.0 * light.shadow_gain,
            cv2.LINE_AA,
            _SHIFT,
        )
        mask = cv2.blur(mask, (5, 3))
        shaded = image[low[1] : high[1], low[0] : high[0]]
        cv2.multiply(shaded, cv2.merge((mask, mask, mask)), dst=shaded, scale=1.0 / 255.0)


def _near(
    intrinsics: np.ndarray, pose: np.ndarray, town: Town, centres: np.ndarray, yaws: np.ndarray, reach: np.ndarray
) -> Iterator[tuple[Mover, np.ndarray, float, np.ndarray]]:
    """Vehicles near the camera: each with its place, yaw, and the homography (3, 3) from pixels to its ground.

    Those are left out of whose `reach` (N,) metres around the camera sees nothing, because it is all behind it.
    """
    near = np.flatnonzero(np.hypot(*(centres - pose[:2, 3]).T) < _FARTHEST_M)
    relief, at = town.relief, centres[near]
    slopes, heights = relief.slope(at, 3.0), relief.smooth(at)
    eye, ahead = pose[:3, 3], pose[:3, 2]
    depth = (np.column_stack([at, heights]) - eye) @ ahead
    depth += reach[near] * np.hypot(*(ahead[:2] + ahead[2] * slopes).T)
    height = eye[2] - heights - ((eye[:2] - at) * slopes).sum(axis=1)
    for k in np.flatnonzero((depth > -0.1) | (height < 0.01)):
        i = near[k]
        level = pose if relief.is_flat else _sheared(pose, slopes[k], heights[k], centres[i])
        yield town.movers[i], centres[i], float(yaws[i]), GroundPlane.seen_by(intrinsics, level).town_from_image


def _part(
    image: np.ndarray, plane_from_image: np.ndarray, corners: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Pixels (P, 2) of points of the ground (P, 2), and the part of the image, from `low` to `high`, that they span.

    None where some lie behind the camera, or all beside the picture.
    """
    height, width = image.shape[:2]
    seen = np.column_stack([corners, np.ones(len(corners))]) @ np.linalg.inv(plane_from_image).T
    if (np.abs(seen[:, 2]) < 1e-9).any():
        return None
    seen /= seen[:, 2:]
    # The third row of the homography is how far a ray sinks: not positive above the horizon, and so behind.
    if ((seen @ plane_from_image[2]) < 1e-3).any():
        return None
    pixels = np.clip(seen[:, :2], -20_000.0, 20_000.0)
    low = np.maximum(np.floor(pixels.min(axis=0)).astype(int) - 2, 0)
    high = np.minimum(np.ceil(pixels.max(axis=0)).astype(int) + 3, (width, height))
    return None if (high - low < 3).any() else (pixels, low, high)


@cache
def _beam() -> np.ndarray:
    """(48, 96, 3) uint8 brightness factors; columns along the beam, rows from right to left."""
    v, u = np.mgrid[0:48, 0:96]
    along, across = u / 95.0, (v / 47.0 - 0.5) * 2.0
    light = 2.2 * np.exp(-2.0 * (across / (0.25 + 0.6 * along)) ** 2) * (1.0 - along) ** 1.3
    light *= np.clip(along / 0.08, 0.0, 1.0) * np.clip((1.0 - np.abs(across)) / 0.15, 0.0, 1.0)
    return np.repeat(np.rint(_ONE * (1.0 + light))[..., None], 3, axis=2).astype(np.uint8)
