"""Segmentation masks -> elements: lines are thinned to their middle and traced, crossings become quadrilaterals.

A traced line is cut where lines fork and joined again where two ends face each other, so that a kerb behind a parked
car and past a corner stays one element. Lines side by side, as a median's edges, are kept apart where the probability
between them is lower. A line's score is the mean probability along it, less for a short one.
"""

import math
from collections.abc import Sequence

import cv2
import numpy as np
from pydantic import Field
from skimage.morphology import skeletonize

from hdmap_core.config import Config
from hdmap_core.elements import MapClass, MapElement
from hdmap_core.geometry import BEVGrid, polyline
from hdmap_core.postprocess.crossings import crossing_outlines
from hdmap_core.postprocess.tracing import is_loop, join_paths, refined, smoothed, trace_skeleton

_SHORTEST_PIECE = 0.5  # metres; of what tracing leaves of a line between forks
_SHORT = 5.0  # metres: lines of about this length are found by chance as well, so their scores are lowered
_FACING = 0.5  # cosine: of 60 degrees
_ACROSS = 4  # cells to each side of a line over which its middle is sought
_GRAIN = 0.1  # metres: by which a mask is smoothed before valleys are sought in it, so that grain makes none
_VALLEY = 0.7  # share of the probability on both sides below which a cell between them belongs to neither line


class LineJoining(Config):
    """How the pieces of lines of a class become whole; lengths in metres.

    Attributes:
        smoothing: standard deviation of the Gaussian by which the mask is smoothed before it is thinned: fewer spurs.
        apart: lines up to this far from one another, as the edges of a median, stay two where the probability between
            them is lower; 0: whatever hangs together above the threshold is one.
        max_gap: two line ends that face each other within this distance are joined.
        touching: ends within this distance need not point at each other; farther ones must, within 60 degrees.
        max_turn: by how much the joined lines may turn there, degrees.
        cap: ends within this distance that point the same way are joined after all others, as at a median's tip; 0 for
            off.
    """

    smoothing: float = Field(ge=0)
    apart: float = Field(default=0.0, ge=0)
    max_gap: float = Field(ge=0)
    touching: float = Field(ge=0)
    max_turn: float = Field(ge=0, le=180)
    cap: float = Field(default=0.0, ge=0)


class MaskDecodeConfig(Config):
    """All lengths in metres.

    Attributes:
        threshold: probability above which a cell belongs to a line or a crossing.
        outline_level: share of a crossing's mean probability at which its outline runs.
        min_length: shorter lines are dropped.
        min_area: smaller crossings are dropped, square metres.
        line: of dividers, which end at crossings and junctions: gaps of 4 m mean something.
        boundary: parked cars hide boundaries and junctions bend them, but little interrupts them.
        tolerance: of the simplification.
    """

    threshold: float = 0.2
    outline_level: float = Field(default=0.87, gt=0, lt=1)
    min_length: float = 1.0
    min_area: float = 2.0
    line: LineJoining = LineJoining(smoothing=0.1, max_gap=3.0, touching=0.45, max_turn=40.0)
    boundary: LineJoining = LineJoining(smoothing=0.3, apart=2.0, max_gap=6.0, touching=4.0, max_turn=125.0, cap=3.0)
    tolerance: float = 0.1


def decode_masks(
    probability: np.ndarray, config: MaskDecodeConfig, *, classes: Sequence[MapClass], grid: BEVGrid
) -> list[MapElement]:
    """Elements of one frame.

    Args:
        probability: (K, Y, X) float32 in 0..1; the cells may be finer than the grid's. NaN counts as 0.
        config: thresholds and tolerances.
        classes: of the K layers; crossings become polygons, the others lines, whose direction means nothing.
        grid: the region that the masks cover.
    """
    cells = BEVGrid(grid.x_range, grid.y_range, grid.size[0] / probability.shape[-1])
    layers = np.ascontiguousarray(probability, np.float32)
    if np.isnan(layers.sum()):
        layers = np.nan_to_num(layers)
    elements: list[MapElement] = []
    for label, layer in zip(classes, layers, strict=True):
        if label is MapClass.PED_CROSSING:
            min_cells = config.min_area / cells.resolution**2
            outlines = crossing_outlines(layer, config.threshold, config.outline_level, min_cells)
            elements += [MapElement(label, cells.to_metres(outline), True, score) for outline, score in outlines]
        else:
            elements += _lines(label, layer, config, cells)
    return elements


def trust_in_length(length: float) -> float:
    """The factor, from 0 to 1, that makes the score of a line of this many metres of the mean probability along it."""
    return 1 - math.exp(-length / _SHORT)


def _lines(label: MapClass, layer: np.ndarray, config: MaskDecodeConfig, cells: BEVGrid) -> list[MapElement]:
    joining = config.boundary if label is MapClass.BOUNDARY else config.line
    smooth_layer = _blurred(layer, joining.smoothing / cells.resolution)
    mask = smooth_layer > config.threshold
    if joining.apart:
        mask &= ~_valleys(_blurred(layer, _GRAIN / cells.resolution), joining.apart / cells.resolution)
    paths = trace_skeleton(_thinned(mask))
    paths = [path for path in paths if len(path) * cells.resolution > _SHORTEST_PIECE]
    elements = []
    for path in join_paths(
        paths,
        joining.max_gap / cells.resolution,
        math.cos(math.radians(joining.max_turn)),
        touching=joining.touching / cells.resolution,
        min_facing=_FACING,
        cap=joining.cap / cells.resolution,
        shape=layer.shape,
    ):
        closed = is_loop(path, 2)
        length = polyline.length(path * cells.resolution)
        if length < config.min_length:
            continue
        columns, rows = np.round(path).astype(int).T
        score = float(layer[rows, columns].mean()) * trust_in_length(length)
        every_second = np.concatenate([path[:-1:2], path[-1:]])
        smooth = smoothed(refined(every_second, smooth_layer, _ACROSS), closed, 2)
        simple = cv2.approxPolyDP(smooth.astype(np.float32), config.tolerance / cells.resolution, closed)[:, 0]
        if len(simple) >= (3 if closed else 2):
            elements.append(MapElement(label, cells.to_metres(simple), closed, score))
    return elements


def _blurred(layer: np.ndarray, deviation_cells: float) -> np.ndarray:
    if deviation_cells <= 0:
        return layer
    width = 2 * math.ceil(2.5 * deviation_cells) + 1
    return cv2.GaussianBlur(layer, (width, width), deviation_cells)


def _valleys(layer: np.ndarray, width_cells: float) -> np.ndarray:
    """(Y, X) float32 in 0..1 -> bool: cells between two lines at most this far apart, which are likelier than they."""
    side = 2 * int(width_cells / 2) + 1
    level = cv2.convertScaleAbs(layer, alpha=255)  # bytes are ten times as quick
    return level < _VALLEY * cv2.morphologyEx(level, cv2.MORPH_CLOSE, np.ones((side, side), np.uint8))


def _thinned(mask: np.ndarray) -> np.ndarray:
    """(Y, X) bool -> bool. `skeletonize` passes over all it is given many times, so it is given no empty rows."""
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    thin = np.zeros_like(mask)
    if width:
        window = np.s_[y : y + height, x : x + width]
        thin[window] = skeletonize(np.ascontiguousarray(mask[window]))
    return thin
