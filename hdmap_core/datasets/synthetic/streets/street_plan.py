"""The road network of a town of the second edition: streets that grow and meet, as those of real cities do.

One or two main streets run through the town in long bends. Side streets leave them on one side or on both, askew, and
wander until they meet another street, leave the town or end. So there are more T-junctions than crossroads, blocks of
every size, dead ends and loops. Everything is for driving on the right, as in `roads`.
"""

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import shapely
from shapely import LineString

from hdmap_core.datasets.synthetic.curve import cut, directions, headings_at, points_at, resample, smooth, total_length
from hdmap_core.datasets.synthetic.streets.junctions import LayoutError
from hdmap_core.datasets.synthetic.streets.roads import STEP, Network, Profile, Road, arms_of
from hdmap_core.datasets.synthetic.streets.street_profiles import Rank, draw_street_profile, varied

BORDER_M = 14.0
"""Streets that leave town end this far from its border."""
JUNCTION_GAP_M = {"main": 64.0, "collector": 54.0, "local": 44.0}
"""Least distance between two junctions of a street, by its rank."""
BEND_RADII_M = {"main": (150.0, 900.0), "collector": (60.0, 500.0), "local": (17.0, 200.0)}
STRAIGHT_M = {"main": 170.0, "collector": 130.0, "local": 95.0}
"""Mean length of the straight pieces between bends."""
LEAST_STREET_M = 42.0
LOOK_AHEAD_M = 50.0
SHARPEST_JUNCTION = np.deg2rad(58)


@dataclass
class _Street:
    """A growing street. `junctions`: distance along → node, its own beginning and end among them."""

    line: np.ndarray
    rank: Rank
    profile: Profile
    junctions: dict[float, int] = field(default_factory=dict)

    def has_room(self, along: float) -> bool:
        """Whether a junction may be made there."""
        gap, length = JUNCTION_GAP_M[self.rank], total_length(self.line)
        return min(along, length - along) > 38.0 and all(abs(along - at) > gap for at in self.junctions)


@dataclass
class _Plan:
    rng: np.random.Generator
    size: np.ndarray
    streets: list[_Street] = field(default_factory=list)
    nodes: list[np.ndarray] = field(default_factory=list)

    def junction(self, street: _Street, along: float) -> int:
        """The node of a street at a distance along it, made if it is not there."""
        if along not in street.junctions:
            self.nodes.append(points_at(street.line, along))
            street.junctions[along] = len(self.nodes) - 1
        return street.junctions[along]

    def within(self, line: np.ndarray) -> np.ndarray:
        """The beginning of a line, as far as it lies within the town."""
        ok = np.all((line > BORDER_M) & (line < self.size - BORDER_M), axis=1)
        return line if ok.all() else line[: int(np.argmin(ok))]


def generate_plan(rng: np.random.Generator, size: tuple[float, float]) -> Network:
    """Draw a network that fits into `size` (width, height in metres).

    Raises:
        LayoutError: nothing of use came about; draw again.
    """
    plan = _Plan(rng, np.array(size))
    middle, heading = plan.size / 2 + rng.uniform(-45, 45, 2), float(rng.uniform(0, 2 * np.pi))
    _add_through_street(plan, middle, heading, "main", None)
    if rng.random() < 0.9:
        first = plan.streets[0]
        along = float(rng.uniform(0.3, 0.7)) * total_length(first.line)
        turn = np.pi / 2 + float(np.clip(rng.normal(0, 0.22), -0.5, 0.5))
        start = points_at(first.line, along)
        heading = float(headings_at(first.line, along, 2.0)) + turn
        _add_through_street(plan, start, heading, "main" if rng.random() < 0.7 else "collector", (first, along))
    for _ in range(int(rng.integers(26, 46))):
        parent = plan.streets[rng.integers(len(plan.streets))]
        along = float(rng.uniform(0, total_length(parent.line)))
        if parent.has_room(along):
            side = int(rng.choice([-1, 1]))
            grew = _add_side_street(plan, parent, along, side)
            if grew and rng.random() < 0.3:
                _add_side_street(plan, parent, along, -side)
    return _network(plan)


def _add_through_street(
    plan: _Plan, at: np.ndarray, heading: float, rank: Rank, crossed: tuple[_Street, float] | None
) -> None:
    """A street both ways from a point until it leaves town."""
    reach = float(plan.size.max())
    halves = [_wander(plan.rng, at, heading + turn, reach, rank) for turn in (0.0, np.pi)]
    ahead, back = (plan.within(half) for half in halves)
    if min(len(ahead), len(back)) * STEP < 60:
        raise LayoutError("a main street leaves town at once")
    line = np.concatenate([back[::-1], ahead[1:]])
    street = _Street(line, rank, draw_street_profile(plan.rng, rank))
    if crossed is not None:
        if shapely.intersection(LineString(line), LineString(crossed[0].line)).geom_type != "Point":
            raise LayoutError("two main streets meet twice")
        street.junctions[(len(back) - 1) * STEP] = plan.junction(*crossed)
    plan.streets.append(street)


def _add_side_street(plan: _Plan, parent: _Street, along: float, side: int) -> bool:
    """A street that leaves another one; false if there is no room for it."""
    rng = plan.rng
    rank: Rank = "collector" if parent.rank != "local" and rng.random() < 0.55 else "local"
    at = points_at(parent.line, along)
    skew = float(np.clip(rng.normal(0, np.deg2rad(11)), -0.42, 0.42))
    heading = float(headings_at(parent.line, along, 2.0)) + side * np.pi / 2 + skew
    length = float(rng.uniform(50, 100) if rng.random() < 0.2 else rng.uniform(120, 400))
    line = plan.within(_wander(rng, at, heading, length, rank))
    profile = draw_street_profile(rng, rank)
    line, met = _until_met(plan, parent, line, profile.width / 2)
    if len(line) * STEP < LEAST_STREET_M or not LineString(line).is_simple:
        return False
    street = _Street(line, rank, profile, {0.0: plan.junction(parent, along)})
    if met is not None:
        street.junctions[total_length(line)] = plan.junction(*met)
    plan.streets.append(street)
    return True


def _until_met(
    plan: _Plan, parent: _Street, line: np.ndarray, half_width: float
) -> tuple[np.ndarray, tuple[_Street, float] | None]:
    """Cut a growing line where it comes near another street, and join it to the street ahead where that can be."""
    count = len(line)
    for street in plan.streets:
        gaps = shapely.distance(LineString(street.line), shapely.points(line))
        near = gaps < street.profile.width / 2 + half_width + 16.0
        near[: 22 if street is parent else 14] = False
        if near.any():
            count = min(count, int(np.argmax(near)))
    if count == len(line) or count < 16:
        return line[: count if count >= 16 else 0], None
    line = line[:count]
    tip, heading = line[-1], float(headings_at(line, total_length(line), 4.0))
    ray = LineString([tip, tip + LOOK_AHEAD_M * directions(heading)])
    hits = []
    for k, street in enumerate(plan.streets):
        for goal in shapely.get_coordinates(shapely.intersection(LineString(street.line), ray)):
            hits.append((float(np.hypot(*(goal - tip))), k, goal))
    if hits:
        _, k, goal = min(hits, key=lambda hit: hit[:2])
        street = plan.streets[k]
        along = float(LineString(street.line).project(shapely.Point(goal)))
        turn = float(headings_at(street.line, along, 2.0)) - heading
        if street.has_room(along) and abs(np.sin(turn)) > np.sin(SHARPEST_JUNCTION):
            line = np.concatenate([line, np.stack([tip, goal])[1:]])
            return smooth(resample(line, STEP), STEP, 3.0), (street, along)
    return line[:-2], None


def _wander(rng: np.random.Generator, start: np.ndarray, heading: float, length: float, rank: Rank) -> np.ndarray:
    """A line of straight pieces and bends as a rank has them; its first 24 m are straight."""
    curvature = [0.0] * int((24 + rng.exponential(STRAIGHT_M[rank] / 2)) / STEP)
    low, high = np.log(BEND_RADII_M[rank])
    while len(curvature) * STEP < length:
        radius = float(np.exp(rng.uniform(low, high)))
        turn = float(rng.uniform(0.06, 0.5) if radius > 60 else rng.uniform(0.5, 1.6))
        curvature += [float(rng.choice([-1, 1])) / radius] * max(int(radius * turn / STEP), 2)
        curvature += [0.0] * int((15 + rng.exponential(STRAIGHT_M[rank])) / STEP)
    smoothed = np.convolve(curvature, [0.2, 0.6, 0.2], mode="same")
    headings = heading + np.cumsum(smoothed) * STEP
    steps = STEP * directions(headings)
    return np.concatenate([[start], start + np.cumsum(steps, axis=0)])[: int(length / STEP) + 1]


def _network(plan: _Plan) -> Network:
    """Roads from junction to junction; where a street ends there is a node of its own."""
    roads: list[Road] = []
    nodes = list(plan.nodes)
    for street in plan.streets:
        length = total_length(street.line)
        stops = dict(sorted(street.junctions.items()))
        ends = {0.0, length} - {at for at in stops if min(at, length - at) < 1e-6}
        for at in (end for end in ends if all(abs(end - stop) > 1e-6 for stop in stops)):
            nodes.append(street.line[0 if at == 0.0 else -1])
            stops[at] = len(nodes) - 1
        places = sorted(stops)
        profile = street.profile
        for begin, end in pairwise(places):
            line = resample(cut(street.line, begin, end), STEP)
            is_stub = stops[begin] >= len(plan.nodes) or stops[end] >= len(plan.nodes)
            roads.append(Road(line, stops[begin], stops[end], profile, is_stub))
            profile = varied(plan.rng, profile)
    return Network(np.array(nodes), tuple(roads), arms_of(roads, len(nodes)))
