"""Outlines of everything painted or laid on the ground of a synthetic town, as plain vertex rings in metres.

Shared by the camera texture and by the reflectivity map of the lidar, so that both see the same paint.
"""

from itertools import pairwise

import numpy as np
from shapely import MultiPolygon, Polygon
from shapely.geometry.base import BaseGeometry

from hdmap_core.datasets.synthetic.curve import cut, left_of, offset, points_at, total_length
from hdmap_core.datasets.synthetic.town import Crossing, Marking

DOUBLE_LINE_OFFSET_M = 0.14
DOUBLE_LINE_WIDTH_M = 0.12
ARROW_M = ((0.0, 0.09), (2.4, 0.09), (2.4, 0.45), (4.0, 0.0), (2.4, -0.45), (2.4, -0.09), (0.0, -0.09))
"""A straight-ahead lane arrow: along the lane, to its left."""

Ring = np.ndarray
"""(P, 2) float64, metres, town frame."""


def rings_of(geometry: BaseGeometry) -> list[Ring]:
    """All outer and inner rings of the polygons in a geometry; lines and points in it are ignored."""
    if geometry.is_empty:
        return []
    if isinstance(geometry, Polygon):
        return [np.asarray(r.coords)[:, :2] for r in (geometry.exterior, *geometry.interiors)]
    if isinstance(geometry, MultiPolygon) or hasattr(geometry, "geoms"):
        return [ring for part in geometry.geoms for ring in rings_of(part)]
    return []


def strip(line: np.ndarray, start: float, end: float, width: float, aside: float = 0.0) -> Ring:
    """The band of `width` along a polyline between two distances from its start, shifted `aside` to the left."""
    centre = cut(line, start, end)
    return np.concatenate([offset(centre, aside + 0.5 * width), offset(centre, aside - 0.5 * width)[::-1]])


def marking_pieces(marking: Marking) -> list[Ring]:
    """Painted bands of one marking, one line or two parallel ones: dashes, or solids in pieces of 6 m."""
    length = total_length(marking.line)
    if length < 0.5:
        return []
    if marking.style in ("solid", "dashed"):
        lines = [(0.0, marking.style == "dashed", marking.width_m)]
    else:
        right_is_dashed = marking.style == "double_dashed"
        lines = [
            (-DOUBLE_LINE_OFFSET_M, right_is_dashed, DOUBLE_LINE_WIDTH_M),
            (DOUBLE_LINE_OFFSET_M, right_is_dashed or marking.style == "solid_dashed", DOUBLE_LINE_WIDTH_M),
        ]
    pieces = []
    for aside, is_dashed, width in lines:
        spans = dashes(length, marking.dash_m, marking.gap_m) if is_dashed else solid_spans(length)
        pieces += [strip(marking.line, start, end, width, aside) for start, end in spans]
    return pieces


def dashes(length: float, dash: float, gap: float) -> list[tuple[float, float]]:
    """Begin and end of each dash of a broken line `length` metres long."""
    starts = np.arange(0.5 * gap, length - 0.5, dash + gap)
    return [(start, min(start + dash, length)) for start in starts]


def solid_spans(length: float) -> list[tuple[float, float]]:
    """A solid line in pieces of at most 6 m, so that no piece spans much of the picture."""
    return list(pairwise(np.linspace(0.0, length, max(int(np.ceil(length / 6.0)), 1) + 1)))


def crossing_pieces(crossing: Crossing) -> list[Ring]:
    """Painted bands of one crossing, within its corners."""
    c0, c1, _, c3 = np.asarray(crossing.corners, dtype=np.float64)
    walk = c3 - c0
    length = float(np.linalg.norm(walk))
    depth_vector = c1 - c0
    depth = float(np.linalg.norm(depth_vector))
    along, across = walk / length, depth_vector / depth

    def block(s0: float, s1: float, t0: float, t1: float) -> Ring:
        return np.stack([c0 + along * s + across * t for s, t in ((s0, t0), (s1, t0), (s1, t1), (s0, t1))])

    edges = [block(0.0, length, 0.0, crossing.edge_m), block(0.0, length, depth - crossing.edge_m, depth)]
    if crossing.style == "lines":
        return edges
    stripe, period = crossing.stripe_m, crossing.period_m
    num_stripes = max(int((length - stripe) // period) + 1, 1)
    first = 0.5 * (length - (num_stripes - 1) * period - stripe)
    starts = first + period * np.arange(num_stripes)
    stripes = [block(s, s + stripe, 0.0, depth) for s in starts]
    return stripes + edges if crossing.style == "ladder" else stripes


def arrow(line: np.ndarray, at: float) -> Ring:
    """A straight-ahead lane arrow, 4 m long, whose tail is `at` metres along the centre line (P, 2)."""
    tail, tip = points_at(line, np.array([at, at + 4.0]))
    forward = (tip - tail) / max(np.linalg.norm(tip - tail), 1e-9)
    left = left_of(forward)
    return np.stack([tail + forward * s + left * t for s, t in ARROW_M])
