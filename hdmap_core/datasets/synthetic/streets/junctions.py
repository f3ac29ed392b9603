"""Where junctions end, what lies between them and the open road, and stretches along a road."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from shapely import LineString

from hdmap_core.datasets.synthetic.curve import cut, total_length
from hdmap_core.datasets.synthetic.streets.roads import Network

Span = tuple[float, float]
"""Begin and end in metres along a line."""
RoadEnd = tuple[int, bool]
"""Index of a road, and whether its start (else its end) is meant."""


class LayoutError(Exception):
    """A drawn network that leaves too little room between two junctions; the town generator draws again."""


@dataclass(frozen=True)
class ArmZone:
    """What happens between a junction and the open road, as distances from the junction along the arm, in metres."""

    trim: float
    """Here the junction ends."""
    crossing: Span | None
    stop_line: Span | None
    free: float
    """From here on there are lane markings and medians."""


Zones = dict[RoadEnd, ArmZone]
Trims = dict[RoadEnd, float]
"""How far from its junction each road end is free of it, in metres."""


def junction_radii(rng: np.random.Generator, network: Network) -> np.ndarray:
    """(nodes,) fillet radius of each junction's kerbs in metres."""
    town = float(rng.uniform(5.0, 9.0))
    return np.clip(town + rng.normal(0, 0.7, len(network.nodes)), 5.0, 9.0)


def trims(network: Network, radii: np.ndarray) -> Trims:
    """How far from its junction each road end is free of it.

    For neighbouring arms with half-widths h, k and angle a between them the kerbs meet (k + h cos a) / sin a along the
    first arm, and the fillet of radius r ends r / tan(a / 2) further out.

    Raises:
        LayoutError: two junctions lie too close together.
    """
    out: Trims = {}
    for node, arms in enumerate(network.arms):
        for i, arm in enumerate(arms):
            # At a dead end lanes stop short of the wall, so that rounding cannot push them through it.
            reach = 4.0 if len(arms) > 1 else 0.8
            for neighbour in (arms[i - 1], arms[(i + 1) % len(arms)]):
                angle = abs((neighbour.heading - arm.heading + np.pi) % (2 * np.pi) - np.pi)
                if len(arms) < 2 or neighbour is arm or angle > np.pi - 0.3:
                    continue
                if angle < 0.6:
                    raise LayoutError("two roads leave a junction at too sharp an angle")
                corner = (neighbour.half_width + arm.half_width * np.cos(angle)) / np.sin(angle)
                reach = max(reach, corner + radii[node] / np.tan(angle / 2) + 0.8)
            out[arm.road, arm.at_start] = float(reach)
    for k, road in enumerate(network.roads):
        if total_length(road.line) - out[k, True] - out[k, False] < 9.0:
            raise LayoutError("two junctions lie too close together")
    _check_apart(network, out)
    return out


def _check_apart(network: Network, trim: Trims) -> None:
    """Refuse roads that meet anywhere but at a junction."""
    bands = [
        shapely.buffer(LineString(open_line(network, k, trim)), road.profile.width / 2 + 2.0, cap_style="flat")
        for k, road in enumerate(network.roads)
    ]
    first, second = shapely.STRtree(bands).query(bands, predicate="intersects")
    if np.any(first != second):
        raise LayoutError("two roads touch away from a junction")
    for k, road in enumerate(network.roads):
        for node, arms in enumerate(network.arms):
            if node in (road.start, road.end) or len(arms) < 3:
                continue
            if bands[k].distance(shapely.Point(network.nodes[node])) < 4.0:
                raise LayoutError("a road runs into a junction that is not its own")


def arm_zones(rng: np.random.Generator, network: Network, trim: Trims, crossed: Sequence[float] | None = None) -> Zones:
    """Draw crossings and stop lines at the junctions; `crossed`: how likely each has any, else 0.82."""
    zones: Zones = {}
    for node, arms in enumerate(network.arms):
        is_crossed = rng.random() < (crossed[node] if crossed is not None else 0.82)
        for arm in arms:
            road = network.roads[arm.road]
            key = (arm.road, arm.at_start)
            at = trim[key]
            room = (total_length(road.line) - trim[arm.road, True] - trim[arm.road, False]) / 2
            crossing = stop = None
            entering = road.profile.backward if arm.at_start else road.profile.forward
            if len(arms) > 2 and is_crossed and rng.random() < 0.8 and room > 8.0:
                begin = at + float(rng.uniform(0.2, 1.4))
                crossing = (begin, begin + float(rng.uniform(2.4, 4.6)))
                at = crossing[1]
            if len(arms) > 2 and entering and rng.random() < (0.75 if crossing else 0.35) and room > 10.0:
                begin = at + float(rng.uniform(0.7, 1.6))
                stop = (begin, begin + 0.4)
                at = stop[1]
            free = at + (float(rng.uniform(0.2, 1.2)) if stop or crossing else 0.0)
            zones[key] = ArmZone(trim[key], crossing, stop, free)
    return zones


def open_span(network: Network, zones: Zones, k: int) -> Span:
    """Where road `k` is open, from its start: beyond the crossings and stop lines of its junctions."""
    return zones[k, True].free, total_length(network.roads[k].line) - zones[k, False].free


def open_line(network: Network, k: int, trim: Trims) -> np.ndarray:
    """(P, 2) the line of road `k` outside its junctions."""
    line = network.roads[k].line
    return cut(line, trim[k, True], total_length(line) - trim[k, False])


def free_spans(whole: Span, taken: Sequence[Span], least: float) -> list[Span]:
    """What is left of a span without those taken, in pieces of at least `least` metres."""
    spans, begin = [], whole[0]
    for low, high in sorted(taken):
        spans.append((begin, min(low, whole[1])))
        begin = max(begin, high)
    spans.append((begin, whole[1]))
    return [(a, b) for a, b in spans if b - a >= least]
