"""The ground and the sky as one pinhole camera sees them.

A plane seen by a pinhole is a homography, so the ground is `cv2.warpPerspective` of the baked texture. Far away one
pixel covers a patch much longer than wide. The image is therefore cut into bands of similar distance below the
horizon; each band is warped from the mip level that fits the patch's width, with several sub-rows per pixel row that
are averaged. Bands are cut per column tile, because the horizon is tilted where the camera rolls.

Pixel convention everywhere: (u, v) = (column, row) with pixel centres at integers, u = fx * x / z + cx.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np

from hdmap_core.datasets.synthetic.ground.picture import GroundTexture

FAR_M = 500.0
"""Ground beyond is left to the sky panorama, whose lowest rows have the land's colour."""
MAX_SUBROWS = 8
_WARP = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
_STEEP = 0.25


@dataclass(frozen=True)
class GroundPlane:
    """Geometry between one camera's pixels and the plane z = 0."""

    town_from_image: np.ndarray
    """(3, 3) homography from (u, v, 1) to homogeneous town coordinates; valid where `drop` > 0."""
    drop: np.ndarray
    """(3,): drop @ (u, v, 1) = how far the pixel's ray sinks per metre of optical depth; ≤ 0 at and above the
    horizon. Ground is `height / drop` metres of depth away."""
    height: float
    focal: float

    @staticmethod
    def seen_by(intrinsics: np.ndarray, town_from_camera: np.ndarray) -> "GroundPlane":
        """For intrinsics (3, 3) and the pose (4, 4) of the optical frame."""
        rays = town_from_camera[:3, :3] @ np.linalg.inv(intrinsics)
        height = float(town_from_camera[2, 3])
        drop = -rays[2]
        # A point on the ground is centre + rays @ (u, v, 1) * height / drop; multiply through by drop.
        homography = np.stack(
            [
                rays[0] * height + town_from_camera[0, 3] * drop,
                rays[1] * height + town_from_camera[1, 3] * drop,
                drop,
            ]
        )
        return GroundPlane(homography, drop, height, float(intrinsics[1, 1]))


def draw_ground(image: np.ndarray, ground: GroundTexture, plane: GroundPlane) -> None:
    """Draw the ground in place, (H, W, 3) uint8, up to `FAR_M`; pixels above stay as they are."""
    height, width = image.shape[:2]
    if plane.height <= 0.05:
        return
    slope = plane.drop[0] / plane.drop[1] if plane.drop[1] > 1e-9 else math.inf
    if abs(slope) > _STEEP:
        _draw_tilted(image, ground, plane)
        return
    num_tiles = int(np.clip(math.ceil(abs(slope) * width / 4.0), 1, width // 32 + 1))
    edges = np.linspace(0, width, num_tiles + 1).astype(int)
    nearest_drop = plane.height / FAR_M
    for left, right in pairwise(edges.tolist()):
        a, b, c = plane.drop
        base = min(a * left, a * (right - 1)) + c
        top = max(math.ceil((nearest_drop - base) / b), 0)
        middle = a * 0.5 * (left + right) + c
        while top < height:
            drop = middle + b * top
            # Within a band the depth changes by a factor of at most 1.8 (or as many rows as that takes).
            bottom = min(max(math.ceil((1.8 * drop - middle) / b), top + 4), height)
            _draw_band(image[top:bottom, left:right], left, top, ground, plane, 1.3 * drop)
            top = bottom


def _draw_band(target: np.ndarray, left: int, top: int, ground: GroundTexture, plane: GroundPlane, drop: float) -> None:
    rows, columns = target.shape[:2]
    depth = plane.height / drop
    across = depth / plane.focal
    along = depth * across / plane.height
    subrows = 1
    while subrows < MAX_SUBROWS and along / subrows > 1.2 * max(across, ground.texel_m):
        subrows *= 2
    # Sampling at most 1.4 texels apart keeps bilinear lookups from skipping texels.
    footprint = max(across, along / subrows) / 1.4
    level = int(np.clip(math.ceil(math.log2(max(footprint / ground.texel_m, 1.0)) - 0.2), 0, len(ground.levels) - 1))
    subpixel = np.array([[1.0, 0.0, left], [0.0, 1.0 / subrows, top + 0.5 / subrows - 0.5], [0.0, 0.0, 1.0]])
    texel_from_pixel = ground.level_from_town(level) @ plane.town_from_image @ subpixel
    patch = cv2.warpPerspective(
        ground.levels[level],
        texel_from_pixel,
        (columns, rows * subrows),
        dst=target if subrows == 1 else None,
        flags=_WARP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=ground.border,
    )
    if subrows > 1:
        cv2.resize(patch, (columns, rows), dst=target, interpolation=cv2.INTER_AREA)


def _draw_tilted(image: np.ndarray, ground: GroundTexture, plane: GroundPlane) -> None:
    """Any attitude, even upside down or straight down: one level per distance band, chosen by a mask. Slow."""
    height, width = image.shape[:2]
    v, u = np.mgrid[0:height, 0:width]
    drop = plane.drop[0] * u + plane.drop[1] * v + plane.drop[2]
    lowest = plane.height / FAR_M
    for level, texels in enumerate(ground.levels):
        # Geometric mean of the two sides of a pixel's footprint against the texel size.
        mean_side = plane.height / np.maximum(drop, lowest) ** 1.5 / plane.focal
        wanted = np.clip(np.rint(np.log2(mean_side / ground.texel_m)), 0, len(ground.levels) - 1)
        mask = (drop > lowest) & (wanted == level)
        if mask.any():
            warp = ground.level_from_town(level) @ plane.town_from_image
            view = cv2.warpPerspective(texels, warp, (width, height), flags=_WARP, borderValue=ground.border)
            image[mask] = view[mask]


def add_haze(image: np.ndarray, plane: GroundPlane, haze_per_m: float, haze: np.ndarray) -> None:
    """Fade the ground in place towards the haze colour (3,) uint8 by exp(-depth * haze_per_m)."""
    if haze_per_m <= 0.0 or plane.height <= 0.05 or plane.drop[1] <= 1e-9:
        return
    height, width = image.shape[:2]
    a, b, c = plane.drop
    visible_drop = haze_per_m * plane.height / 0.015
    low, high = min(0.0, a * (width - 1)), max(0.0, a * (width - 1))
    top = int(np.clip(math.ceil((plane.height / FAR_M - c - high) / b), 0, height))
    bottom = int(np.clip(math.ceil((visible_drop - c - low) / b), 0, height))
    if bottom <= top:
        return
    table_scale = 2047.0 / visible_drop
    drops = np.maximum(np.arange(2048) / table_scale, plane.height / FAR_M)
    left_over = np.rint(255.0 * np.exp(-haze_per_m * plane.height / drops)).astype(np.uint8)
    left_over[-1] = 255
    rows = (b * np.arange(top, bottom) + c) * table_scale
    columns = a * np.arange(width) * table_scale
    index = np.add.outer(rows.astype(np.float32), columns.astype(np.float32))
    weight = np.take(left_over, np.clip(index, 0, 2047, out=index).astype(np.int16))
    # Above the far limit the sky panorama is already as hazy as it should be.
    weight[index <= plane.height / FAR_M * table_scale] = 255
    blend_haze(image[top:bottom], weight, haze)


def blend_haze(part: np.ndarray, weight: np.ndarray, haze: np.ndarray) -> None:
    """Leaves `weight` (H, W) uint8 of a picture (H, W, 3) uint8 in place, and lays the haze colour over the rest."""
    weights = cv2.merge((weight, weight, weight))
    table = ((255 - np.arange(256))[:, None, None] * haze.astype(np.float64) / 255.0 + 0.5).astype(np.uint8)
    cv2.multiply(part, weights, dst=part, scale=1.0 / 255.0)
    cv2.add(part, cv2.LUT(weights, table.reshape(256, 1, 3)), dst=part)
