"""The cameras' pixels resampled on the ground plane z = 0 of the ego frame (inverse perspective mapping).

The plane maps to each image by a homography, so one `warpPerspective` per camera does the work and a rig that changes
with every frame (ego motion between the exposures) costs nothing extra. Behind a lens the ground's places are looked up
in the image as it came (`lens_sampling`): no undistorted image is ever made. Where cameras overlap, each counts with a
weight that falls to zero at its image border; a missing camera leaves its part to the others or unseen.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import cv2
import numpy as np

from hdmap_core.errors import ImageError
from hdmap_core.geometry.bev_grid import BEVGrid
from hdmap_core.geometry.camera_rig import CameraRig
from hdmap_core.geometry.lens_sampling import Optics

COARSE = 4  # weights are computed on cells this much larger than the output's, then interpolated
FEATHER = 0.06  # of the image's width: where a camera's weight begins to fall
MIN_DEPTH = 1.0  # metres; nearer ground is hidden by the car itself


@dataclass(frozen=True)
class _Part:
    """What one camera sees of the grid: colours (h, w, 3) uint8 and weight (h, w) float32 in a window of it."""

    rows: slice
    columns: slice
    colour: np.ndarray
    weight: np.ndarray


def ground_view(
    images: Sequence[np.ndarray | None], rig: CameraRig, grid: BEVGrid, pool: Executor | None = None
) -> np.ndarray:
    """Resamples the images of one observation.

    Args:
        images: per camera of the rig (H, W, 3) uint8 RGB of the size that the rig says, or None.
        rig: unbatched calibration.
        grid: the region; the result has its cells.
        pool: threads to which the cameras are given out; the result is the same.

    Returns:
        (Y, X, 4) uint8: R, G, B, and 255 where some camera sees the cell, else 0.

    Raises:
        ImageError: naming a camera whose image has not the size that its calibration is for.
    """
    plane = rig.projection().double().numpy()[:, :, [0, 1, 3]]  # homogeneous (x, y, 1) on z = 0 -> pixels
    optics = map(Optics.of, rig.lens_of_each, rig.intrinsics.double().numpy())
    seen: list[tuple[np.ndarray, np.ndarray, Optics | None]] = []
    for name, image, size, *camera in zip(rig.names, images, rig.image_sizes, plane, optics, strict=True):
        if image is not None:
            check_image(name, image, size)
            seen.append((image, *camera))

    def part(camera: tuple[np.ndarray, np.ndarray, Optics | None]) -> _Part | None:
        image, pixels_from_plane, optics = camera
        return _part(image, pixels_from_plane, grid, optics)

    return _blended(pool.map(part, seen) if pool else map(part, seen), grid)


def _part(image: np.ndarray, pixels_from_plane: np.ndarray, grid: BEVGrid, optics: Optics | None) -> _Part | None:
    """None when the camera sees nothing of the grid."""
    height, width = image.shape[:2]
    weight, rows, columns = _camera_weight(pixels_from_plane, (height, width), grid, optics)
    if weight is None:
        return None
    return _Part(rows, columns, _warp(image, pixels_from_plane, grid, rows, columns, optics), weight)


def _blended(parts: Iterable[_Part | None], grid: BEVGrid) -> np.ndarray:
    """(Y, X, 4) uint8: the weighted mean of the parts. OpenCV multiplies as NumPy does, but not a channel at a time."""
    total = np.zeros((*grid.shape, 3), np.float32)
    weight_sum = np.zeros(grid.shape, np.float32)
    for part in parts:
        if part is not None:
            window = part.rows, part.columns
            total[window] += cv2.multiply(part.colour, _thrice(part.weight), dtype=cv2.CV_32F)
            weight_sum[window] += part.weight
    rgb = cv2.divide(total, _thrice(np.maximum(weight_sum, 1e-3)))
    seen = (weight_sum > 1e-3).astype(np.uint8) * np.uint8(255)
    return np.dstack([(rgb + 0.5).astype(np.uint8), seen])


def _thrice(weight: np.ndarray) -> np.ndarray:
    return cv2.merge([weight, weight, weight])


def check_image(name: str, image: np.ndarray, image_size: tuple[int, int]) -> None:
    """Raises ImageError unless the image is (H, W, 3) uint8 of the size (H, W) that its calibration is for."""
    if not isinstance(image, np.ndarray):
        raise ImageError(f"camera {name}: the image is a {type(image).__name__}; give a numpy array, uint8 RGB")
    if image.shape != (*image_size, 3) or image.dtype != np.uint8:
        raise ImageError(
            f"camera {name}: the image is {image.dtype} of shape {image.shape}, its calibration is for "
            f"uint8 of {(*image_size, 3)}"
        )


def plane_from_cells(grid: BEVGrid, size: float, row: int = 0, column: int = 0) -> np.ndarray:
    """(3, 3) homogeneous (column, row) of cells of another size -> homogeneous metres (x, y) of their centres.

    Args:
        grid: whose region they cut.
        size: of these cells, in the grid's own.
        row: of the grid's, at which they begin.
        column: as well.
    """
    step = grid.resolution * size
    x, y = grid.x_range[0] + column * grid.resolution, grid.y_range[0] + row * grid.resolution
    return np.array([[step, 0, x + step / 2], [0, step, y + step / 2], [0, 0, 1]])


def _warp(
    image: np.ndarray,
    pixels_from_plane: np.ndarray,
    grid: BEVGrid,
    rows: slice,
    columns: slice,
    optics: Optics | None = None,
) -> np.ndarray:
    """The window of the grid seen by one camera, averaged over 2x2 places per cell against aliasing."""
    size = columns.stop - columns.start, rows.stop - rows.start
    double = (size[0] * 2, size[1] * 2)
    pixels_from_fine = pixels_from_plane @ plane_from_cells(grid, 0.5, rows.start, columns.start)
    if optics is None:
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        fine = cv2.warpPerspective(image, pixels_from_fine, double, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    else:
        table = optics.ground_samples(pixels_from_fine, double[::-1])
        mode = cv2.BORDER_REPLICATE
        fine = cv2.remap(image, table, None, cv2.INTER_LINEAR, borderMode=mode)  # type: ignore[call-overload]
    return cv2.resize(fine, size, interpolation=cv2.INTER_AREA)


def _camera_weight(
    pixels_from_plane: np.ndarray, image_size: tuple[int, int], grid: BEVGrid, optics: Optics | None = None
) -> tuple[np.ndarray | None, slice, slice]:
    """Weight of one camera in the window (rows, columns) that it sees; None when it sees nothing of the grid."""
    height, width = image_size
    shape = -(-grid.shape[0] // COARSE), -(-grid.shape[1] // COARSE)
    step = grid.resolution * COARSE
    x = grid.x_range[0] + (np.arange(shape[1]) + 0.5) * step
    y = grid.y_range[0] + (np.arange(shape[0]) + 0.5) * step
    place = np.stack([*np.meshgrid(x, y), np.ones(shape)], axis=-1) @ pixels_from_plane.T
    if optics is None:
        depth = np.maximum(place[..., 2], 1e-6)
        u, v = place[..., 0] / depth, place[..., 1] / depth
    else:
        u, v, depth = optics.pixels(place)
    margin = np.minimum.reduce([u, width - 1 - u, v, height - 1 - v])
    if optics is not None:
        margin = np.minimum(margin, optics.margin(place))
    weight = np.clip(margin / (FEATHER * width), 0.0, 1.0) * (depth > MIN_DEPTH)
    occupied = np.argwhere(weight > 0)
    if not len(occupied):
        return None, slice(0), slice(0)
    low = np.maximum(occupied.min(axis=0) - 1, 0)
    high = np.minimum(occupied.max(axis=0) + 2, shape)
    window = weight[low[0] : high[0], low[1] : high[1]].astype(np.float32)
    rows = slice(int(low[0]) * COARSE, min(int(high[0]) * COARSE, grid.shape[0]))
    columns = slice(int(low[1]) * COARSE, min(int(high[1]) * COARSE, grid.shape[1]))
    fine = cv2.resize(window, (window.shape[1] * COARSE, window.shape[0] * COARSE), interpolation=cv2.INTER_LINEAR)
    return fine[: rows.stop - rows.start, : columns.stop - columns.start], rows, columns
