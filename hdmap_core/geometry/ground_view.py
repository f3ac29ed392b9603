"""The cameras' pixels resampled on the ground, z = 0 of the ego frame or a relief (inverse perspective mapping).

The plane maps to each image by a homography, so one `warpPerspective` per camera does the work and a rig that changes
with every frame (ego motion between the exposures) costs nothing extra. Behind a lens, and on a relief, the ground's
places are looked up in the image as it came (`lens_sampling`): no undistorted image is ever made. Where cameras
overlap, each counts with a weight that falls to zero at its image border; a missing camera leaves its part to the
others or unseen.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from hdmap_core.errors import ImageError
from hdmap_core.geometry.bev_grid import BEVGrid
from hdmap_core.geometry.camera_rig import CameraRig
from hdmap_core.geometry.ground_relief import GroundRelief
from hdmap_core.geometry.lens_sampling import Optics, between_nodes, sample_nodes

COARSE = 4  # weights are computed on cells this much larger than the output's, then interpolated
FEATHER = 0.06  # of the image's width: where a camera's weight begins to fall
LEAST_WEIGHT = 1e-3  # of all cameras together: less is unseen
MIN_DEPTH = 1.0  # metres; nearer ground is hidden by the car itself


@dataclass(frozen=True)
class _Part:
    """What one camera sees of the grid: colours (h, w, 3) uint8 and weight (h, w) float32 in a window of it."""

    rows: slice
    columns: slice
    colour: np.ndarray
    weight: np.ndarray


@dataclass(frozen=True)
class _Rise:
    """A relief as one camera sees it; `pixels` (3,): what a metre of height adds to (u z, v z, z)."""

    relief: GroundRelief
    pixels: np.ndarray

    def at(self, metres: np.ndarray) -> np.ndarray:
        """(..., 3) what the ground's height adds at places (..., 2 or more) x, y in metres."""
        return self.relief.at(metres[..., 0], metres[..., 1])[..., None] * self.pixels


def ground_view(
    images: Sequence[np.ndarray | None],
    rig: CameraRig,
    grid: BEVGrid,
    pool: Executor | None = None,
    relief: GroundRelief | None = None,
) -> np.ndarray:
    """Resamples the images of one observation.

    Args:
        images: per camera of the rig (H, W, 3) uint8 RGB of the size that the rig says, or None.
        rig: unbatched calibration.
        grid: the region; the result has its cells.
        pool: threads to which the cameras are given out; the result is the same.
        relief: the ground's heights over z = 0; None: it is flat.

    Returns:
        (Y, X, 4) uint8: R, G, B, and 255 where some camera sees the cell, else 0.

    Raises:
        ImageError: naming a camera whose image has not the size that its calibration is for.
    """
    projection = rig.projection().double().numpy()
    plane, heights = projection[:, :, [0, 1, 3]], projection[:, :, 2]  # homogeneous (x, y, 1) on z = 0 -> pixels
    rises = [None if relief is None else _Rise(relief, each) for each in heights]
    optics = map(Optics.of, rig.lens_of_each, rig.intrinsics.double().numpy())
    seen: list[tuple[np.ndarray, np.ndarray, Optics | None, _Rise | None]] = []
    for name, image, size, *camera in zip(rig.names, images, rig.image_sizes, plane, optics, rises, strict=True):
        if image is not None:
            check_image(name, image, size)
            seen.append((image, *camera))

    def part(camera: tuple[np.ndarray, np.ndarray, Optics | None, _Rise | None]) -> _Part | None:
        image, pixels_from_plane, optics, rise = camera
        return _part(image, pixels_from_plane, grid, optics, rise)

    return _blended(pool.map(part, seen) if pool else map(part, seen), grid)


def _part(
    image: np.ndarray, pixels_from_plane: np.ndarray, grid: BEVGrid, optics: Optics | None, rise: _Rise | None
) -> _Part | None:
    """None when the camera sees nothing of the grid."""
    height, width = image.shape[:2]
    weight, rows, columns = _camera_weight(pixels_from_plane, (height, width), grid, optics, rise)
    if weight is None:
        return None
    return _Part(rows, columns, _warp(image, pixels_from_plane, grid, rows, columns, optics, rise), weight)


def _blended(parts: Iterable[_Part | None], grid: BEVGrid) -> np.ndarray:
    """(Y, X, 4) uint8: the weighted mean of the parts, one after the other; in memory a channel at a time."""
    colour = np.zeros((*grid.shape, 3), np.uint8)
    weight = np.zeros(grid.shape, np.float32)
    for part in parts:
        if part is not None:
            window = part.rows, part.columns
            colour[window] = cv2.blendLinear(colour[window], part.colour, weight[window], part.weight)
            weight[window] += part.weight
    seen = (weight > LEAST_WEIGHT) * np.uint8(255)
    return np.stack([*cv2.split(colour), seen]).transpose(1, 2, 0)


def check_image(name: str, image: np.ndarray, image_size: tuple[int, int]) -> None:
    """Raises ImageError unless the image is (H, W, 3) uint8 of the size (H, W) that its calibration is for."""
    if not isinstance(image, np.ndarray):
        raise ImageError(f"camera {name}: the image is a {type(image).__name__}; give a numpy array, uint8 RGB")
    if image.shape != (*image_size, 3) or image.dtype != np.uint8:
        raise ImageError(
            f"camera {name}: the image is {image.dtype} of shape {image.shape}, its calibration is for "
            f"uint8 of {(*image_size, 3)}"
        )


def plane_from_cells(grid: BEVGrid, size: tuple[float, float], row: int = 0, column: int = 0) -> np.ndarray:
    """(3, 3) homogeneous (column, row) of cells of another size -> homogeneous metres (x, y) of their centres.

    Args:
        grid: whose region they cut.
        size: of these cells along x and y, in the grid's own.
        row: of the grid's, at which they begin.
        column: as well.
    """
    x_step, y_step = (grid.resolution * side for side in size)
    x, y = grid.x_range[0] + column * grid.resolution, grid.y_range[0] + row * grid.resolution
    return np.array([[x_step, 0, x + x_step / 2], [0, y_step, y + y_step / 2], [0, 0, 1]])


def _warp(
    image: np.ndarray,
    pixels_from_plane: np.ndarray,
    grid: BEVGrid,
    rows: slice,
    columns: slice,
    optics: Optics | None = None,
    rise: _Rise | None = None,
) -> np.ndarray:
    """The window of the grid seen by one camera, at one place of each cell: more tell no more (decision 46)."""
    size = columns.stop - columns.start, rows.stop - rows.start
    metres_from_cells = plane_from_cells(grid, (1.0, 1.0), rows.start, columns.start)
    pixels_from_cells = pixels_from_plane @ metres_from_cells
    if rise is not None:
        nodes = sample_nodes(size[::-1])
        u, v, _ = _pixels(nodes @ pixels_from_cells.T + rise.at(nodes @ metres_from_cells.T), optics)
        table = between_nodes(u, v, size[::-1])
    elif optics is not None:
        table = optics.ground_samples(pixels_from_cells, size[::-1])
    else:
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return cv2.warpPerspective(image, pixels_from_cells, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    mode = cv2.BORDER_REPLICATE
    return cv2.remap(image, table, None, cv2.INTER_LINEAR, borderMode=mode)  # type: ignore[call-overload]


def _pixels(place: np.ndarray, optics: Optics | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels u, v and depth of (..., 3) places, given as (u z, v z, z) without the lens."""
    if optics is not None:
        return optics.pixels(place)
    depth = np.maximum(place[..., 2], 1e-6)
    return place[..., 0] / depth, place[..., 1] / depth, depth


def _camera_weight(
    pixels_from_plane: np.ndarray,
    image_size: tuple[int, int],
    grid: BEVGrid,
    optics: Optics | None = None,
    rise: _Rise | None = None,
) -> tuple[np.ndarray | None, slice, slice]:
    """Weight of one camera in the window (rows, columns) that it sees; None when it sees nothing of the grid."""
    height, width = image_size
    shape, places = _coarse_places(grid)
    place = np.moveaxis((pixels_from_plane @ places).reshape(3, *shape), 0, -1)
    if rise is not None:
        place = place + rise.at(places.T).reshape(place.shape)
    u, v, depth = _pixels(place, optics)
    pixels = np.stack([u, v])
    middle = np.array([width - 1, height - 1]).reshape(2, 1, 1) / 2
    margin = (middle - np.abs(pixels - middle)).min(axis=0)
    if optics is not None:
        margin = np.minimum(margin, optics.margin(place))
    weight = np.minimum(margin / (FEATHER * width), 1.0) * (depth > MIN_DEPTH)
    occupied = weight > 0
    if not occupied.any():
        return None, slice(0), slice(0)
    (top, bottom), (left, right) = (_span(occupied.any(axis=axis)) for axis in (1, 0))
    window = np.maximum(weight[top:bottom, left:right], 0.0).astype(np.float32)
    rows = slice(top * COARSE, min(bottom * COARSE, grid.shape[0]))
    columns = slice(left * COARSE, min(right * COARSE, grid.shape[1]))
    fine = cv2.resize(window, (window.shape[1] * COARSE, window.shape[0] * COARSE), interpolation=cv2.INTER_LINEAR)
    return fine[: rows.stop - rows.start, : columns.stop - columns.start], rows, columns


@lru_cache(maxsize=8)
def _coarse_places(grid: BEVGrid) -> tuple[tuple[int, int], np.ndarray]:
    """(Y, X) coarse cells, and the homogeneous places (3, Y X) of their centres on the plane."""
    shape = -(-grid.shape[0] // COARSE), -(-grid.shape[1] // COARSE)
    step = grid.resolution * COARSE
    x = grid.x_range[0] + (np.arange(shape[1]) + 0.5) * step
    y = grid.y_range[0] + (np.arange(shape[0]) + 0.5) * step
    x, y = np.meshgrid(x, y)
    return shape, np.stack([x.ravel(), y.ravel(), np.ones(x.size)])


def _span(occupied: np.ndarray) -> tuple[int, int]:
    """From the first one that is set to the last one, and one more on either side where there is one."""
    found = np.flatnonzero(occupied)
    return max(int(found[0]) - 1, 0), min(int(found[-1]) + 2, len(occupied))
