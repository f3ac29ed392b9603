"""The region around the car from above: the cameras' ground, the map on it, metres at its border."""

from collections.abc import Sequence

import cv2
import numpy as np

from hdmap_core.elements import MapElement
from hdmap_core.geometry import BEVGrid
from hdmap_core.geometry.ground_view import ground_view
from hdmap_core.geometry.se3 import inverse
from hdmap_core.observation import Observation
from hdmap_core.viz.strokes import BACKGROUND, COLOURS, GRID_LINE, TEXT, TRUTH, stroke, write

_DIM = 0.7  # of the ground's brightness, so that lines stand out
_TICK = 10  # metres
_SEEN = 255
_CAR = np.array([[3.9, 0.5], [3.6, 0.85], [3.0, 0.95], [-0.8, 0.95], [-1.0, 0.75]])  # its left half, metres
_WINDOWS = np.array([[2.2, 0.8], [1.6, 0.7], [0.2, 0.7], [-0.2, 0.75]])


def draw_bev(
    observation: Observation | None,
    elements: Sequence[MapElement],
    truth: Sequence[MapElement] | None,
    grid: BEVGrid,
    pixels_per_metre: int,
    ground: np.ndarray | None = None,
) -> np.ndarray:
    """The region from above, the car's front to the right, over the dimmed ground pixels of the cameras.

    Args:
        observation: whose images show the ground; None leaves it dark.
        elements: metres, ego frame, in the colours of their classes.
        truth: thin and white under them.
        grid: the region.
        pixels_per_metre: about; a cell is a whole number of pixels.
        ground: (H, W, 4) uint8 that `GroundMemory` gave for these pixels, in place of the observation's own.

    Returns:
        (H, W, 3) uint8 RGB, close to `pixels_per_metre`.
    """
    fine = pixel_grid(grid, pixels_per_metre)
    canvas = np.full((*fine.shape, 3), BACKGROUND, np.uint8)
    if ground is None and observation is not None:
        ground = without_hole(ground_view(observation.images, observation.rig, fine, relief=observation.relief))
    if ground is not None:
        canvas[:] = cv2.convertScaleAbs(ground[..., :3], alpha=_DIM)
        canvas[ground[..., 3] == 0] = BACKGROUND
    for metres in range(-200, 201, _TICK):
        for start, end in (((metres, -999), (metres, 999)), ((-999, metres), (999, metres))):
            stroke(canvas, fine.to_cells(np.array([start, end], np.float64)), False, GRID_LINE, 1, halo=0)
    for element in truth or ():
        stroke(canvas, _pixels(fine, element.points), element.closed, TRUTH, 2)
    for element in elements:
        line = _pixels(fine, element.points)
        stroke(canvas, line, element.closed, COLOURS[element.label], 4)
        for x, y in np.clip(np.round(line), -9999, 9999).astype(int):
            cv2.circle(canvas, (int(x), int(y)), 4, COLOURS[element.label], -1, cv2.LINE_AA)
    _draw_car(canvas, fine)
    picture = np.ascontiguousarray(canvas[::-1])
    _write_metres(picture, fine)
    return picture


def pixel_grid(grid: BEVGrid, pixels_per_metre: int) -> BEVGrid:
    """The region cut into the pixels of its picture, a whole number of them per cell, so that any grid works."""
    return BEVGrid(grid.x_range, grid.y_range, grid.resolution / max(1, round(grid.resolution * pixels_per_metre)))


def without_hole(view: np.ndarray) -> np.ndarray:
    """The ground with what no camera sees, as its own car hides it, filled from around it, where ground is all around.

    Args:
        view: (Y, X, 4) uint8 of `ground_view`.
    """
    unseen = (view[..., 3] == 0).astype(np.uint8)
    _, labels, boxes, _ = cv2.connectedComponentsWithStats(unseen)
    right, bottom = boxes[:, 0] + boxes[:, 2], boxes[:, 1] + boxes[:, 3]
    enclosed = (boxes[:, :2] > 0).all(axis=1) & (right < unseen.shape[1]) & (bottom < unseen.shape[0])
    enclosed[0] = False  # what is seen
    if not enclosed.any():
        return view
    hole = enclosed[labels]
    x, y, width, height = cv2.boundingRect(hole.astype(np.uint8))
    part = np.s_[y - 1 : y + height + 1, x - 1 : x + width + 1]
    small = max(1, max(width, height) // 100)
    size = -(-(width + 2) // small), -(-(height + 2) // small)
    colours = cv2.resize(view[part][..., :3], size, interpolation=cv2.INTER_AREA)
    coarse = cv2.resize(unseen[part], size, interpolation=cv2.INTER_NEAREST)
    smooth = cv2.inpaint(colours, cv2.dilate(coarse, np.ones((3, 3), np.uint8)), 3, cv2.INPAINT_TELEA)
    filled = view.copy()
    filled[part][hole[part], :3] = cv2.resize(smooth, (width + 2, height + 2))[hole[part]]
    filled[hole, 3] = _SEEN
    return filled


class GroundMemory:
    """The ground as the cameras see it, and where they do not, as they saw it a moment before.

    So what the car stands on is what its front camera saw, and not a guess.

    Args:
        grid: of the pictures, see `pixel_grid`.
    """

    def __init__(self, grid: BEVGrid) -> None:
        self._grid = grid
        self._last: np.ndarray | None = None
        self._map_from_last = np.eye(4)

    def update(self, observation: Observation) -> np.ndarray:
        """(Y, X, 4) uint8 of an observation; without a pose it is alone, and the next is."""
        view, pose = (
            ground_view(observation.images, observation.rig, self._grid, relief=observation.relief),
            observation.map_from_ego,
        )
        if pose is None:
            self._last = None
            return without_hole(view)
        if self._last is not None:
            before = warped(self._last, self._grid, inverse(self._map_from_last) @ pose, self._grid)
            unseen = view[..., 3] == 0
            view[unseen] = before[unseen]
        self._last, self._map_from_last = view, pose
        return without_hole(view)


def warped(view: np.ndarray, grid: BEVGrid, source_from_target: np.ndarray, target: BEVGrid) -> np.ndarray:
    """A view (Y, X, 4) of one grid in the cells of another, whose frame lies elsewhere on the plane; 0 outside."""
    corners = np.array([[0.0, 0], [1, 0], [0, 1]])
    metres = corners * target.resolution + [target.x_range[0], target.y_range[0]] + target.resolution / 2
    moved = metres @ source_from_target[:2, :2].T + source_from_target[:2, 3]
    cells = grid.to_cells(moved)
    matrix = np.column_stack([cells[1] - cells[0], cells[2] - cells[0], cells[0]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    result = cv2.warpAffine(view, matrix, target.shape[::-1], flags=flags)
    result[..., 3] = np.where(result[..., 3] == _SEEN, _SEEN, 0)  # no half-seen border
    return result


def _draw_car(canvas: np.ndarray, grid: BEVGrid) -> None:
    for half, colour in ((_CAR, (235, 235, 240)), (_WINDOWS, (60, 66, 80))):
        outline = np.concatenate([half, half[::-1] * [1, -1]])
        cv2.fillPoly(canvas, [np.round(16 * _pixels(grid, outline)).astype(np.int32)], colour, cv2.LINE_AA, 4)


def _write_metres(picture: np.ndarray, grid: BEVGrid) -> None:
    """Metres ahead along the lower border, to the left along the left one."""
    height, width = picture.shape[:2]
    size = max(11, round(height / 40))
    for metres in range(-200, 201, _TICK):
        (x, y) = np.round(grid.to_cells(np.array([float(metres), float(metres)]))).astype(int)
        if 2 * size < x < width - 2 * size:
            write(picture, (int(x), height - 4), f"{metres} m" if metres else "0", size, TEXT, "md", rim=1)
        if 2 * size < y < height - 2 * size:
            write(picture, (5, height - 1 - int(y)), f"{metres} m" if metres else "0", size, TEXT, "lm", rim=1)


def _pixels(grid: BEVGrid, points: np.ndarray) -> np.ndarray:
    return grid.to_cells(np.asarray(points, np.float64))
