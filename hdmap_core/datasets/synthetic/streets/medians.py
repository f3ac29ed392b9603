"""Raised medians: open where people cross; in the second edition also where cars turn, and cut back for pockets."""

from dataclasses import dataclass

import numpy as np
import shapely
from shapely import LineString, Polygon

from hdmap_core.datasets.synthetic.curve import cut, offset, resample, total_length
from hdmap_core.datasets.synthetic.streets.junctions import RoadEnd, Span, Zones, free_spans, open_span
from hdmap_core.datasets.synthetic.streets.roads import Network, Profile, Road
from hdmap_core.datasets.synthetic.streets.surface import GRID_M

LEAST_WIDTH_M = 4.5
"""Of a median that a pocket is cut out of."""
TAPER_M = 11.0


@dataclass(frozen=True)
class Pocket:
    """A lane for those who turn, between the lanes that enter a junction and the median: metres from the junction."""

    end: float
    begin: float
    width: float


Pockets = dict[RoadEnd, Pocket]


def draw_pockets(rng: np.random.Generator, network: Network, zones: Zones) -> Pockets:
    """Pockets by the road's end that they lead to."""
    found: Pockets = {}
    for arms in network.arms:
        for arm in arms:
            road, key = network.roads[arm.road], (arm.road, arm.at_start)
            room = total_length(road.line) - zones[arm.road, True].free - zones[arm.road, False].free
            if len(arms) < 3 or road.profile.median_kind != "island" or road.profile.median < LEAST_WIDTH_M:
                continue
            if room > 55 and rng.random() < 0.85:
                end = zones[key].free
                width = float(rng.uniform(2.8, min(3.3, road.profile.median - 1.5)))
                found[key] = Pocket(end, end + float(rng.uniform(16, min(40, room / 2 - TAPER_M))), width)
    return found


def pocket_lines(network: Network, pockets: Pockets) -> list[tuple[int, np.ndarray]]:
    """(road, line) of the divider between each pocket and the lane beside it."""
    found = []
    for (k, at_start), pocket in pockets.items():
        road = network.roads[k]
        length = total_length(road.line)
        span = (pocket.end, pocket.begin) if at_start else (length - pocket.begin, length - pocket.end)
        beside = road.profile.backward_edges()[0] if at_start else road.profile.forward_edges()[-1]
        found.append((k, offset(resample(cut(road.line, *span), 2.0), float(beside))))
    return found


def raised_medians(
    rng: np.random.Generator, network: Network, zones: Zones, gaps: dict[int, list[Span]], pockets: Pockets
) -> list[Polygon]:
    """Those of the second edition; `gaps` are the places along each road where it is open."""
    islands = []
    for k, road in enumerate(network.roads):
        if road.profile.median_kind != "island":
            continue
        begin, end = open_span(network, zones, k)
        whole = begin - float(rng.uniform(0.0, 0.8)), end + float(rng.uniform(0.0, 0.8))
        for a, b in free_spans(whole, gaps.get(k, []), 6.0):
            island = _island(road, a, b, pockets.get((k, True)), pockets.get((k, False)))
            islands += [shapely.set_precision(part, GRID_M) for part in island if part.area > 1.5]
    return islands


def _island(road: Road, a: float, b: float, first: Pocket | None, last: Pocket | None) -> list[Polygon]:
    profile: Profile = road.profile
    piece = resample(cut(road.line, a, b), 1.0)
    along, length = np.linspace(a, b, len(piece)), total_length(road.line)
    right = np.full(len(piece), profile.forward_edges()[-1] + 0.25)
    left = np.full(len(piece), profile.backward_edges()[0] - 0.25)
    if last is not None:
        right += last.width * np.clip((along - (length - last.begin)) / TAPER_M + 1.0, 0.0, 1.0)
    if first is not None:
        left -= first.width * np.clip((first.begin - along) / TAPER_M + 1.0, 0.0, 1.0)
    strip = Polygon(np.concatenate([offset(piece, right), offset(piece, left)[::-1]]))
    radius = min(0.3 * float((left - right).min()), 0.8)
    if radius < 0.1:
        return []
    rounded = shapely.buffer(shapely.buffer(strip, -radius), radius, quad_segs=4)
    return [part for part in shapely.get_parts(rounded) if part.geom_type == "Polygon"]


def straight_medians(
    rng: np.random.Generator, network: Network, zones: Zones, gaps: dict[int, list[Span]]
) -> list[Polygon]:
    """Those of the first edition: of one width, rounded at both ends, interrupted at `gaps` along each road."""
    islands = []
    for k, road in enumerate(network.roads):
        profile = road.profile
        if profile.median_kind != "island":
            continue
        begin, end = open_span(network, zones, k)
        half = profile.median / 2 - 0.3
        middle = (profile.forward_edges()[-1] + profile.backward_edges()[0]) / 2
        for a, b in free_spans((begin + 0.5, end - 0.5), gaps.get(k, []), 2 * half + 4):
            if road.is_stub and rng.random() < 0.3:
                continue
            spine = offset(cut(road.line, a + half, b - half), middle)
            islands.append(shapely.set_precision(shapely.buffer(LineString(spine), half, quad_segs=5), GRID_M))
    return islands
