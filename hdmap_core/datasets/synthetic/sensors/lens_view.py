"""Pictures through a lens, made of a pinhole's picture that shows at least as much.

The lens is OpenCV's (`geometry.lens`). What is drawn is a pinhole's; each pixel behind the lens is then read where its
ray comes in the pinhole's picture.
"""

import cv2
import numpy as np

from hdmap_core.errors import CalibrationError
from hdmap_core.geometry.lens import Lens

_MOST_PIXELS = 1.8
"""A pinhole's picture has at most so many times the pixels of the lens's; wider ones are drawn coarser."""
_WIDEST = np.tan(np.deg2rad(75.0))
_MARGIN_PX = 2.0
_NODE = 4


def pinhole_around(
    lens: Lens, intrinsics: np.ndarray, image_size: tuple[int, int]
) -> tuple[np.ndarray, tuple[int, int]]:
    """The pinhole, looking the same way, whose picture holds all that the lens shows.

    Args:
        lens: of the camera.
        intrinsics: (3, 3), behind the lens.
        image_size: (H, W) of the lens's picture.

    Returns:
        Its (3, 3) intrinsics and its (H, W).

    Raises:
        CalibrationError: if the lens brings nothing to some pixels, or looks farther aside than 75 degrees there.
    """
    height, width = image_size
    across, down = np.linspace(-0.5, width - 0.5, 65), np.linspace(-0.5, height - 0.5, 65)
    edges = [np.stack(np.broadcast_arrays(across, row), axis=-1) for row in (down[0], down[-1])]
    edges += [np.stack(np.broadcast_arrays(column, down), axis=-1) for column in (across[0], across[-1])]
    tangents, seen = _tangents(lens, intrinsics, np.concatenate(edges))
    if not seen.all() or np.abs(tangents).max() > _WIDEST:
        raise CalibrationError(
            f"a picture of {width} x {height} through this lens ({lens.model}) shows places beyond its reach or more "
            "than 75 degrees aside; a longer focal length is needed"
        )
    low, high = tangents.min(axis=0), tangents.max(axis=0)
    extent = high - low
    focal = min(float(intrinsics[0, 0]), float(np.sqrt(_MOST_PIXELS * height * width / extent.prod())))
    size = np.ceil(extent * focal + 2 * _MARGIN_PX).astype(int)
    centre = -low * focal - 0.5 + _MARGIN_PX
    matrix = np.array([[focal, 0.0, centre[0]], [0.0, focal, centre[1]], [0.0, 0.0, 1.0]])
    return matrix, (int(size[1]), int(size[0]))


def places_in_pinhole(
    lens: Lens, intrinsics: np.ndarray, image_size: tuple[int, int], pinhole: np.ndarray
) -> np.ndarray:
    """Where each pixel behind the lens is read in the pinhole's picture.

    Args:
        lens: see `pinhole_around`, as the next two.
        intrinsics: (3, 3).
        image_size: (H, W).
        pinhole: its (3, 3) intrinsics.

    Returns:
        (H, W, 2) float32 u, v; exact every 4 pixels and interpolated between.
    """
    height, width = image_size
    rows, columns = (_NODE * np.arange(-1, -(-side // _NODE) + 1) + (_NODE - 1) / 2 for side in image_size)
    tangents, _ = _tangents(lens, intrinsics, np.stack(np.meshgrid(columns, rows), axis=-1))
    nodes = (tangents * pinhole[[0, 1], [0, 1]] + pinhole[:2, 2]).clip(-1e5, 1e5).astype(np.float32)
    table = cv2.resize(nodes, (_NODE * len(columns), _NODE * len(rows)), interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(table[_NODE : _NODE + height, _NODE : _NODE + width])


def _tangents(lens: Lens, intrinsics: np.ndarray, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(..., 2) x / z and y / z of the rays of (..., 2) pixels; (...) whether there are such rays, before the camera."""
    directions, seen = lens.unproject((pixels - intrinsics[:2, 2]) / intrinsics[[0, 1], [0, 1]])
    ahead = directions[..., 2]
    return directions[..., :2] / np.maximum(ahead, 1e-3)[..., None], seen & (ahead > 1e-3)
