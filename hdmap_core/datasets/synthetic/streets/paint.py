"""Paint on the road: dividers, crossings and stop lines, each lane's border where it really is."""

from dataclasses import replace

import numpy as np
import shapely
from shapely import LineString, Polygon

from hdmap_core.datasets.synthetic.curve import cut, directions, headings_at, left_of, offset, points_at, total_length
from hdmap_core.datasets.synthetic.streets.junctions import Span, Zones, free_spans, open_span
from hdmap_core.datasets.synthetic.streets.roads import Network, Road
from hdmap_core.datasets.synthetic.town import Crossing, CrossingStyle, Marking, MarkingStyle

CROSSING_STYLES: tuple[CrossingStyle, ...] = ("zebra", "ladder", "lines")


def draw_mid_crossings(
    rng: np.random.Generator, network: Network, zones: Zones, share: float = 0.45
) -> dict[int, Span]:
    """Crossings between junctions, on a share of the roads: index → (begin, end) in metres from the road's start."""
    found = {}
    for k in range(len(network.roads)):
        start, end = open_span(network, zones, k)
        if end - start > 42 and rng.random() < share:
            depth = float(rng.uniform(2.6, 5.0))
            begin = float(rng.uniform(start + 14, end - 14 - depth))
            found[k] = (begin, begin + depth)
    return found


def crossings(
    rng: np.random.Generator, network: Network, zones: Zones, mid_crossings: dict[int, Span]
) -> list[Crossing]:
    """Quadrilaterals across the whole road; most crossings of a town look alike."""
    favourite = CROSSING_STYLES[rng.choice(3, p=[0.6, 0.2, 0.2])]
    spans = list(mid_crossings.items())
    for (k, at_start), zone in zones.items():
        if zone.crossing is not None:
            spans.append((k, _from_start(network.roads[k], at_start, zone.crossing)))
    found = []
    for k, (begin, end) in spans:
        road = network.roads[k]
        half = road.profile.width / 2 - float(rng.uniform(0.15, 0.6))
        # The paint follows the kerbs, but the quadrilateral is straight: take one direction for both ends.
        middle = (begin + end) / 2
        centre = points_at(road.line, middle)
        direction = directions(headings_at(road.line, middle, 1.5))
        ahead, left = direction * (end - begin) / 2, left_of(direction) * half
        corners = np.stack([centre - ahead - left, centre + ahead - left, centre + ahead + left, centre - ahead + left])
        style = favourite if rng.random() < 0.8 else CROSSING_STYLES[rng.integers(3)]
        found.append(Crossing(corners, style))
    return found


def with_stripes_of_their_own(rng: np.random.Generator, painted: list[Crossing]) -> list[Crossing]:
    """Crossings as this town paints them, each a little different."""
    stripe, gap, edge = rng.uniform(0.35, 0.65), rng.uniform(0.4, 0.8), rng.uniform(0.15, 0.35)
    found = []
    for crossing in painted:
        width = float(stripe * rng.uniform(0.9, 1.1))
        found.append(replace(crossing, stripe_m=width, period_m=width + float(gap), edge_m=float(edge)))
    return found


def stop_lines(network: Network, zones: Zones) -> list[np.ndarray]:
    """(4, 2) corners each: a bar across the lanes that enter the junction."""
    bars = []
    for (k, at_start), zone in zones.items():
        if zone.stop_line is None:
            continue
        road = network.roads[k]
        begin, end = _from_start(road, at_start, zone.stop_line)
        edges = road.profile.backward_edges() if at_start else road.profile.forward_edges()
        piece = cut(road.line, begin, end)
        right, left = offset(piece, edges[0] + 0.15)[[0, -1]], offset(piece, edges[-1] - 0.15)[[0, -1]]
        bars.append(np.concatenate([right, left[::-1]]))
    return bars


def markings(network: Network, zones: Zones, taken: dict[int, list[Span]], painted: list[Crossing]) -> list[Marking]:
    """Every divider of the town, interrupted where it is `taken` along a road and at crossings (`painted`)."""
    found: list[Marking] = []
    for k, road in enumerate(network.roads):
        if not road.profile.is_marked:
            continue
        for a, b in free_spans(open_span(network, zones, k), taken.get(k, []), 5.0):
            found += _markings_of(road, cut(road.line, a, b))
    return clear_of_crossings(found, painted)


def clear_of_crossings(found: list[Marking], painted: list[Crossing]) -> list[Marking]:
    """Markings without what lies on crossings, in pieces of 4 m and more."""
    # In a bend the straight quadrilateral of a crossing reaches further than its span along the road.
    taken = shapely.union_all([shapely.buffer(Polygon(crossing.corners), 0.3) for crossing in painted])
    return [
        replace(marking, line=shapely.get_coordinates(part))
        for marking in found
        for part in shapely.get_parts(shapely.difference(LineString(marking.line), taken))
        if part.length >= 4.0
    ]


def _markings_of(road: Road, piece: np.ndarray) -> list[Marking]:
    profile = road.profile
    found = [
        Marking(offset(piece, edge), "lane_divider", profile.lane_style, "white")
        for edges in (profile.forward_edges(), profile.backward_edges())
        for edge in edges[1:-1]
    ]
    if not (profile.forward and profile.backward):
        return found
    inner = (profile.forward_edges()[-1], profile.backward_edges()[0])
    if profile.median_kind == "none":
        found.append(Marking(offset(piece, inner[0]), "road_divider", profile.divider_style, profile.divider_colour))
    elif profile.median_kind == "painted":
        style: MarkingStyle = "solid" if profile.divider_style == "dashed" else profile.divider_style
        found += [Marking(offset(piece, edge), "road_divider", style, profile.divider_colour) for edge in inner]
    return found


def _from_start(road: Road, at_start: bool, span: Span) -> Span:
    """A span measured from a junction → the same span measured from the road's start, in rising order."""
    if at_start:
        return span
    length = total_length(road.line)
    return length - span[1], length - span[0]
