"""What years of use leave on a road of the second edition: repairs, covers, rails, tyre marks, leaves, old lines."""

from collections.abc import Iterable

import numpy as np
import shapely

from hdmap_core.datasets.synthetic.curve import cut, directions, offset, points_at, resample, total_length
from hdmap_core.datasets.synthetic.ground.shapes import strip
from hdmap_core.datasets.synthetic.streets.junctions import Span, free_spans, open_span
from hdmap_core.datasets.synthetic.streets.layout import Layout
from hdmap_core.datasets.synthetic.streets.roads import Road
from hdmap_core.datasets.synthetic.streets.roadside import edge_line
from hdmap_core.datasets.synthetic.town import RGB, Crossing, Decal, DecalMaterial, Lane, Marking

TRAM_GAUGE_M = 1.435
COATINGS: tuple[RGB, ...] = ((0.28, 0.07, 0.05), (0.07, 0.2, 0.09), (0.3, 0.16, 0.05), (0.05, 0.1, 0.25))
LEAVES: tuple[RGB, ...] = ((0.25, 0.14, 0.03), (0.35, 0.26, 0.05), (0.12, 0.16, 0.04), (0.14, 0.08, 0.03))
IRON: RGB = (0.07, 0.065, 0.06)


def draw_repairs(
    rng: np.random.Generator, layout: Layout, markings: list[Marking], crossings: list[Crossing]
) -> list[Decal]:
    """Everything that lies below the paint, what is wide first."""
    found: list[Decal] = []
    wear = float(rng.uniform(0.3, 1.4))
    for k, road in enumerate(layout.network.roads):
        found += _resurfaced(rng, road, wear)
        span = open_span(layout.network, layout.zones, k)
        if span[1] - span[0] > 30 and not road.profile.forward > 1 and rng.random() < 0.3:
            crossed = layout.mid_crossings.get(k)
            taken = [(crossed[0] - 3, crossed[1] + 3)] if crossed else []
            found += _hump(rng, road, free_spans(span, taken, 12.0))
        if road.profile.forward > 1 and rng.random() < 0.12:
            found += _coated(rng, road, span)
    if rng.random() < 0.25:
        brick = (0.25, 0.09, 0.06) if rng.random() < 0.6 else (0.3, 0.28, 0.26)
        found += [Decal((crossing.corners,), "concrete", brick) for crossing in crossings if rng.random() < 0.6]
    for k, side, span, depth in layout.beside.bays:
        if rng.random() < 0.4:
            found.append(_pad(layout.network.roads[k], side, span, depth))
    for lane in layout.lanes:
        found += _on_lane(rng, lane, wear)
    found += _old_lines(rng, markings)
    if rng.random() < 0.14:
        found += _rails(layout.routes[0])
    if rng.random() < 0.5:
        found += _fallen_leaves(rng, layout, float(rng.uniform(0.2, 1.0)))
    return found


def _band(road: Road, begin: float, end: float, right: float, left: float) -> np.ndarray:
    piece = resample(cut(road.line, begin, end), 2.0)
    return np.concatenate([offset(piece, right), offset(piece, left)[::-1]])


def _resurfaced(rng: np.random.Generator, road: Road, wear: float) -> Iterable[Decal]:
    """New asphalt on lanes, on half a road or across it, with dark seams: edges that are no kerbs."""
    length = total_length(road.line)
    half = road.profile.width / 2
    edges = np.concatenate([road.profile.forward_edges(), road.profile.backward_edges(), [-half, half, 0.0]])
    for _ in range(int(rng.poisson(wear * length / 70.0))):
        right, left = np.sort(rng.choice(edges, 2)) + rng.normal(0, 0.15, 2)
        right, left = max(right, -half), min(left, half)
        begin = float(rng.uniform(0, length - 4))
        end = min(begin + float(rng.choice([rng.uniform(0.6, 1.6), rng.uniform(4, 70)])), length)
        if left - right < 0.7:
            continue
        gain = float(rng.uniform(0.42, 0.8) if rng.random() < 0.7 else rng.uniform(1.15, 1.55))
        yield Decal((_band(road, begin, end, right, left),), "asphalt", gain=gain)
        if rng.random() < 0.5:
            seams = [_band(road, begin, end, edge - 0.04, edge + 0.04) for edge in (right, left)]
            yield Decal(tuple(seams), "asphalt", gain=0.3)


def _hump(rng: np.random.Generator, road: Road, spans: list[Span]) -> Iterable[Decal]:
    if not spans:
        return
    low, high = spans[rng.integers(len(spans))]
    depth, half = float(rng.choice([0.6, 1.0, 3.6])), road.profile.width / 2
    at = float(rng.uniform(low + 2, high - 2 - depth))
    yield Decal((_band(road, at, at + depth, -half, half),), "asphalt", gain=0.6)
    colour: DecalMaterial = "yellow_paint" if rng.random() < 0.5 else "white_paint"
    edges = np.arange(-half + 0.2, half - 0.5, 1.0)
    stripes = [_band(road, at, at + min(depth, 1.0), edge, edge + 0.5) for edge in edges]
    yield Decal(tuple(stripes), colour)


def _coated(rng: np.random.Generator, road: Road, span: Span) -> Iterable[Decal]:
    """A lane for buses or bicycles in a colour of its own."""
    right = float(road.profile.forward_edges()[0])
    width = road.profile.lane_width if rng.random() < 0.6 else 1.5
    ring = _band(road, *span, right + 0.1, right + width - 0.1)
    yield Decal((ring,), "asphalt", COATINGS[rng.integers(len(COATINGS))], cover=float(rng.uniform(0.55, 0.95)))


def _pad(road: Road, side: int, span: Span, depth: float) -> Decal:
    """The concrete of a bus bay."""
    inner, outer = edge_line(road, side, span, 0.3), edge_line(road, side, span, -depth + 0.1)
    return Decal((np.concatenate([inner, outer[::-1]]),), "concrete", gain=2.0)


def _on_lane(rng: np.random.Generator, lane: Lane, wear: float) -> Iterable[Decal]:
    line = lane.centerline
    length = total_length(line)
    for _ in range(int(rng.poisson(wear * length / 60.0))):
        begin, shift = float(rng.uniform(0, length)), float(rng.uniform(-1.3, 1.3))
        end = min(begin + float(rng.uniform(6, 45)), length)
        yield Decal((strip(line, begin, end, float(rng.uniform(0.3, 1.1)), shift),), "asphalt",
                    gain=float(rng.uniform(0.5, 0.85)))  # fmt: skip
    for _ in range(int(rng.poisson(wear * length / 45.0))):
        yield _sealed_crack(rng, line, length)
    for _ in range(int(rng.poisson(length / 45.0))):
        spot = points_at(line, rng.uniform(0, length, 1))[0] + rng.normal(0, 0.6, 2)
        radius, corners = float(rng.uniform(0.3, 0.42)), 4 if rng.random() < 0.3 else 14
        disc = np.asarray(shapely.Point(0, 0).buffer(1.0, quad_segs=max(corners // 4, 1)).exterior.coords)
        yield Decal((spot + disc * radius * 1.35,), "concrete", gain=float(rng.uniform(0.6, 1.3)))
        yield Decal((spot + disc * radius,), "metal", IRON, gain=float(rng.uniform(0.5, 2.2)))
    if rng.random() < length / 220.0:
        begin, sway = float(rng.uniform(0, 0.7 * length)), float(rng.normal(0, 0.4))
        end = min(begin + float(rng.uniform(5, 25)), length)
        marks = tuple(strip(line, begin, end, 0.2, sway + side) for side in (-0.78, 0.78))
        yield Decal(marks, "rubber", gain=0.25, cover=float(rng.uniform(0.15, 0.5)))


def _sealed_crack(rng: np.random.Generator, line: np.ndarray, length: float) -> Decal:
    """A snake of tar."""
    spot = points_at(line, rng.uniform(0, length, 1))[0]
    heading = float(rng.uniform(0, 2 * np.pi)) + np.cumsum(rng.normal(0, 0.25, int(rng.integers(5, 22))))
    path = spot + np.cumsum(0.7 * directions(heading), axis=0)
    return Decal((strip(path, 0.0, total_length(path), float(rng.uniform(0.05, 0.1))),), "asphalt", gain=0.28)


def _old_lines(rng: np.random.Generator, markings: list[Marking]) -> Iterable[Decal]:
    """Ghosts of lines that were painted elsewhere before: blackened or burnt off."""
    for marking in markings:
        if rng.random() < 0.1:
            side = float(rng.choice([-1, 1]) * rng.uniform(0.3, 1.6))
            ring = strip(marking.line, 0.0, total_length(marking.line), 0.18, side)
            yield Decal((ring,), "asphalt", gain=float(rng.choice([0.5, 1.5])), cover=float(rng.uniform(0.3, 0.8)))


def _rails(route: np.ndarray) -> Iterable[Decal]:
    """A tram's rails along a route, each with the groove beside it."""
    length = total_length(route)
    half = TRAM_GAUGE_M / 2
    for side in (-half, half):
        inward = -np.sign(side) * 0.07
        yield Decal((strip(route, 0.0, length, 0.07, side),), "metal", (0.4, 0.4, 0.4))
        yield Decal((strip(route, 0.0, length, 0.05, side + inward),), "metal", (0.02, 0.02, 0.02))


def _fallen_leaves(rng: np.random.Generator, layout: Layout, share: float) -> Iterable[Decal]:
    """Heaps and single leaves along the kerbs."""
    for road in layout.network.roads:
        length = total_length(road.line)
        for side in (-1, 1):
            for at in np.arange(float(rng.uniform(0, 12)), length - 4, 9.0)[: int(share * length / 9.0)]:
                kerb = edge_line(road, side, (float(at), float(at) + 3.0), 0.3)
                middle = kerb.mean(axis=0)
                spots = middle + rng.normal(0, 1.0, (int(rng.integers(8, 45)), 1)) * (kerb[-1] - kerb[0]) / 3.0
                spots = spots + rng.normal(0, 0.3, spots.shape)
                shape = rng.normal(0, 0.07, (len(spots), 4, 2)) + np.array([[-1, 0], [0, -1], [1, 0], [0, 1]]) * 0.05
                yield Decal(tuple(spots[:, None] + shape), "leaves", LEAVES[rng.integers(len(LEAVES))], cover=0.9)
