"""Arrows, words and hatching on the lanes of the second edition: paint that is no map element."""

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
import shapely
from shapely import LineString

from hdmap_core.datasets.synthetic.curve import cut, directions, left_of, offset, points_at, resample, total_length
from hdmap_core.datasets.synthetic.streets.junctions import Span, open_span
from hdmap_core.datasets.synthetic.streets.layout import Layout
from hdmap_core.datasets.synthetic.streets.medians import Pocket
from hdmap_core.datasets.synthetic.streets.roads import Road
from hdmap_core.datasets.synthetic.streets.roadside import edge_line
from hdmap_core.datasets.synthetic.streets.symbols import ARROWS, arrow_rings, bar, on_line, word_rings
from hdmap_core.datasets.synthetic.town import Decal, DecalMaterial, Lane, RoadSegment

WORDS = ("SLOW", "STOP", "BUS", "AHEAD", "SCHOOL", "KEEP", "ONLY", "XING", "30", "40", "50", "BIKE")
HATCH_M = 2.2


def draw_symbols(rng: np.random.Generator, layout: Layout, drives_left: bool) -> list[Decal]:
    """All symbols of the town, which is mirrored later on where traffic keeps left."""
    found: list[Decal] = []
    share = float(rng.uniform(0.2, 0.8))
    for lane in layout.lanes:
        length = total_length(lane.centerline)
        if not lane.is_connector and length > 22.0:
            found += _on_lane(rng, lane, length, share, drives_left)
    for (k, at_start), pocket in (layout.pockets or {}).items():
        found += _in_pocket(layout.network.roads[k], at_start, pocket)
    for k, road in enumerate(layout.network.roads):
        if road.profile.median_kind == "painted" and road.profile.median > 1.2:
            begin, end = open_span(layout.network, layout.zones, k)
            found.append(_chevrons(rng, road, (begin + 1, end - 1)))
    for k, side, span, depth in layout.beside.bays:
        if span[1] - span[0] > 14 and rng.random() < 0.5:
            line = edge_line(layout.network.roads[k], side, span, -depth / 2)
            line = line if side < 0 else line[::-1]
            rings = word_rings("BUS", 2.2, 1.9, 0.14, drives_left)
            found.append(Decal(on_line(rings, line, total_length(line) / 2), "yellow_paint"))
    for segment in layout.surface.road_segments:
        if segment.is_intersection and segment.polygon.area > 250 and rng.random() < 0.22:
            found.append(_box_junction(segment))
    return found


def _on_lane(rng: np.random.Generator, lane: Lane, length: float, share: float, drives_left: bool) -> Iterable[Decal]:
    colour: DecalMaterial = "white_paint" if rng.random() < 0.93 else "yellow_paint"
    if rng.random() < share:
        rings = arrow_rings(ARROWS[rng.integers(len(ARROWS))], float(rng.uniform(2.8, 5.0)))
        for back in (13.0, 33.0):
            if length > back + 12:
                yield Decal(on_line(rings, lane.centerline, length - back), colour)
    if length > 40 and rng.random() < 0.25 * share:
        word = WORDS[rng.integers(len(WORDS))]
        rings = word_rings(word, float(rng.uniform(1.6, 4.0)), float(rng.uniform(1.6, 2.3)), 0.15, drives_left)
        yield Decal(on_line(rings, lane.centerline, float(rng.uniform(8, length - 26))), colour)


def _in_pocket(road: Road, at_start: bool, pocket: Pocket) -> Iterable[Decal]:
    """Arrows, and a bar where the pocket ends."""
    whole, length = total_length(road.line), pocket.begin - pocket.end
    end, half = pocket.end, pocket.width / 2
    line = cut(road.line, end, end + length) if at_start else cut(road.line, whole - end - length, whole - end)
    edge = road.profile.backward_edges()[0] - half if at_start else road.profile.forward_edges()[-1] + half
    middle = offset(resample(line, 2.0), float(edge))
    middle = middle[::-1] if at_start else middle
    for back in (8.0, 22.0):
        if length > back + 5:
            yield Decal(on_line(arrow_rings("left", 4.0), middle, length - back), "white_paint")
    if length > 12:
        spot, ahead = points_at(middle, length - 0.3), middle[-1] - middle[-2]
        aside = left_of(ahead) / max(float(np.hypot(*ahead)), 1e-9) * (half - 0.2)
        yield Decal((bar(spot + aside, spot - aside, 0.4),), "white_paint")


def _chevrons(rng: np.random.Generator, road: Road, span: Span) -> Decal:
    """Slanting bars in a painted median."""
    profile = road.profile
    colour: DecalMaterial = "yellow_paint" if profile.divider_colour == "yellow" else "white_paint"
    right, left = profile.forward_edges()[-1] + 0.2, profile.backward_edges()[0] - 0.2
    lines = [offset(road.line, float(edge)) for edge in (right, left)]
    at = np.arange(span[0] + 1.0, span[1] - 3.0, float(rng.uniform(2.0, 4.5)))
    slant, width = float(rng.choice([-1.0, 1.0])) * profile.median, float(rng.uniform(0.15, 0.4))
    starts, ends = points_at(lines[0], at), points_at(lines[1], at + slant)
    return Decal(tuple(bar(a, b, width) for a, b in zip(starts, ends, strict=True)), colour)


def _box_junction(segment: RoadSegment) -> Decal:
    """A yellow grid that nobody may stop on."""
    area = shapely.buffer(segment.polygon, -2.0)
    middle, reach = np.array(segment.polygon.centroid.coords[0]), 60.0
    area = shapely.intersection(area, shapely.Point(middle).buffer(11.0))
    rings = []
    for heading in (np.pi / 4, -np.pi / 4):
        ahead = directions(heading)
        left = left_of(ahead)
        for shift in np.arange(-reach, reach, HATCH_M):
            line = LineString([middle + left * shift - ahead * reach, middle + left * shift + ahead * reach])
            for part in shapely.get_parts(shapely.intersection(line, area)):
                if part.geom_type == "LineString" and part.length > 0.5:
                    a, b = np.array(part.coords)
                    count = max(int(part.length // 6.0), 1)
                    stops = a + np.linspace(0, 1, count + 1)[:, None] * (b - a)
                    rings += [bar(p, q, 0.15) for p, q in pairwise(stops)]
    return Decal(tuple(rings), "yellow_paint")
