"""Segmentation masks -> elements: lines are thinned to their middle and traced, crossings become polygons.

A traced line is cut where lines fork and joined again where two ends face each other, so that a divider that runs past
a gap or a junction stays one element. Its score is the mean probability along it.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from skimage.morphology import skeletonize

from hdmap_core.config import Config
from hdmap_core.elements import MapClass, MapElement
from hdmap_core.geometry import BEVGrid, polyline
from hdmap_core.postprocess.tracing import join_paths, refined, smoothed, trace_skeleton


class MaskDecodeConfig(Config):
    """All lengths in metres.

    Attributes:
        threshold: probability above which a cell belongs to a line.
        polygon_threshold: the same for crossings, whose outline it moves.
        min_length: shorter lines are dropped.
        min_area: smaller crossings are dropped, square metres.
        max_gap: two line ends that face each other within this distance are joined.
        max_turn: by how much the joined lines may turn there, degrees.
        tolerance: of the simplification.
    """

    threshold: float = 0.25
    polygon_threshold: float = 0.6
    min_length: float = 2.0
    min_area: float = 4.0
    max_gap: float = 4.0
    max_turn: float = 40.0
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
    layers = np.array(probability, np.float32, order="C")
    cv2.patchNaNs(layers.reshape(-1), 0.0)
    elements: list[MapElement] = []
    for label, layer in zip(classes, layers, strict=True):
        if label is MapClass.PED_CROSSING:
            mask = (layer > config.polygon_threshold).astype(np.uint8)
            elements += _polygons(label, layer, mask, config, cells)
        else:
            mask = (layer > config.threshold).astype(np.uint8)
            elements += _lines(label, layer, mask, config, cells)
    return elements


def _polygons(
    label: MapClass, layer: np.ndarray, mask: np.ndarray, config: MaskDecodeConfig, cells: BEVGrid
) -> list[MapElement]:
    elements = []
    for contour in cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]:
        if cv2.contourArea(contour) * cells.resolution**2 < config.min_area:
            continue
        column, row, width, height = cv2.boundingRect(contour)
        window = layer[row : row + height, column : column + width]
        inside = cv2.drawContours(np.zeros(window.shape, np.uint8), [contour], -1, 1, -1, offset=(-column, -row))
        corners = _as_quadrilateral(contour, 3 * config.tolerance / cells.resolution)
        points = cells.to_metres(corners.astype(np.float64))
        elements.append(MapElement(label, points, closed=True, score=float(cv2.mean(window, inside)[0])))
    return elements


def _as_quadrilateral(contour: np.ndarray, tolerance_cells: float) -> np.ndarray:
    """The enclosing rectangle where it fits well, which crossings nearly are; else the simplified contour."""
    rectangle = cv2.boxPoints(cv2.minAreaRect(contour))
    if cv2.contourArea(contour) > 0.8 * cv2.contourArea(rectangle):
        return rectangle
    simplified = cv2.approxPolyDP(contour, tolerance_cells, closed=True)[:, 0]
    return simplified if len(simplified) >= 3 else rectangle


def _lines(
    label: MapClass, layer: np.ndarray, mask: np.ndarray, config: MaskDecodeConfig, cells: BEVGrid
) -> list[MapElement]:
    paths = [path for path in trace_skeleton(skeletonize(mask > 0)) if len(path) * cells.resolution > 0.5]
    joined = join_paths(paths, config.max_gap / cells.resolution, np.cos(np.radians(config.max_turn)))
    elements = []
    for path in joined:
        closed = len(path) > 8 and np.abs(path[0] - path[-1]).max() <= 2
        if polyline.length(path * cells.resolution) < config.min_length:
            continue
        columns, rows = np.round(path).astype(int).T
        score = float(layer[rows, columns].mean())
        smooth = smoothed(refined(path, layer), closed)
        simple = cv2.approxPolyDP(smooth.astype(np.float32), config.tolerance / cells.resolution, bool(closed))[:, 0]
        if len(simple) >= (3 if closed else 2):
            elements.append(MapElement(label, cells.to_metres(simple), bool(closed), score))
    return elements
