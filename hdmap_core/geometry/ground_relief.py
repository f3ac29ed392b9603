"""The ground's own surface, as a LiDAR sees it: heights over the road's plane.

Streets bend: within 30 m of a car the best plane misses the ground by some centimetres to decimetres, and at 20 m ten
centimetres of height misplace what a camera 1.5 m above the ground sees by more than a metre. Through the lowest
returns of each square metre goes a smooth surface (with the bending energy of a thin plate), first stiff and generous,
then bending and strict, so that cars, walls and shrubs fall out.

Ours; what it is worth, on a real street too, is measured in docs/results/road_plane.md.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import sparse
from scipy.ndimage import map_coordinates
from scipy.sparse.linalg import spsolve

NODE_M = 3.0
REACH = 36.0, 18.0
"""Along x and y, metres, either way; beyond it the ground goes on as high as at its border."""
_CELL_M = 1.0
_QUANTILE = 0.2
"""Of a cell's heights: which one counts. Below it lie ghosts, above it what stands on the ground."""
_LEAST_POINTS, _ENOUGH_POINTS = 2, 8
_LEAST_CELLS = 100
_OWN_VEHICLE_M = 2.2
_ROUNDS = ((0.6, 100.0), (0.4, 30.0), (0.25, 10.0), (0.15, 3.0), (0.1, 1.0), (0.08, 0.2), (0.08, 0.2))
"""How far from the surface in metres a return counts for half or so, and how stiff the surface is."""
_SHRINK = 1e-3
"""Towards the plane, where nothing is seen."""


@dataclass(frozen=True, eq=False)
class GroundRelief:
    """Heights over z = 0, bilinear between nodes.

    Attributes:
        heights: (J, I) float32 metres at nodes `NODE_M` apart, y from -`REACH` on by rows, x by columns.
    """

    heights: np.ndarray

    def at(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Heights of places of any shape, metres; float32."""
        column, row = (_places(values, reach) for values, reach in zip((x, y), REACH, strict=True))
        return map_coordinates(self.heights, [row, column], order=1, mode="nearest")


def relief_from_points(points: np.ndarray) -> GroundRelief | None:
    """The ground's heights over the plane near the car.

    Args:
        points: (P, 3 or more) x, y, z in metres, in a frame whose z = 0 is the road's plane (`road_from_points`).

    Returns:
        The surface; None if too little ground is seen.
    """
    cells, weight = _lowest(np.asarray(points[:, :3], np.float64))
    if len(cells) < _LEAST_CELLS:
        return None
    shares, seen = _shares(cells), cells[:, 2]
    heights = np.zeros(shares.shape[1])
    for band, stiffness in _ROUNDS:
        strength = weight / (1 + ((seen - shares @ heights) / band) ** 2) ** 2
        weighted = shares.multiply(strength[:, None]).tocsr()
        heights = spsolve((shares.T @ weighted + _smoothness(stiffness)).tocsc(), weighted.T @ seen)
    return GroundRelief(heights.reshape(_nodes(1), _nodes(0)).astype(np.float32))


def _nodes(axis: int) -> int:
    return round(2 * REACH[axis] / NODE_M) + 1


def _places(values: np.ndarray, reach: float) -> np.ndarray:
    """Metres as a number of nodes from the first one on, none beyond the last."""
    return (np.clip(values, -reach, reach) + reach) / NODE_M


def _lowest(xyz: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(C, 3): of each square metre with some returns one of the lowest; and (C,) how much it counts."""
    near = np.all(np.abs(xyz[:, :2]) < REACH, axis=1) & (np.abs(xyz[:, :2]).max(axis=1, initial=0.0) > _OWN_VEHICLE_M)
    xyz = xyz[near]
    column, row = np.floor(xyz[:, :2].T / _CELL_M).astype(int)
    cell = column * 1000 + row
    order = np.lexsort((xyz[:, 2], cell))
    _, first, count = np.unique(cell[order], return_index=True, return_counts=True)
    lowest = xyz[order][first + (_QUANTILE * (count - 1)).astype(int)]
    kept = count >= _LEAST_POINTS
    return lowest[kept], np.sqrt(np.minimum(count[kept], _ENOUGH_POINTS) / _ENOUGH_POINTS)


def _shares(cells: np.ndarray) -> sparse.csr_matrix:
    """(C, J I): how much of each node's height a cell has."""
    places = [_places(cells[:, axis], REACH[axis]) for axis in (0, 1)]
    (column, right), (row, up) = (
        (low := np.minimum(np.floor(place), last - 2).astype(int), place - low)
        for place, last in zip(places, (_nodes(0), _nodes(1)), strict=True)
    )
    corners = [(row + j) * _nodes(0) + column + i for j in (0, 1) for i in (0, 1)]
    parts = [a * b for a in (1 - up, up) for b in (1 - right, right)]
    cell = np.arange(len(cells))
    return sparse.csr_matrix(
        (np.concatenate(parts), (np.tile(cell, 4), np.concatenate(corners))), (len(cells), _nodes(0) * _nodes(1))
    )


@lru_cache(maxsize=8)
def _smoothness(stiffness: float) -> sparse.csr_matrix:
    """(J I, J I) bending energy of the surface, and a little for its height."""

    def differences(axis: int, order: int) -> np.ndarray:
        return np.diff(np.eye(_nodes(axis)), order, axis=0)

    along = sparse.kron(sparse.eye(_nodes(1)), differences(0, 2))
    across = sparse.kron(differences(1, 2), sparse.eye(_nodes(0)))
    twist = sparse.kron(differences(1, 1), differences(0, 1))
    energy = along.T @ along + across.T @ across + 2 * twist.T @ twist
    return sparse.csr_matrix(stiffness * energy + _SHRINK * sparse.eye(energy.shape[0]))
