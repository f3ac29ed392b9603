"""Pieces that meshes are put together from: rectangles, discs, blocks and insets, in an object's frame (`faces`)."""

import math

import numpy as np

from hdmap_core.datasets.synthetic.things.faces import Face, Vector
from hdmap_core.datasets.synthetic.town import RGB

GLASS: RGB = (0.035, 0.045, 0.055)
PALE: RGB = (0.75, 0.75, 0.72)
SKIN: RGB = (0.45, 0.29, 0.20)


def tinted(colour: RGB, gain: float) -> RGB:
    """A colour, brighter or darker."""
    return tuple(min(c * gain, 1.0) for c in colour)  # type: ignore[return-value]


def quad(*corners: Vector) -> np.ndarray:
    """Corners as an array (P, 3)."""
    return np.array(corners, dtype=np.float64)


def level_ring(length: float, width: float, z: float, shift: float = 0.0) -> np.ndarray:
    """A level rectangle at height z, its middle `shift` metres ahead: (4, 3), counter-clockwise."""
    x, y = 0.5 * length, 0.5 * width
    return quad((shift - x, -y, z), (shift + x, -y, z), (shift + x, y, z), (shift - x, y, z))


def upright(x0: float, x1: float, z0: float, z1: float) -> np.ndarray:
    """A rectangle along the object, in its x-z plane."""
    return quad((x0, 0, z0), (x1, 0, z0), (x1, 0, z1), (x0, 0, z1))


def board(y0: float, y1: float, z0: float, z1: float, x: float = 0.0) -> np.ndarray:
    """A rectangle across the object, in a y-z plane."""
    return quad((x, y0, z0), (x, y1, z0), (x, y1, z1), (x, y0, z1))


def disc(y: float, z: float, radius: float) -> np.ndarray:
    """A disc of ten corners in the y-z plane, (10, 3)."""
    return oval(y, z, radius, radius)


def oval(y: float, z: float, half_width: np.ndarray | float, half_height: np.ndarray | float) -> np.ndarray:
    """An oval of ten corners in the y-z plane, (10, 3); its halves may differ from corner to corner (10,)."""
    angles = np.linspace(0.0, 2.0 * math.pi, 10, endpoint=False)
    return np.stack([np.zeros(10), y + half_width * np.cos(angles), z + half_height * np.sin(angles)], axis=1)


def flat_part(y0: float, z0: float, y1: float, z1: float, half0: float, half1: float, tint: RGB, rank: int) -> Face:
    """A trapezoid in the y-z plane, from (y0, z0) to (y1, z1), half as wide as said at either end."""
    corners = quad((0, y0 - half0, z0), (0, y0 + half0, z0), (0, y1 + half1, z1), (0, y1 - half1, z1))
    return Face(corners, (-1.0, 0.0, 0.0), tint, rank)


def inset(face: Face, left: float, right: float, bottom: float, top: float) -> np.ndarray:
    """Part of a quad face (corner order: lower left, lower right, upper right, upper left), in fractions."""
    a, b, c, d = face.corners

    def at(s: float, t: float) -> np.ndarray:
        return (a * (1 - s) + b * s) * (1 - t) + (d * (1 - s) + c * s) * t

    return np.stack([at(left, bottom), at(right, bottom), at(right, top), at(left, top)])


def both_sides(corners: np.ndarray, normal: Vector, colour: RGB, rank: int = 0, is_detail: bool = False) -> list[Face]:
    """A face that is seen from either side."""
    x, y, z = normal
    return [Face(corners, normal, colour, rank, is_detail), Face(corners, (-x, -y, -z), colour, rank, is_detail)]


def block_sides(lower: np.ndarray, upper: np.ndarray, colour: RGB, rank: int, with_top: bool = True) -> list[Face]:
    """Side faces (and the top) between two counter-clockwise quads (4, 3)."""
    faces = []
    for i in range(4):
        j = (i + 1) % 4
        corners = np.stack([lower[i], lower[j], upper[j], upper[i]])
        normal = np.cross(lower[j] - lower[i], upper[i] - lower[i])
        faces.append(Face(corners, tuple(normal / np.linalg.norm(normal)), colour, rank))
    if with_top:
        faces.append(Face(upper, (0.0, 0.0, 1.0), colour, rank + 1))
    return faces
