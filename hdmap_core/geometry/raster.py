"""Polylines and polygons drawn into BEV masks."""

from collections.abc import Iterable

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


def fill_polygon(grid: BEVGrid, exterior: np.ndarray, holes: Iterable[np.ndarray] = ()) -> np.ndarray:
    """(Y, X) uint8, 1 inside the polygon (P, 2) in metres and outside its holes."""
    mask = np.zeros(grid.shape, np.uint8)
    cv2.fillPoly(mask, [_fixed_point(grid, ring) for ring in (exterior, *holes)], 1, cv2.LINE_8, _SHIFT)
    return mask


def _fixed_point(grid: BEVGrid, points: np.ndarray) -> np.ndarray:
    return np.round(grid.to_cells(points.astype(np.float64)) * (1 << _SHIFT)).astype(np.int32)
