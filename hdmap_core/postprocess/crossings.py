"""The probability of crossings -> their outlines: the rectangle that holds the most evidence, cut by the border.

1. Cells above a low threshold that hang together are a blob. Where it falls apart at the level at which its outline
   runs, a share of its mean probability, it is several crossings that only touch.
2. A cell speaks for a rectangle over it by what its probability exceeds that level, or against it. At an angle the
   best sides are found by sums along rows and columns; the angle is searched from that of the smallest enclosing
   rectangle. Each side then moves to where the mean along it crosses the level, between cells.
3. A blob that a rectangle leaves a wide part of, as where crossings meet at a corner, is the union of two or three,
   which is how ground truth joins those that touch.
4. What the border of the range cuts is cut by it here too.

Everything is in cells: (column, row), the centre of the first cell is (0, 0).
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np
import shapely

_MARGIN = 6  # cells around a blob that speak too
_TURNS = (0.1, 0.05, 0.025, 0.0125)  # radians by which the angle is changed, in turn, as long as that is better
_MOST = 3  # rectangles of one outline
_WIDE = np.ones((11, 11), np.uint8)  # cells: a part of a blob that holds such a square is no rag of its edge
_SIMPLER = 2.0  # cells that a corner of joined rectangles may stand off the line between its neighbours


def crossing_outlines(
    layer: np.ndarray, threshold: float, level: float, min_cells: float
) -> Iterator[tuple[np.ndarray, float]]:
    """Outlines (P, 2) of all crossings, valid and simple, and their scores: the mean probability of the blob.

    Args:
        layer: (Y, X) float32 in 0..1.
        threshold: probability above which cells belong to a blob.
        level: share of a blob's mean probability at which its outline runs.
        min_cells: smallest area of a blob and of an outline.
    """
    mask = (layer > threshold).astype(np.uint8)
    height, width = layer.shape
    for blob in _contours(mask, min_cells):
        x, y, w, h = cv2.boundingRect(blob)
        left, top = max(x - _MARGIN, 0), max(y - _MARGIN, 0)
        window = layer[top : y + h + _MARGIN, left : x + w + _MARGIN]
        blob = blob - np.array([left, top], np.int32)
        inside = _filled(blob, window.shape)
        score = float(cv2.mean(window, inside)[0])
        evidence = window - np.float32(level * score)
        evidence[(inside == 0) & (evidence > 0)] = -level * score  # of another blob
        core = inside & (evidence > 0)
        parts = _contours(core, min_cells)
        for part in parts or [blob]:
            own, speaking = core, evidence
            if len(parts) > 1:
                own = core & _filled(part, window.shape)
                speaking = np.where(own < core, np.float32(-level * score), evidence)
            range_box = (-0.5 - left, -0.5 - top, width - 0.5 - left, height - 0.5 - top)
            outline = shapely.clip_by_rect(_union_of_rectangles(speaking, part, own), *range_box)
            for polygon in shapely.get_parts(outline):
                if polygon.geom_type == "Polygon" and polygon.is_valid and polygon.area >= min_cells:
                    yield np.add(shapely.get_coordinates(polygon.exterior)[:-1], (left, top)), score


def _contours(mask: np.ndarray, min_cells: float) -> list[np.ndarray]:
    found = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
    return [contour for contour in found if cv2.contourArea(contour) >= min_cells]


def _filled(contour: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return cv2.drawContours(np.zeros(shape, np.uint8), [contour], -1, 1, -1)


def _union_of_rectangles(evidence: np.ndarray, contour: np.ndarray, core: np.ndarray) -> shapely.Geometry:
    """The rectangle, or the union of up to three: as many as it takes to leave nothing wide of the core."""
    found: list[shapely.Geometry] = []
    for _ in range(_MOST):
        corners = best_rectangle(evidence, contour)
        if corners is None:
            break
        found.append(shapely.Polygon(corners))
        covered = cv2.fillConvexPoly(np.zeros(core.shape, np.uint8), np.round(corners).astype(np.int32), 1)
        wide = cv2.erode(core & (covered == 0), _WIDE, borderType=cv2.BORDER_CONSTANT, borderValue=0)
        if not wide.any():
            break
        contour = max(_contours(cv2.dilate(wide, _WIDE), 0), key=cv2.contourArea)
        evidence = np.where(covered > 0, np.float32(0), evidence)  # speaks no more, neither for nor against
    return found[0] if len(found) == 1 else shapely.simplify(shapely.union_all(found), _SIMPLER)


def best_rectangle(evidence: np.ndarray, contour: np.ndarray) -> np.ndarray | None:
    """The corners (4, 2) of the rectangle with the largest sum of evidence (Y, X), near a blob; None if there is none.

    Args:
        evidence: what speaks for each cell, negative against it; outside of it nothing does either.
        contour: of the blob, as OpenCV finds it.
    """
    centre, sides, degrees = cv2.minAreaRect(contour)
    points = cv2.convexHull(contour)[:, 0] - np.array(centre)  # as far in every direction as all of them
    best = _fitted(evidence, centre, points, math.radians(degrees), (-sides[1] / 2, sides[1] / 2))
    for step in _TURNS:
        for turn in (step, -step):
            other = _fitted(evidence, centre, points, best.angle + turn, best.rows_from_centre)
            if other.gain > best.gain:
                best = other
                break
    if best.gain <= 0:
        return None
    columns, _ = _best_span(best.values[best.rows].sum(axis=0))
    along = best.values[:, columns].sum(axis=1)
    rows, _ = _best_span(along)
    across = best.values[rows].sum(axis=0)
    u0, u1 = _edge(across, columns.start, -1), _edge(across, columns.stop - 1, 1)
    v0, v1 = _edge(along, rows.start, -1), _edge(along, rows.stop - 1, 1)
    return (np.array([[u0, v0], [u1, v0], [u1, v1], [u0, v1]]) - best.reach) @ best.axes + np.array(centre)


class _Turned(NamedTuple):
    """Evidence in a frame with these axes (2, 2) and with the blob's centre at `reach`, and its best rows."""

    gain: float
    angle: float
    values: np.ndarray
    rows: slice
    axes: np.ndarray
    reach: np.ndarray

    @property
    def rows_from_centre(self) -> tuple[int, int]:
        return self.rows.start - int(self.reach[1]), self.rows.stop - int(self.reach[1])


def _fitted(
    evidence: np.ndarray, centre: Sequence[float], points: np.ndarray, angle: float, rows: tuple[float, float]
) -> _Turned:
    """The evidence turned to an angle, with its best rows: of its best columns in these rows, given from the centre."""
    cos, sin = math.cos(angle), math.sin(angle)
    axes = np.array([[cos, sin], [-sin, cos]])
    reach = np.abs(points @ axes.T).max(axis=0).astype(int) + _MARGIN
    u, v = reach.tolist()
    matrix = np.array([[cos, -sin, centre[0] - u * cos + v * sin], [sin, cos, centre[1] - u * sin - v * cos]])
    size, flags = (2 * u + 1, 2 * v + 1), cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    values = cv2.warpAffine(evidence, matrix, size, flags=flags)
    columns, _ = _best_span(values[max(v + int(rows[0]), 0) : v + int(rows[1]) + 1].sum(axis=0))
    best, gain = _best_span(values[:, columns].sum(axis=1))
    return _Turned(gain, angle, values, best, axes, reach)


def _best_span(values: np.ndarray) -> tuple[slice, float]:
    """The slice with the largest sum, and that sum (Kadane's maximum subarray)."""
    sums = np.zeros(len(values) + 1)
    values.cumsum(out=sums[1:])
    end = int((sums - np.minimum.accumulate(sums)).argmax())
    start = int(sums[: end + 1].argmin())
    return slice(start, end), float(sums[end] - sums[start])


def _edge(values: np.ndarray, last: int, step: int) -> float:
    """Where, beyond the last bin inside, the values cross zero: between that bin's centre and the next one's."""
    inside, following = float(values[last]), last + step
    outside = float(values[following]) if 0 <= following < len(values) else 0.0
    return last + step * (inside / (inside - outside) if inside > 0 >= outside else 0.5)
