"""The road network of a town: junctions, roads between them, and each road's cross-section.

The plan is a rectangular grid of streets that is stretched, turned and bent by a smooth warp, with some pieces taken
away (T-junctions, loops), some added across blocks, and ends that run out of town. Everything here is for driving on
the right; `world` mirrors the finished town where traffic keeps left.
"""

from dataclasses import dataclass

import numpy as np

from hdmap_core.datasets.synthetic.curve import (
    cut,
    headings_at,
    left_of,
    lengths_along,
    resample,
    round_bend,
    total_length,
)
from hdmap_core.datasets.synthetic.town import MarkingColour, MarkingStyle

STEP = 2.0
"""Spacing of centre line points in metres."""
DIVIDER_PAINTS: tuple[tuple[MarkingStyle, MarkingColour], ...] = (
    ("double_solid", "yellow"),
    ("solid", "yellow"),
    ("dashed", "yellow"),
    ("dashed", "white"),
    ("solid", "white"),
)


@dataclass(frozen=True)
class Profile:
    """Cross-section of a road, looking along its centre line. Widths in metres; the outline is symmetric about it."""

    forward: int
    backward: int
    lane_width: float
    median: float = 0.0
    """Width between the directions; 0 is a mere line."""
    median_kind: str = "none"
    """none, island (raised), painted (a line on either side)."""
    divider_style: MarkingStyle = "double_solid"
    divider_colour: MarkingColour = "yellow"
    lane_style: MarkingStyle = "dashed"
    is_marked: bool = True
    parking_right: float = 0.0
    parking_left: float = 0.0
    margin: float = 0.4
    walkway: float = 2.5

    @property
    def width(self) -> float:
        """Kerb to kerb in metres."""
        lanes = (self.forward + self.backward) * self.lane_width
        return lanes + self.median + self.parking_left + self.parking_right + 2 * self.margin

    @property
    def right_edge(self) -> float:
        """Offset (left positive) of the right border of the rightmost forward lane."""
        return -self.width / 2 + self.margin + self.parking_right

    def forward_edges(self) -> np.ndarray:
        """(forward + 1,) offsets of the lane borders, right to left."""
        return self.right_edge + self.lane_width * np.arange(self.forward + 1)

    def backward_edges(self) -> np.ndarray:
        """(backward + 1,) offsets of the lane borders of the oncoming lanes, right to left."""
        return self.forward_edges()[-1] + self.median + self.lane_width * np.arange(self.backward + 1)


@dataclass(frozen=True)
class Road:
    """A road from junction `start` to junction `end` (indices into `Network.nodes`)."""

    line: np.ndarray
    start: int
    end: int
    profile: Profile
    is_stub: bool = False
    """Ends at the border of the town."""


@dataclass(frozen=True)
class Arm:
    """One road as seen from a junction."""

    road: int
    at_start: bool
    heading: float
    """Direction from the junction outwards."""
    half_width: float


@dataclass(frozen=True)
class Network:
    """Junctions (`nodes` (N, 2), metres) and the roads between them."""

    nodes: np.ndarray
    roads: tuple[Road, ...]
    arms: tuple[tuple[Arm, ...], ...]
    """Per node, in counter-clockwise order."""


def draw_profile(rng: np.random.Generator, rank: str) -> Profile:
    """A cross-section for a street of a rank: arterial, collector, local or lane (narrow, no markings)."""
    width = float(rng.uniform(3.0, 3.7))
    margin = float(rng.uniform(0.25, 0.7))
    walkway = float(rng.choice([0.0, 1.6, 2.2, 3.0, 4.5], p=[0.08, 0.22, 0.3, 0.25, 0.15]))
    parking = tuple(float(p) for p in np.where(rng.random(2) < {"local": 0.5, "lane": 0.3}.get(rank, 0.2), 2.2, 0.0))
    style, colour = DIVIDER_PAINTS[rng.choice(5, p=[0.46, 0.2, 0.12, 0.14, 0.08])]
    lane_style: MarkingStyle = "dashed" if rng.random() < 0.8 else "solid"
    median, kind = 0.0, "none"
    if rank == "arterial":
        forward, backward = [(2, 2), (3, 2), (3, 3), (2, 3)][rng.choice(4, p=[0.46, 0.18, 0.18, 0.18])]
        kind = ["none", "island", "painted"][rng.choice(3, p=[0.42, 0.38, 0.2])]
        median = {"none": 0.0, "island": float(rng.uniform(1.6, 4.0)), "painted": float(rng.uniform(1.0, 2.0))}[kind]
    elif rank == "collector":
        forward, backward = [(1, 1), (2, 1), (1, 2), (2, 2)][rng.choice(4, p=[0.08, 0.26, 0.26, 0.4])]
        if rng.random() < 0.12:
            median, kind = float(rng.uniform(1.2, 2.0)), "island"
    elif rank == "one_way":
        forward, backward = int(rng.choice([1, 2, 3], p=[0.12, 0.48, 0.4])), 0
        if rng.random() < 0.5:
            forward, backward = backward, forward
    else:
        forward, backward = 1, 1
    if rank == "lane":
        width, walkway = float(rng.uniform(2.6, 3.0)), float(rng.choice([0.0, 1.5]))
    return Profile(forward, backward, width, median, kind, style, colour, lane_style, rank != "lane",
                   parking[0], parking[1], margin, walkway)  # fmt: skip


def draw_rank(rng: np.random.Generator) -> str:
    """How important a through street is; most have several lanes."""
    return ["arterial", "collector", "local", "one_way", "lane"][rng.choice(5, p=[0.4, 0.28, 0.12, 0.17, 0.03])]


class Warp:
    """A smooth map from the plan's grid to the ground: a turn plus a few long waves."""

    def __init__(self, rng: np.random.Generator, centre: np.ndarray) -> None:
        self.centre = centre
        angle = float(rng.uniform(0, 2 * np.pi))
        self.rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        self.waves = rng.uniform(-1, 1, (3, 2)) * 2 * np.pi / rng.uniform(140, 300, (3, 1))
        self.phases = rng.uniform(0, 2 * np.pi, 3)
        self.shifts = rng.normal(size=(3, 2))
        self.shifts *= rng.uniform(1.0, 9.0, (3, 1)) / np.linalg.norm(self.shifts, axis=1, keepdims=True)

    def __call__(self, plan: np.ndarray) -> np.ndarray:
        """(N, 2) plan coordinates about the middle of town → (N, 2) ground coordinates."""
        waves = np.sin(plan @ self.waves.T + self.phases) @ self.shifts
        return (plan + waves) @ self.rotation.T + self.centre


def _bulge(rng: np.random.Generator, line: np.ndarray) -> np.ndarray:
    """Bend a plan edge sideways without touching the direction at its ends."""
    length = total_length(line)
    amplitude = float(rng.normal(0, 0.035) * length) if rng.random() < 0.5 else 0.0
    along = lengths_along(line) / length
    waves = 2 if rng.random() < 0.25 else 1
    side = np.sin(np.pi * along) ** 2 * (np.cos(np.pi * along) * 2 if waves == 2 else 1.0)
    direction = (line[-1] - line[0]) / length
    return line + amplitude * side[:, None] * left_of(direction)


def generate_network(rng: np.random.Generator, size: tuple[float, float]) -> Network:
    """Draw a network that fits into `size` (width, height in metres)."""
    centre = np.array(size) / 2
    warp = Warp(rng, centre)
    columns, rows = (_axis(rng, size[axis]) for axis in (0, 1))
    positions = [(x, y) for y in rows for x in columns]
    column_profiles = [draw_profile(rng, draw_rank(rng)) for _ in columns]
    row_profiles = [draw_profile(rng, draw_rank(rng)) for _ in rows]
    width = len(columns)
    edges: list[tuple[int, int, Profile]] = []
    for j in range(len(rows)):
        edges += [(j * width + i, j * width + i + 1, row_profiles[j]) for i in range(width - 1)]
    for i in range(width):
        edges += [(j * width + i, (j + 1) * width + i, column_profiles[i]) for j in range(len(rows) - 1)]
    edges = _thin_out(rng, edges, len(positions))
    lines = [(_plan_line(rng, positions[a], positions[b]), a, b, profile) for a, b, profile in edges]
    lines = _add_connectors(rng, lines, positions)
    roads = [Road(resample(warp(line), STEP), a, b, profile) for line, a, b, profile in lines]
    nodes = [warp(np.array([p]))[0] for p in positions]
    roads += _stubs(rng, warp, positions, nodes, columns, rows, (column_profiles, row_profiles), size)
    roads = _round_corners(rng, roads, len(nodes))
    return Network(np.array(nodes), tuple(roads), arms_of(roads, len(nodes)))


def _axis(rng: np.random.Generator, extent: float) -> np.ndarray:
    """Plan positions of parallel streets, about 0."""
    span = extent - 110.0
    count = max(2, round(span / float(rng.uniform(68, 112))) + 1)
    spacing = span / (count - 1)
    jitter = rng.uniform(-0.17, 0.17, count) * spacing
    return np.linspace(-span / 2, span / 2, count) + np.clip(jitter, -14, 14)


def _plan_line(rng: np.random.Generator, start: tuple[float, float], end: tuple[float, float]) -> np.ndarray:
    return _bulge(rng, resample(np.array([start, end], dtype=np.float64), STEP))


def _thin_out(
    rng: np.random.Generator, edges: list[tuple[int, int, Profile]], count: int
) -> list[tuple[int, int, Profile]]:
    """Take some streets away, but leave every junction at least two."""
    degree = np.bincount(np.array([edge[:2] for edge in edges]).ravel(), minlength=count)
    kept = []
    for edge in edges:
        if rng.random() < 0.16 and degree[edge[0]] > 2 and degree[edge[1]] > 2:
            degree[list(edge[:2])] -= 1
        else:
            kept.append(edge)
    return kept


def _add_connectors(
    rng: np.random.Generator,
    lines: list[tuple[np.ndarray, int, int, Profile]],
    positions: list[tuple[float, float]],
) -> list[tuple[np.ndarray, int, int, Profile]]:
    """Split pairs of opposite long edges in the middle and join them by a narrow street: T-junctions."""
    for _ in range(2):
        long = [k for k, (line, *_) in enumerate(lines) if total_length(line) > 92]
        pairs = [(a, b) for a in long for b in long if a < b and _faces(lines[a][0], lines[b][0])]
        if not pairs or rng.random() < 0.35:
            continue
        first, second = pairs[rng.integers(len(pairs))]
        middles = []
        for k in (first, second):
            line, a, b, profile = lines[k]
            split = float(rng.uniform(0.45, 0.55)) * total_length(line)
            middle = len(positions)
            middles.append(middle)
            half = cut(line, 0.0, split)
            positions.append((float(half[-1][0]), float(half[-1][1])))
            lines[k] = (half, a, middle, profile)
            lines.append((cut(line, split, total_length(line)), middle, b, profile))
        profile = draw_profile(rng, ["local", "lane", "one_way"][rng.choice(3, p=[0.6, 0.2, 0.2])])
        start, end = middles
        lines.append((_plan_line(rng, positions[start], positions[end]), start, end, profile))
    return lines


def _faces(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two plan edges are opposite sides of one block."""
    a, b = first[-1] - first[0], second[-1] - second[0]
    apart = second.mean(axis=0) - first.mean(axis=0)
    gap = float(np.hypot(*apart))
    return (
        60 < gap < 125 and abs(a @ b) > 0.95 * np.hypot(*a) * np.hypot(*b) and abs(apart @ a) < 0.1 * gap * np.hypot(*a)
    )


def _stubs(
    rng: np.random.Generator,
    warp: Warp,
    positions: list[tuple[float, float]],
    nodes: list[np.ndarray],
    columns: np.ndarray,
    rows: np.ndarray,
    profiles: tuple[list[Profile], list[Profile]],
    size: tuple[float, float],
) -> list[Road]:
    """Streets that leave town: from border junctions outwards until the border of the canvas. Adds to `nodes`."""
    width, roads = len(columns), []
    ends = [
        (j * width + i, (dx, 0.0), profiles[1][j]) for j in range(len(rows)) for i, dx in ((0, -1.0), (width - 1, 1.0))
    ]
    ends += [
        (j * width + i, (0.0, dy), profiles[0][i]) for i in range(width) for j, dy in ((0, -1.0), (len(rows) - 1, 1.0))
    ]
    for node, direction, profile in ends:
        plan = np.array(positions[node]) + np.arange(0.0, 120.0, STEP)[:, None] * np.array(direction)
        line = warp(plan)
        inside = np.all((line > 14) & (line < np.array(size) - 14), axis=1)
        stop = len(line) if inside.all() else int(np.argmin(inside))
        if stop * STEP < 36 or rng.random() < 0.3:
            continue
        # Which end is the start decides what is forward; keep the direction of the street it continues.
        outward = direction[0] + direction[1] > 0
        line = resample(line[:stop] if outward else line[:stop][::-1], STEP)
        nodes.append(line[-1] if outward else line[0])
        outer = len(nodes) - 1
        roads.append(Road(line, node if outward else outer, outer if outward else node, profile, True))
    return roads


def _round_corners(rng: np.random.Generator, roads: list[Road], count: int) -> list[Road]:
    """Merge the two roads of every node that has only two into one road with a bend."""
    for node in range(count):
        touching = [k for k, road in enumerate(roads) if node in (road.start, road.end)]
        if len(touching) != 2 or roads[touching[0]].start == roads[touching[0]].end:
            continue
        first, second = roads[touching[0]], roads[touching[1]]
        if {first.start, first.end} == {second.start, second.end}:
            continue
        # The road with more lanes rules the pair; the other is turned to follow on.
        if second.profile.width > first.profile.width:
            first, second = second, first
        if first.end == node:
            before, after = first.line, second.line if second.start == node else second.line[::-1]
            start, end = first.start, second.end if second.start == node else second.start
        else:
            before, after = second.line if second.end == node else second.line[::-1], first.line
            start, end = second.start if second.end == node else second.end, first.end
        line = round_bend(before, after, first.profile.width / 2 + float(rng.uniform(7, 16)), STEP)
        merged = Road(line, start, end, first.profile, first.is_stub or second.is_stub)
        roads = [road for k, road in enumerate(roads) if k not in touching] + [merged]
    return roads


def arms_of(roads: list[Road], count: int) -> tuple[tuple[Arm, ...], ...]:
    """Per junction the roads that meet there, counter-clockwise."""
    arms: list[list[Arm]] = [[] for _ in range(count)]
    for k, road in enumerate(roads):
        length = total_length(road.line)
        # The direction a few metres into the road, since bends begin right at the junction.
        ends = headings_at(road.line, np.array([6.0, length - 6.0]), 6.0)
        arms[road.start].append(Arm(k, True, float(ends[0]), road.profile.width / 2))
        arms[road.end].append(Arm(k, False, float((ends[1] + 2 * np.pi) % (2 * np.pi) - np.pi), road.profile.width / 2))
    return tuple(tuple(sorted(node, key=lambda arm: arm.heading % (2 * np.pi))) for node in arms)
