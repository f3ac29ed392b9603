"""Lanes, the connectors through junctions, and routes along them."""

from itertools import pairwise

import numpy as np
import shapely
from shapely import MultiPolygon, Polygon

from hdmap_core.datasets.synthetic.curve import bezier, cut, headings_at, offset, resample, smooth, total_length
from hdmap_core.datasets.synthetic.streets.junctions import RoadEnd, Trims
from hdmap_core.datasets.synthetic.streets.roads import Network
from hdmap_core.datasets.synthetic.town import Lane

STRAIGHT_RAD = 0.65
ROUTE_STEP_M = 0.5
ROUTE_LENGTH_M = 290.0
NUM_ROUTES = 8
LANE_GAP_M = 0.5
"""Lanes end this far inside their road segment: edges that lie on one another only to within rounding would leave
slits in the union of both, and a slit is a false boundary."""


def _strip(line: np.ndarray, right: float, left: float) -> Polygon:
    return Polygon(np.round(np.concatenate([offset(line, right), offset(line, left)[::-1]]), 3))


def build_lanes(network: Network, trim: Trims, roundness: float) -> tuple[list[Lane], list[int]]:
    """All lanes, then all connectors; beside it the road index of each (-1 for connectors).

    `roundness` is how far connectors keep to their lanes' directions: at 0.39 a turn is an arc, above it is tighter.
    """
    lanes: list[Lane] = []
    roads_of: list[int] = []
    # (road, leaves at the road's end) → lane indices from right to left as the driver sees them
    groups: dict[RoadEnd, list[int]] = {}
    for k, road in enumerate(network.roads):
        profile = road.profile
        piece = resample(
            cut(road.line, trim[k, True] + LANE_GAP_M, total_length(road.line) - trim[k, False] - LANE_GAP_M), 2.0
        )
        for edges, is_forward in ((profile.forward_edges(), True), (profile.backward_edges(), False)):
            group = []
            for right, left in pairwise(edges):
                centre = offset(piece, (right + left) / 2)
                group.append(len(lanes))
                lanes.append(Lane(_strip(piece, right, left), centre if is_forward else centre[::-1], False))
                roads_of.append(k)
            groups[k, is_forward] = group if is_forward else group[::-1]
    links: dict[int, list[int]] = {}
    for arms in network.arms:
        if len(arms) < 3:
            continue
        for arm in arms:
            entering = groups[arm.road, not arm.at_start]
            exits = [(other.road, groups[other.road, other.at_start]) for other in arms if other is not arm]
            for lane, target in _turns(lanes, entering, [group for _, group in exits if group]):
                links.setdefault(lane, []).append(len(lanes))
                lanes.append(_connector(lanes[lane], lanes[target], target, roundness))
                roads_of.append(-1)
    joined = [
        Lane(lane.polygon, lane.centerline, lane.is_connector, tuple(links[k]) if k in links else lane.outgoing)
        for k, lane in enumerate(lanes)
    ]
    return joined, roads_of


def _end_heading(line: np.ndarray) -> float:
    return float(headings_at(line, total_length(line), 2.0))


def _start_heading(line: np.ndarray) -> float:
    return float(headings_at(line, 0.0, 2.0))


def _turns(lanes: list[Lane], entering: list[int], exits: list[list[int]]) -> list[tuple[int, int]]:
    """Which lane leads to which: right turns from the right lane, left turns from the left, straight lane by lane."""
    pairs: list[tuple[int, int]] = []
    for group in exits:
        if not entering:
            continue
        turn = _start_heading(lanes[group[0]].centerline) - _end_heading(lanes[entering[0]].centerline)
        turn = (turn + np.pi) % (2 * np.pi) - np.pi
        if abs(turn) > 2.6:
            continue
        if abs(turn) < STRAIGHT_RAD:
            pairs += [(lane, group[min(i, len(group) - 1)]) for i, lane in enumerate(entering)]
        elif turn < 0:
            pairs.append((entering[0], group[0]))
        else:
            pairs.append((entering[-1], group[-1]))
    for i, lane in enumerate(entering):
        if pairs and all(lane != source for source, _ in pairs):
            # A middle lane where nothing goes straight on: follow the neighbour.
            nearest = min(pairs, key=lambda pair: abs(entering.index(pair[0]) - i))
            pairs.append((lane, nearest[1]))
    return sorted(set(pairs))


def _connector(source: Lane, target: Lane, target_index: int, roundness: float) -> Lane:
    line = bezier(
        source.centerline[-1], _end_heading(source.centerline),
        target.centerline[0], _start_heading(target.centerline), 1.0, roundness,
    )  # fmt: skip
    return Lane(_strip(line, -1.5, 1.5), line, True, (target_index,))


def draw_routes(
    rng: np.random.Generator, lanes: list[Lane], roads_of: list[int], area: MultiPolygon, spare: float | None
) -> list[np.ndarray]:
    """Up to 8 smooth paths of at least 290 m; each next one covers as much new road as it can.

    `area` is where the middle of a car may be; paths that leave it are not taken. A path may end in a dead end `spare`
    metres before the wall; None: it ends at the junction before.
    """
    shapely.prepare(area)
    candidates: list[tuple[list[int], np.ndarray]] = []
    starts = [k for k, lane in enumerate(lanes) if not lane.is_connector]
    for _ in range(NUM_ROUTES * 14):
        path = [int(rng.choice(starts))]
        covered = total_length(lanes[path[0]].centerline)
        visited = {roads_of[path[0]]}
        while covered < ROUTE_LENGTH_M + 40 and lanes[path[-1]].outgoing:
            options = list(lanes[path[-1]].outgoing)
            fresh = [option for option in options if roads_of[lanes[option].outgoing[0]] not in visited]
            connector = int(rng.choice(fresh or options))
            path += [connector, lanes[connector].outgoing[0]]
            visited.add(roads_of[path[-1]])
            covered += sum(total_length(lanes[k].centerline) for k in path[-2:])
        # A last lane without a way on is a dead end: nobody is to drive up to its wall.
        is_dead_end = not lanes[path[-1]].outgoing
        if is_dead_end and spare is not None:
            covered -= spare
        elif is_dead_end:
            covered -= total_length(lanes[path[-1]].centerline)
            path = path[:-2]
        if path and covered >= ROUTE_LENGTH_M:
            points = np.concatenate([lanes[k].centerline for k in path])
            keep = np.concatenate([[True], np.hypot(*np.diff(points, axis=0).T) > 0.05])
            line = points[keep]
            if is_dead_end and spare is not None:
                line = cut(line, 0.0, total_length(line) - spare)
            route = smooth(resample(line, ROUTE_STEP_M), ROUTE_STEP_M, 2.0)
            if total_length(route) >= ROUTE_LENGTH_M and shapely.contains_xy(area, route).all():
                candidates.append((path, route))
    chosen: list[np.ndarray] = []
    seen: set[int] = set()
    while candidates and len(chosen) < NUM_ROUTES:
        gains = [len({roads_of[k] for k in path} - {-1} - seen) - 0.01 * len(path) for path, _ in candidates]
        path, route = candidates.pop(int(np.argmax(gains)))
        seen |= {roads_of[k] for k in path}
        chosen.append(route)
    return chosen
