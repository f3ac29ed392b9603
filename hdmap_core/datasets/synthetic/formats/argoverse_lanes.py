"""A town's lanes as Argoverse 2 has them: segments whose boundaries are the paint.

In nuScenes a divider is a line of its own; there it is the boundary that two segments share. So the lanes of a road,
side by side, are cut wherever paint on one of their sides begins or ends, and along painted stretches the boundary is
the painted line itself, vertex by vertex. Paint that has a lane on one side only, or none, as in driveways, gets a
narrow segment beside it. Lanes are neighbours where paint lies between them.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import shapely
from shapely import LineString

from hdmap_core.datasets.synthetic.curve import lengths_along, offset, points_at
from hdmap_core.datasets.synthetic.town import Lane, Marking

_ON_SIDE_M = 0.15
_SAME_CUT_M = 0.3
_STRIP_M = 0.5
_MARKS = {
    "solid": "SOLID", "dashed": "DASHED", "double_solid": "DOUBLE_SOLID", "double_dashed": "DOUBLE_DASH",
    "solid_dashed": "SOLID_DASH",
}  # fmt: skip


@dataclass
class Segment:
    """A lane segment to be written: boundaries (P, 2), what they are painted with, and the segments around it."""

    left: np.ndarray
    right: np.ndarray
    is_intersection: bool = False
    left_mark: str = "NONE"
    right_mark: str = "NONE"
    left_neighbour: int | None = None
    right_neighbour: int | None = None
    predecessors: list[int] = field(default_factory=list)
    successors: list[int] = field(default_factory=list)


@dataclass
class _Stretch:
    """Paint along a side, from `start` to `end` metres along it."""

    start: float
    end: float
    line: np.ndarray
    mark: str


@dataclass
class _Side:
    """One side of a lane, or the line between two, in the direction of its road."""

    points: np.ndarray
    lanes: list[int] = field(default_factory=list)
    paint: list[_Stretch] = field(default_factory=list)
    pieces: list[np.ndarray] = field(default_factory=list)
    marks: list[str] = field(default_factory=list)

    @property
    def length(self) -> float:
        return float(lengths_along(self.points)[-1])

    def cut(self, places: Iterable[float]) -> None:
        """Pieces and marks between successive places, metres along; paint begins and ends at places."""
        at = np.maximum.accumulate([0.0, *places, self.length])
        over = [self._paint_over(start, end) for start, end in pairwise(at)]
        nodes = [self._node(place, over[max(0, k - 1) : k + 1]) for k, place in enumerate(at)]
        for k, paint in enumerate(over):
            line, start, end = self.points, at[k], at[k + 1]
            if paint is not None:
                line = paint.line
                start, end = (_on(paint, place) for place in (start, end))
            along = lengths_along(line)
            inner = line[(along > start + 1e-6) & (along < end - 1e-6)]
            self.pieces.append(np.concatenate([nodes[k][None], inner, nodes[k + 1][None]]))
            self.marks.append("NONE" if paint is None else paint.mark)

    def _paint_over(self, start: float, end: float) -> _Stretch | None:
        whole = [paint for paint in self.paint if paint.start <= start + 1e-9 and end <= paint.end + 1e-9]
        return whole[0] if whole and end - start > 1e-6 else None

    def _node(self, place: float, beside: list[_Stretch | None]) -> np.ndarray:
        paint = next((paint for paint in beside if paint is not None), None)
        if paint is None:
            return points_at(self.points, place)
        return points_at(paint.line, _on(paint, place))


def _on(paint: _Stretch, place: float) -> float:
    """Metres along the painted line of a place along its side; its ends are met exactly."""
    share = (place - paint.start) / (paint.end - paint.start)
    return float(lengths_along(paint.line)[-1] * min(max(share, 0.0), 1.0))


def lane_segments(lanes: Iterable[Lane], markings: Iterable[Marking]) -> list[Segment]:
    """Segments of a town; neighbours, predecessors and successors are places in this list.

    Args:
        lanes: of the town, in the frame that the segments shall have.
        markings: its dividers, likewise.
    """
    lanes = list(lanes)
    borders = [sides_of(lane) for lane in lanes]
    sides, of_lane = _sides(lanes, borders)
    groups = _side_by_side(lanes, sides, of_lane, borders)
    loose = _put_on_sides(list(sides.values()), markings)
    segments: list[Segment] = []
    first_last: dict[int, tuple[int, int]] = {}
    for group in groups:
        _add_group(segments, first_last, group, sides, of_lane)
    for k, lane in enumerate(lanes):
        if lane.is_connector:
            first_last[k] = (len(segments), len(segments))
            segments.append(Segment(*borders[k], is_intersection=True))
    for k, lane in enumerate(lanes):
        for target in lane.outgoing:
            before, after = first_last[k][1], first_last[target][0]
            segments[before].successors.append(after)
            segments[after].predecessors.append(before)
    for line, mark in loose:
        segments += [Segment(offset(line, _STRIP_M), line, right_mark=mark, right_neighbour=len(segments) + 1),
                     Segment(line, offset(line, -_STRIP_M), left_mark=mark, left_neighbour=len(segments))]  # fmt: skip
    return segments


def sides_of(lane: Lane) -> tuple[np.ndarray, np.ndarray]:
    """The left and the right side (P, 2) of a lane's strip, in the driving direction."""
    ring = np.array(lane.polygon.exterior.coords)[:-1]
    middles = (ring + np.roll(ring, -1, axis=0)) / 2
    start, end = (int(np.argmin(np.hypot(*(middles - place).T))) for place in lane.centerline[[0, -1]])
    rolled = np.roll(ring, -(start + 1), axis=0)
    count = (end - start) % len(ring)
    one, other = rolled[:count], rolled[count:][::-1]
    across, along = other[0] - one[0], lane.centerline[1] - lane.centerline[0]
    return (other, one) if along[0] * across[1] - along[1] * across[0] > 0 else (one, other)


_Key = tuple[frozenset[tuple[float, ...]], float]


def _sides(
    lanes: list[Lane], borders: list[tuple[np.ndarray, np.ndarray]]
) -> tuple[dict[_Key, _Side], dict[int, tuple[_Key, _Key]]]:
    """Every side once, and the keys of the left and the right one of each lane that is no connector."""
    sides: dict[_Key, _Side] = {}
    of_lane = {}
    for k, lane in enumerate(lanes):
        if lane.is_connector:
            continue
        keys: list[_Key] = []
        for points in borders[k]:
            ends = frozenset(tuple(np.round(point, 2).tolist()) for point in points[[0, -1]])
            key = (ends, float(round(lengths_along(points)[-1])))
            sides.setdefault(key, _Side(points)).lanes.append(k)
            keys.append(key)
        of_lane[k] = (keys[0], keys[1])
    return sides, of_lane


def _side_by_side(
    lanes: list[Lane],
    sides: dict[_Key, _Side],
    of_lane: dict[int, tuple[_Key, _Key]],
    borders: list[tuple[np.ndarray, np.ndarray]],
) -> list[dict[int, bool]]:
    """Lanes that share sides -> whether each runs as its first lane does; turns all sides that way."""
    groups: list[dict[int, bool]] = []
    placed: set[int] = set()
    for first in of_lane:
        if first in placed:
            continue
        group, waiting = {first: True}, [first]
        while waiting:
            lane = waiting.pop()
            for key, points in zip(of_lane[lane], borders[lane], strict=True):
                sides[key].points = points if group[lane] else points[::-1]
                for other in sides[key].lanes:
                    if other not in group:
                        theirs = borders[other][of_lane[other].index(key)]
                        same = np.allclose(theirs[0], points[0], atol=0.02)
                        group[other] = group[lane] if same else not group[lane]
                        waiting.append(other)
        placed |= set(group)
        groups.append(group)
    return groups


def _put_on_sides(sides: list[_Side], markings: Iterable[Marking]) -> list[tuple[np.ndarray, str]]:
    """Gives each marking to the side that it runs along; returns those that run along none."""
    lines = [LineString(side.points) for side in sides]
    tree = shapely.STRtree(lines)
    loose = []
    for marking in markings:
        points, mark = marking.line, f"{_MARKS[marking.style]}_{marking.colour.upper()}"
        spots = shapely.points(points)
        for number in tree.query(LineString(points).buffer(_ON_SIDE_M)).tolist():
            start, end = (float(lines[number].project(spots[at])) for at in (0, -1))
            if shapely.distance(spots, lines[number]).max() > _ON_SIDE_M or abs(end - start) < _SAME_CUT_M:
                continue
            if any(p.start < max(start, end) and min(start, end) < p.end for p in sides[number].paint):
                continue
            line = points if start < end else points[::-1]
            sides[number].paint.append(_Stretch(min(start, end), max(start, end), line, mark))
            break
        else:
            loose.append((points, mark))
    return loose


def _add_group(
    segments: list[Segment],
    first_last: dict[int, tuple[int, int]],
    group: dict[int, bool],
    sides: dict[_Key, _Side],
    of_lane: dict[int, tuple[_Key, _Key]],
) -> None:
    """The segments of lanes side by side, cut at the same places, and the strips beside paint at their rims."""
    keys = list(dict.fromkeys(key for lane in group for key in of_lane[lane]))
    _cut_alike([sides[key] for key in keys])
    count = len(sides[keys[0]].pieces)
    place = {lane: len(segments) + number * count for number, lane in enumerate(group)}
    for lane, forward in group.items():
        left, right = (sides[key] for key in of_lane[lane])
        for k in range(count):
            edges = [side.pieces[k] if forward else side.pieces[k][::-1] for side in (left, right)]
            segments.append(Segment(edges[0], edges[1], left_mark=left.marks[k], right_mark=right.marks[k]))
        numbers = [place[lane] + k for k in range(count)][:: 1 if forward else -1]
        first_last[lane] = (numbers[0], numbers[-1])
        for before, after in pairwise(numbers):
            segments[before].successors.append(after)
            segments[after].predecessors.append(before)
    for lane in group:
        for on_left, key in zip((True, False), of_lane[lane], strict=True):
            beyond = [other for other in sides[key].lanes if other != lane]
            for k, mark in enumerate(sides[key].marks):
                if mark != "NONE":
                    own = place[lane] + k
                    neighbour = place[beyond[0]] + k if beyond else _add_strip(segments, own, on_left)
                    if on_left:
                        segments[own].left_neighbour = neighbour
                    else:
                        segments[own].right_neighbour = neighbour


def _add_strip(segments: list[Segment], beside: int, on_left: bool) -> int:
    """A narrow segment on the other side of a segment's painted boundary; returns its place."""
    lane = segments[beside]
    if on_left:
        strip = Segment(offset(lane.left, _STRIP_M), lane.left, right_mark=lane.left_mark, right_neighbour=beside)
    else:
        strip = Segment(lane.right, offset(lane.right, -_STRIP_M), left_mark=lane.right_mark, left_neighbour=beside)
    segments.append(strip)
    return len(segments) - 1


def _cut_alike(sides: list[_Side]) -> None:
    """Cuts sides wherever paint on one of them begins or ends; ends of several that are near are one cut."""
    ends = sorted(
        (place / side.length, number, place)
        for number, side in enumerate(sides)
        for paint in side.paint
        for place in (paint.start, paint.end)
    )
    cuts: list[dict[int, float]] = []
    shares: list[float] = []
    for share, number, place in ends:
        near = cuts and (share - shares[-1]) * sides[number].length < _SAME_CUT_M
        if not near or number in cuts[-1]:
            cuts.append({})
            shares.append(share)
        cuts[-1][number] = place
    for number, side in enumerate(sides):
        side.cut([cut.get(number, share * side.length) for cut, share in zip(cuts, shares, strict=True)])
