"""Lines as the sets of cells that they cover, and the distances between such sets."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import shapely

from hdmap_core.elements import MapElement
from hdmap_core.geometry import BEVGrid

_ON_EDGE = 1e-4  # cells; float32 is good to 3e-5 of 0.15 m at 60 m


@dataclass(frozen=True)
class RasterLines:
    """Lines drawn into one raster, each with its own number; a later one covers the earlier ones.

    Attributes:
        labels: (Y, X) int32, 0 for no line, else 1 + index of the line.
        cells: of each line that can still be seen, (P,) flat indices into `labels`, P >= 1.
        numbers: (N,) what these lines have in `labels`.
        score: (N,) their confidence.
    """

    labels: np.ndarray
    cells: list[np.ndarray]
    numbers: np.ndarray
    score: np.ndarray


def draw(elements: Sequence[MapElement], grid: BEVGrid, thickness: int) -> RasterLines:
    """Draws the parts of elements inside the grid, as HDMapNet's evaluation does.

    A line that is cut into several pieces counts as so many lines, each with the element's score; shapely also cuts a
    line where it crosses itself. Corners are rounded down to whole cells, and OpenCV draws between them. The published
    code has corners in float64; here they are float32, which puts one on the edge of a cell now to this side, now to
    that. So one less than `_ON_EDGE` cells below an edge counts as on it.
    """
    labels = np.zeros(grid.shape, np.int32)
    score = []
    minimum = np.array([grid.x_range[0], grid.y_range[0]])
    region = shapely.box(grid.x_range[0], grid.y_range[0], grid.x_range[1], grid.y_range[1])
    for element in elements:
        inside = shapely.intersection(shapely.LineString(element.path), region)
        for piece in shapely.get_parts(inside):
            if piece.geom_type == "LineString" and not piece.is_empty:
                cells = (shapely.get_coordinates(piece) - minimum) / grid.resolution
                corners = np.floor(cells + _ON_EDGE).astype(np.int32)
                score.append(element.score)
                cv2.polylines(labels, [corners], False, len(score), thickness)
    covered = np.flatnonzero(labels)
    of_cell = labels.ravel()[covered]
    order = np.argsort(of_cell, kind="stable")
    numbers, first = np.unique(of_cell[order], return_index=True)
    cells = np.split(covered[order], first[1:]) if len(numbers) else []
    return RasterLines(labels, cells, numbers, np.array(score, np.float64)[numbers - 1])


def distances(
    found: RasterLines, wanted: RasterLines, resolution: float, *, symmetric: bool, limit: float = np.inf
) -> np.ndarray:
    """(N, M) metres: mean distance of the cells of a found line from the nearest cell of a wanted one.

    With `symmetric` the mean of that and of the way back. Exact: from one distance transform per line. Pairs whose
    bounding boxes are more than `limit` metres apart come as infinity.
    """
    near = _gaps(_boxes(found), _boxes(wanted)) * resolution <= limit
    there = _directed(found, wanted, near)
    result = (there + _directed(wanted, found, near.T).T) / 2 if symmetric else there
    return result * resolution


def overlaps(found: RasterLines, wanted: RasterLines) -> np.ndarray:
    """(N, M): intersection over union of the sets of cells."""
    labels = wanted.labels.ravel()
    largest = int(wanted.numbers.max(initial=0))
    shared = np.array([np.bincount(labels[cells], minlength=largest + 1)[wanted.numbers] for cells in found.cells])
    shared = shared.reshape(len(found.cells), len(wanted.cells))
    sizes = [np.array([len(cells) for cells in lines.cells], np.int64) for lines in (found, wanted)]
    return shared / (sizes[0][:, None] + sizes[1][None, :] - shared)


def _directed(lines: RasterLines, targets: RasterLines, near: np.ndarray) -> np.ndarray:
    """(N, M) cells: mean distance of the cells of each line from the nearest of each target; infinity if not near."""
    result = np.full(near.shape, np.inf)
    columns = lines.labels.shape[1]
    boxes, target_boxes = _boxes(lines), _boxes(targets)
    for column, number in enumerate(targets.numbers):
        rows = np.flatnonzero(near[:, column])
        if not len(rows):
            continue
        corners = np.concatenate([boxes[rows], target_boxes[[column]]])  # all that matters lies between these
        low, high = corners[:, :2].min(axis=0), corners[:, 2:].max(axis=0) + 1
        elsewhere = (targets.labels[low[0] : high[0], low[1] : high[1]] != number).astype(np.uint8)
        far = cv2.distanceTransform(elsewhere, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        for row in rows:
            y, x = np.divmod(lines.cells[row], columns)
            result[row, column] = far[y - low[0], x - low[1]].mean(dtype=np.float64)
    return result


def _boxes(lines: RasterLines) -> np.ndarray:
    """(N, 4) first row, first column, last row, last column of each line."""
    places = [np.divmod(cells, lines.labels.shape[1]) for cells in lines.cells]
    boxes = [(y.min(), x.min(), y.max(), x.max()) for y, x in places]
    return np.array(boxes, np.int64).reshape(-1, 4)


def _gaps(boxes: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """(N, M) cells between boxes, 0 where they overlap."""
    boxes, targets = boxes[:, None], targets[None]
    apart = np.maximum(np.maximum(targets[..., :2] - boxes[..., 2:], boxes[..., :2] - targets[..., 2:]), 0)
    return np.hypot(apart[..., 0], apart[..., 1])
