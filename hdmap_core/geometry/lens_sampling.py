"""Where to read in images that came through a lens: tables for `cv2.remap`, kept per calibration."""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from hdmap_core.geometry.lens import Lens

Matrix = tuple[float, ...]
"""A (3, 3) matrix by rows, as a key of what is kept."""

_NODE = 4, 2  # rows and columns of samples between the places that go through the lens; between them is interpolated
_WIDEST = np.tan(np.deg2rad(60.0))


def matrix_key(matrix: np.ndarray) -> Matrix:
    """A (3, 3) matrix as a key."""
    return tuple(np.asarray(matrix, np.float64).reshape(-1).tolist())


@dataclass(frozen=True)
class Optics:
    """A lens and the camera matrix behind it.

    Attributes:
        lens: of the camera.
        intrinsics: (3, 3) by rows.
    """

    lens: Lens
    intrinsics: Matrix

    @classmethod
    def of(cls, lens: Lens | None, intrinsics: np.ndarray) -> "Optics | None":
        """Of a camera; None for a pinhole."""
        return None if lens is None else cls(lens, matrix_key(intrinsics))

    def pixels(self, place: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Pixels u, v and depth (see `Lens.project`) of (..., 3) places, given as (u z, v z, z) without the lens."""
        matrix = np.reshape(self.intrinsics, (3, 3))
        points, depth = self.lens.project(place @ np.linalg.inv(matrix).T)
        pixels = points @ matrix[:2, :2].T + matrix[:2, 2]
        return pixels[..., 0], pixels[..., 1], depth

    def margin(self, place: np.ndarray) -> np.ndarray:
        """(...) how far `pixels` of places lie inside the rim of what the lens sees, in pixels, about."""
        x, y, z = np.moveaxis(place @ np.linalg.inv(np.reshape(self.intrinsics, (3, 3))).T, -1, 0)
        return self.intrinsics[0] * (self.lens.reach_rad - np.arctan2(np.hypot(x, y), z))

    def ground_samples(self, pixels_from_plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Where samples of a plane lie in the image; kept, for a car that stands.

        Args:
            pixels_from_plane: (3, 3), homogeneous (column, row) of a sample -> (u z, v z, z) without the lens.
            size: (rows, columns) of samples.

        Returns:
            (rows, columns, 2) float32 pixels, exact every 4 rows and 2 columns and interpolated between: on the
            student's grid that is 0.3 m, and z metres before the camera a place is off by at most 0.02 / z metres.
        """
        return _ground_samples(self, matrix_key(pixels_from_plane), size)

    def pinhole(self, image_size: tuple[int, int]) -> Matrix:
        """The (3, 3) intrinsics of a pinhole that sees as far to the sides, but at most 60 degrees.

        The principal point stays, and both focal lengths are scaled alike.

        Args:
            image_size: (H, W), of the lens's images and the pinhole's.
        """
        return _pinhole(self, image_size)

    def undistorted(self, image: np.ndarray, pinhole: Matrix) -> np.ndarray:
        """The (H, W, 3) image that a pinhole would have made; black where the lens sees nothing. Tables are kept."""
        height, width = image.shape[:2]
        return cv2.remap(image, *_undistorting_tables(self, (height, width), pinhole), cv2.INTER_LINEAR)

    def undistorting_samples(self, image_size: tuple[int, int], pinhole: Matrix) -> np.ndarray:
        """(H, W, 2) float32: the pixels u, v where `undistorted` reads, at its 32nds of a pixel."""
        coarse, fine = _undistorting_tables(self, image_size, pinhole)
        return coarse + np.stack([fine & 31, fine >> 5], axis=-1).astype(np.float32) / 32

    def polar_table(self, nodes: int) -> np.ndarray:
        """Pixels of directions, over the plane of (angle from the axis) x (direction around it).

        Args:
            nodes: along each side, from -`reach_rad` to `reach_rad`; outside of the circle stands what is on the rim.

        Returns:
            (nodes, nodes, 2) float32 pixels u, v.
        """
        side = np.linspace(-self.lens.reach_rad, self.lens.reach_rad, nodes)
        polar = np.stack(np.meshgrid(side, side), axis=-1)
        angle = np.hypot(polar[..., 0], polar[..., 1])[..., None]
        directions = np.concatenate([polar * np.sinc(angle / np.pi), np.cos(angle)], axis=-1)
        matrix = np.reshape(self.intrinsics, (3, 3))
        u, v, _ = self.pixels(directions @ matrix.T)
        return np.stack([u, v], axis=-1).clip(-1e5, 1e5).astype(np.float32)


@lru_cache(maxsize=16)
def _ground_samples(optics: Optics, pixels_from_plane: Matrix, size: tuple[int, int]) -> np.ndarray:
    u, v, _ = optics.pixels(sample_nodes(size) @ np.reshape(pixels_from_plane, (3, 3)).T)
    return between_nodes(u, v, size)


def sample_nodes(size: tuple[int, int]) -> np.ndarray:
    """(J, I, 3) homogeneous (column, row, 1) of every 4th row and 2nd column of (rows, columns) samples, and around."""
    counts = [-(-side // node) for side, node in zip(size, _NODE, strict=True)]
    # One node more on each side, so that nothing is extrapolated.
    row, column = (node * np.arange(-1, count + 1) + (node - 1) / 2 for node, count in zip(_NODE, counts, strict=True))
    return np.stack([*np.meshgrid(column, row), np.ones((len(row), len(column)))], axis=-1)


def between_nodes(u: np.ndarray, v: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(rows, columns, 2) float32 pixels of all samples, from those (J, I) of `sample_nodes`."""
    nodes = np.stack([u, v], axis=-1).clip(-1e5, 1e5).astype(np.float32)
    enlarged = _NODE[1] * nodes.shape[1], _NODE[0] * nodes.shape[0]
    table = cv2.resize(nodes, enlarged, interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(table[_NODE[0] : _NODE[0] + size[0], _NODE[1] : _NODE[1] + size[1]])


@lru_cache(maxsize=64)
def _pinhole(optics: Optics, image_size: tuple[int, int]) -> Matrix:
    matrix = np.array(optics.intrinsics).reshape(3, 3)
    sides = np.linspace([0, matrix[1, 2]], [image_size[1] - 1, matrix[1, 2]], 33)
    points = (sides - matrix[:2, 2]) @ np.linalg.inv(matrix[:2, :2]).T
    directions, seen = optics.lens.unproject(points)
    tangents = directions[:, 0] / np.maximum(directions[:, 2], 1e-3)
    tangents = np.where(directions[:, 2] > 0, np.clip(tangents, -_WIDEST, _WIDEST), np.copysign(_WIDEST, points[:, 0]))
    # Of the outermost places that the lens brings light to, how much nearer the pinhole would have them.
    ends = [index for index in (np.argmax(seen), len(seen) - 1 - np.argmax(seen[::-1])) if abs(points[index, 0]) > 1e-3]
    matrix[:2, :2] *= min((abs(points[index, 0] / tangents[index]) for index in ends), default=1.0)
    return matrix_key(matrix)


@lru_cache(maxsize=32)
def _undistorting_tables(optics: Optics, image_size: tuple[int, int], pinhole: Matrix) -> tuple[np.ndarray, np.ndarray]:
    height, width = image_size
    pixels = np.stack([*np.meshgrid(np.arange(width), np.arange(height)), np.ones(image_size)], axis=-1)
    wanted, behind = np.reshape(pinhole, (3, 3)), np.reshape(optics.intrinsics, (3, 3))
    u, v, depth = optics.pixels(pixels @ (behind @ np.linalg.inv(wanted)).T)
    found = np.where((depth > 0)[..., None], np.stack([u, v], axis=-1), -10.0).clip(-10, 32000)
    coarse, fine = cv2.convertMaps(found.astype(np.float32), None, cv2.CV_16SC2)  # type: ignore[call-overload]
    return coarse, fine
