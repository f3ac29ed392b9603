"""The map of a drive so far, seen from above in the frame that lies still, over the ground that the cameras saw."""

from collections.abc import Sequence

import cv2
import numpy as np

from hdmap_core.elements import MapElement
from hdmap_core.geometry import BEVGrid
from hdmap_core.geometry.se3 import inverse, yaw_of
from hdmap_core.viz.strokes import BACKGROUND, COLOURS, GRID_LINE, PANEL, TEXT, stroke, write
from hdmap_core.viz.top_view import warped

_MARGIN = 30.0  # metres around the car's way
_GROWTH = 30.0  # metres by which the window grows at once where the way was not known before
_LEAST, _MOST = 80.0, 500.0  # metres along the window's longer side; beyond, it goes with the car
_NEAR = 9.0  # metres ahead and behind: ground seen from here is sharper than what was seen before
_DIM = 0.6
_TICKS = (1, 2, 5, 10, 20, 50, 100, 200)  # metres between the lines of its grid
_CAR = np.array([[4.5, 0.0], [-2.5, 2.4], [-1.2, 0.0], [-2.5, -2.4]])
_TRAIL = (250, 90, 90)


class DrivePanel:
    """One panel of a film.

    Args:
        size: (H, W) pixels.
        way: (N, 2) metres in the map's frame, where the car will drive, as far as that is known ahead.
    """

    def __init__(self, size: tuple[int, int], way: np.ndarray | None = None) -> None:
        self.size = size
        self._extent = np.zeros((0, 2)) if way is None else np.stack([way.min(axis=0), way.max(axis=0)])
        self._trail: list[np.ndarray] = []
        self._yaw = 0.0
        self._grid: BEVGrid | None = None
        self._ground = np.zeros((*size, 4), np.uint8)

    @property
    def window(self) -> BEVGrid | None:
        """What is shown, in the map's frame, a pixel to a cell; None before the first frame."""
        return self._grid

    def move(self, map_from_ego: np.ndarray) -> None:
        """The car is here now; the window grows where it must."""
        place = map_from_ego[:2, 3]
        self._trail.append(place.copy())
        self._yaw = yaw_of(map_from_ego)
        if not len(self._extent) or (place < self._extent[0]).any() or (place > self._extent[1]).any():
            reach = np.stack([place - _GROWTH, place + _GROWTH])
            known = np.concatenate([self._extent, reach])
            self._extent = np.stack([known.min(axis=0), known.max(axis=0)])
        window = _window(self._extent, place, self.size)
        if self._grid is not None and window != self._grid:
            self._ground = warped(self._ground, self._grid, np.eye(4), window)
        self._grid = window

    def add_ground(self, view: np.ndarray, grid: BEVGrid, map_from_ego: np.ndarray) -> None:
        """Lays the ground around the car (Y, X, 4) down where none lies yet, or where the car is near.

        Args:
            view: of `GroundMemory`.
            grid: its pixels.
            map_from_ego: (4, 4) the pose of the last `move`.
        """
        assert self._grid is not None
        ego_from_map = inverse(map_from_ego)
        laid = warped(view, grid, ego_from_map, self._grid)
        x = grid.x_range[0] + (np.arange(grid.shape[1]) + 0.5) * grid.resolution
        near = view.copy()
        near[:, np.abs(x) > _NEAR, 3] = 0
        is_near = warped(near, grid, ego_from_map, self._grid)[..., 3] > 0
        wanted = (laid[..., 3] > 0) & (is_near | (self._ground[..., 3] == 0))
        self._ground[wanted] = laid[wanted]

    def draw(self, elements: Sequence[MapElement], caption: str) -> np.ndarray:
        """The panel.

        Args:
            elements: metres, in the map's frame.
            caption: its title.

        Returns:
            (H, W, 3) uint8 RGB.
        """
        assert self._grid is not None
        grid = self._grid
        canvas = np.full((*self.size, 3), PANEL, np.uint8)
        seen = self._ground[..., 3] > 0
        canvas[seen] = (_DIM * self._ground[seen, :3]).astype(np.uint8)
        tick = min(_TICKS, key=lambda metres: abs(metres - grid.size[0] / 5))
        _draw_grid(canvas, grid, tick)
        for element in elements:
            line = grid.to_cells(element.points.astype(np.float64))
            stroke(canvas, line, element.closed, COLOURS[element.label], 2, halo=1)
        stroke(canvas, grid.to_cells(np.array(self._trail)), False, _TRAIL, 2, halo=1)
        self._draw_car(canvas, grid)
        picture = np.ascontiguousarray(canvas[::-1])
        _write(picture, grid, tick, caption)
        return picture

    def _draw_car(self, canvas: np.ndarray, grid: BEVGrid) -> None:
        size = max(1.0, 2.2 * grid.resolution)  # so large that it can be seen
        turn = np.array([[np.cos(self._yaw), np.sin(self._yaw)], [-np.sin(self._yaw), np.cos(self._yaw)]])
        outline = grid.to_cells(size * _CAR @ turn + self._trail[-1])
        cv2.fillPoly(canvas, [np.round(16 * outline).astype(np.int32)], (245, 245, 250), cv2.LINE_AA, 4)


def _draw_grid(canvas: np.ndarray, grid: BEVGrid, tick: float) -> None:
    for axis, (low, high) in enumerate((grid.x_range, grid.y_range)):
        for metres in np.arange(np.ceil(low / tick) * tick, high, tick):
            ends = np.array([[metres, -1e6], [metres, 1e6]])
            stroke(canvas, grid.to_cells(ends if axis == 0 else ends[:, ::-1]), False, GRID_LINE, 1, halo=0)


def _write(picture: np.ndarray, grid: BEVGrid, tick: float, caption: str) -> None:
    height, width = picture.shape[:2]
    write(picture, (12, 10), caption, 20, TEXT, rim=2)
    bar = tick / grid.resolution
    right, bottom = width - 14, height - 14
    cv2.line(picture, (round(right - bar), bottom), (right, bottom), BACKGROUND, 7)
    cv2.line(picture, (round(right - bar), bottom), (right, bottom), TEXT, 3)
    write(picture, (round(right - bar / 2), bottom - 8), f"{tick:g} m", 16, TEXT, "md", rim=1)


def _window(extent: np.ndarray, car: np.ndarray, size: tuple[int, int]) -> BEVGrid:
    """The window of a panel's shape around an extent, or around the car where that is too large."""
    pixels = np.array(size[::-1])
    spans = extent[1] - extent[0] + 2 * _MARGIN
    resolution = max((spans / pixels).max(), _LEAST / pixels.max())
    centre = extent.mean(axis=0)
    if resolution > _MOST / pixels.max():
        resolution, centre = _MOST / pixels.max(), np.round(car / 10) * 10
    low = centre - pixels * resolution / 2
    (x, y), (width, height) = low, pixels * resolution
    return BEVGrid((x, x + width), (y, y + height), resolution)
