"""Lines that are no dividers: along edges and kerbs, around parking bays, zig-zags, give-way triangles."""

from collections.abc import Iterable

import numpy as np
import shapely
from shapely import LineString, Polygon

from hdmap_core.datasets.synthetic.curve import cut, left_normals, left_of, offset, points_at, resample, total_length
from hdmap_core.datasets.synthetic.ground.shapes import dashes, solid_spans, strip
from hdmap_core.datasets.synthetic.streets.junctions import Span, open_span
from hdmap_core.datasets.synthetic.streets.layout import Layout
from hdmap_core.datasets.synthetic.streets.roads import Road
from hdmap_core.datasets.synthetic.streets.roadside import edge_line
from hdmap_core.datasets.synthetic.streets.symbols import bar
from hdmap_core.datasets.synthetic.town import Crossing, Decal, DecalMaterial

PARKING_BAY_M = 5.8


def draw_kerb_lines(rng: np.random.Generator, layout: Layout, crossings: list[Crossing]) -> list[Decal]:
    """All lines along and across roads that the map does not know."""
    network = layout.network
    areas = [*(Polygon(crossing.corners).buffer(0.4) for crossing in crossings), *layout.beside.no_parking]
    taken = shapely.union_all(areas)
    shapely.prepare(taken)
    habit = rng.random(5)
    found: list[Decal] = []
    for k, road in enumerate(network.roads):
        if not road.profile.is_marked:
            continue
        span = open_span(network, layout.zones, k)
        if span[1] - span[0] < 8.0:
            continue
        for side in (-1, 1):
            parking = road.profile.parking_left if side > 0 else road.profile.parking_right
            margin = road.profile.margin + parking
            if (habit[0] < 0.55 and margin > 0.3 and rng.random() < 0.8) or (parking and rng.random() < 0.7):
                found += _line(edge_line(road, side, span, margin - 0.05), taken, "white_paint", rng.random() < 0.15)
            if parking and habit[1] < 0.6:
                found.append(_parking_bays(road, side, span, parking))
            elif habit[2] < 0.5 and rng.random() < 0.7:
                inward = 0.12 + 0.1 * float(rng.random())
                for shift in (0.0, 0.2) if rng.random() < 0.6 else (0.0,):
                    found += _line(edge_line(road, side, span, inward + shift), taken, "yellow_paint", False, 0.09)
        has_pocket = any(key in (layout.pockets or {}) for key in ((k, True), (k, False)))
        if road.profile.median_kind == "island" and habit[3] < 0.5 and not has_pocket:
            colour: DecalMaterial = "yellow_paint" if habit[4] < 0.5 else "white_paint"
            piece = resample(cut(road.line, *span), 2.0)
            for edge in (road.profile.forward_edges()[-1] - 0.08, road.profile.backward_edges()[0] + 0.08):
                found += _line(offset(piece, float(edge)), taken, colour, False, 0.12)
    if rng.random() < 0.45:
        found += [_zigzags(network.roads[k], span) for k, span in layout.mid_crossings.items()]
    found += _give_way(rng, layout)
    found += _bay_lines(rng, layout)
    return found


def _line(
    line: np.ndarray, taken: shapely.Geometry, colour: DecalMaterial, is_dashed: bool, width: float = 0.13
) -> Iterable[Decal]:
    for part in shapely.get_parts(shapely.difference(LineString(line), taken)):
        if part.length > 2.5:
            points = np.array(part.coords)
            spans = dashes(part.length, 1.0, 1.5) if is_dashed else solid_spans(part.length)
            yield Decal(tuple(strip(points, a, b, width) for a, b in spans), colour)


def _parking_bays(road: Road, side: int, span: Span, depth: float) -> Decal:
    """Short lines out from the kerb, one every parked car."""
    at = np.arange(span[0] + 3.0, span[1] - 3.0, PARKING_BAY_M)
    kerb, inner = (_across(road, at, side * (road.profile.width / 2 - inward)) for inward in (0.1, depth))
    return Decal(tuple(_bars(kerb, inner, 0.1)), "white_paint")


def _across(road: Road, at: np.ndarray | float, reach: float) -> np.ndarray:
    """(..., 2) points `reach` metres to the left of a road's line, `at` (...) metres along it."""
    before, after = points_at(road.line, at - 0.5), points_at(road.line, at + 0.5)
    ahead = (after - before) / np.maximum(np.hypot(*(after - before).T), 1e-9)[..., None]
    return (before + after) / 2 + left_of(ahead) * reach


def _bars(starts: np.ndarray, ends: np.ndarray, width: float) -> list[np.ndarray]:
    return [bar(start, end, width) for start, end in zip(starts, ends, strict=True)]


def _zigzags(road: Road, crossed: Span) -> Decal:
    """Zig-zag lines on both sides of a crossing, along the kerbs and in the middle."""
    rings = []
    for begin, end in ((crossed[0] - 15.0, crossed[0] - 1.2), (crossed[1] + 1.2, crossed[1] + 15.0)):
        piece = resample(cut(road.line, begin, end), 1.9)
        swing = 0.25 * (-1.0) ** np.arange(len(piece))
        for reach in (-road.profile.width / 2 + 0.6, 0.0, road.profile.width / 2 - 0.6):
            line = piece + left_normals(piece) * (reach + swing)[:, None]
            rings += _bars(line[:-1], line[1:], 0.11)
    return Decal(tuple(rings), "white_paint")


def _give_way(rng: np.random.Generator, layout: Layout) -> Iterable[Decal]:
    """Triangles or short double bars where a side street has no stop line, and bars for turn pockets."""
    looks_like_teeth = rng.random() < 0.5
    for node_arms in layout.network.arms:
        for arm in node_arms:
            road, zone = layout.network.roads[arm.road], layout.zones[arm.road, arm.at_start]
            edges = road.profile.backward_edges() if arm.at_start else road.profile.forward_edges()
            if len(node_arms) < 3 or zone.stop_line or zone.crossing or len(edges) < 2 or rng.random() < 0.4:
                continue
            length = total_length(road.line)
            at = zone.trim if arm.at_start else length - zone.trim
            outward = 1.0 if arm.at_start else -1.0
            across = np.arange(edges[0] + 0.3, edges[-1] - 0.3, 0.75)
            base = [_across(road, at, float(reach)) for reach in across]
            ahead = _across(road, at + outward, 0.0) - _across(road, at, 0.0)
            left = left_of(ahead)
            if looks_like_teeth:
                shapes = [np.array([[0.0, -0.25], [0.0, 0.25], [0.75, 0.0]])]
            else:
                row = np.array([[0.0, -0.25], [0.0, 0.25], [0.2, 0.25], [0.2, -0.25]])
                shapes = [row, row + np.array([0.45, 0.0])]
            yield Decal(
                tuple(spot + np.outer(s[:, 0], ahead) + np.outer(s[:, 1], left) for spot in base for s in shapes),
                "white_paint",
            )


def _bay_lines(rng: np.random.Generator, layout: Layout) -> Iterable[Decal]:
    """A yellow frame or zig-zag in a bus bay, along its kerb."""
    for k, side, span, depth in layout.beside.bays:
        if span[1] - span[0] < 10 or rng.random() < 0.4:
            continue
        road = layout.network.roads[k]
        kerb = edge_line(road, side, span, -depth + 0.4)
        if rng.random() < 0.5:
            kerb = resample(kerb, 2.0)
            kerb = kerb + left_normals(kerb) * (0.3 * (-1.0) ** np.arange(len(kerb)))[:, None]
        yield Decal(tuple(_bars(kerb[:-1], kerb[1:], 0.11)), "yellow_paint")
