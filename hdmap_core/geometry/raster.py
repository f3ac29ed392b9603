"""Polylines and polygons drawn into BEV masks."""

from collections.abc import Iterable, Sequence

import cv2
import numpy as np

from hdmap_core.geometry.bev_grid import BEVGrid

_SHIFT = 6  # OpenCV draws with 1/64 cell accuracy


def draw_lines(grid: BEVGrid, lines: Iterable[np.ndarray], thickness: float, closed: bool = False) -> np.ndarray:
    """(Y, X) uint8, 1 on lines (P, 2) in metres that are `thickness` metres wide (at least one cell).

    Drawn one cell wide and then dilated, because OpenCV's own thick lines are wider than asked.
    """
    mask = np.zeros(grid.shape, np.uint8)
    cv2.polylines(mask, [_fixed_point(grid, line) for line in lines], closed, 1, 1, cv2.LINE_8, _SHIFT)
    width = max(1, round(thickness / grid.resolution))
    return cv2.dilate(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width)))


def fill_polygon(grid: BEVGrid, polygon: np.ndarray) -> np.ndarray:
    """(Y, X) uint8, 1 inside the polygon (P, 2) in metres."""
    mask = np.zeros(grid.shape, np.uint8)
    cv2.fillPoly(mask, [_fixed_point(grid, polygon)], 1, cv2.LINE_8, _SHIFT)
    return mask


def fill_polygons(grid: BEVGrid, polygons: Iterable[Sequence[np.ndarray]]) -> np.ndarray:
    """(Y, X) uint8, 1 where a cell's centre is in any of the polygons.

    Other than `fill_polygon`, which adds the cells of the outline, this neither grows areas nor shrinks holes.

    Args:
        grid: whose cells.
        polygons: each a sequence of rings (P, 2) in metres, the exterior and its holes; a ring may repeat its first
            point. A hole of one polygon does not erase another polygon.
    """
    mask = np.zeros(grid.shape, bool)
    for rings in polygons:
        mask |= _contained_centres(grid, rings)
    return mask.astype(np.uint8)


def _contained_centres(grid: BEVGrid, rings: Sequence[np.ndarray]) -> np.ndarray:
    """(Y, X) bool by the even-odd rule: walking along a row, each edge that is met toggles inside and outside."""
    cells = [grid.to_cells(np.asarray(ring, np.float64)) for ring in rings]
    x0, y0 = np.concatenate(cells).T
    x1, y1 = np.concatenate([np.roll(ring, -1, axis=0) for ring in cells]).T
    rows, columns = grid.shape
    row = np.arange(rows)[:, None]
    row, edge = np.nonzero((y0 <= row) != (y1 <= row))
    met = x0[edge] + (row - y0[edge]) / (y1[edge] - y0[edge]) * (x1[edge] - x0[edge])
    first = np.clip(np.ceil(met), 0, columns).astype(np.int64)
    toggles = np.zeros((rows, columns + 1), np.int64)
    np.add.at(toggles, (row, first), 1)
    return toggles[:, :-1].cumsum(axis=1) % 2 == 1


def _fixed_point(grid: BEVGrid, points: np.ndarray) -> np.ndarray:
    return np.round(grid.to_cells(points.astype(np.float64)) * (1 << _SHIFT)).astype(np.int32)
