"""Which lane boundaries are dividers: MapTRv2's answer and P-MapNet's, each line once, pieces joined.

MapTRv2 (https://github.com/hustvl/MapTR, branch maptrv2, custom_av2_map_converter.py) takes the boundary between two
neighbouring lanes outside of intersections, painted or not; of lines that cover each other to nine tenths, one.

P-MapNet (https://github.com/jike5/P-MapNet, av2map_extractor.py; the same in StreamMapNet) takes every boundary with
paint, in intersections too; of two that run within half a metre of each other, the first, and none that runs so along
the border of the road.

Deliberate differences of both: the choice is made once for the whole log and not for each frame's patch, so that a line
does not come and go with what else is in sight; pieces are joined where two meet, so that at a fork no line is taken
twice; MapTRv2 smooths its lines by up to 0.2 m, here every vertex is kept.
"""

from collections.abc import Iterable

import numpy as np
import shapely
from shapely import LineString, STRtree

from hdmap_core.datasets.argoverse.map_file import LaneSegment

_UNPAINTED = ("NONE", "UNKNOWN")
_COVERED = 0.9
"""From this overlap on, of strips 2 m wide, MapTRv2 counts two lines as one."""
_STRIP_M = 1.0
_NEAR_M = 0.3
_SHARE = 0.2
"""P-MapNet's: overlap of strips 0.6 m wide in square metres per metre of the shorter line."""
_JOIN_M = 0.1


def between_neighbours(lanes: dict[int, LaneSegment]) -> list[LineString]:
    """MapTRv2's dividers, map frame.

    Args:
        lanes: of the map, by id.
    """
    open_road = {token: lane for token, lane in lanes.items() if not lane.is_intersection}
    left = {token: lane.left_neighbour for token, lane in open_road.items() if lane.left_neighbour is not None}
    given = set(left.values())
    lines = [open_road[token].left for token in left]
    # A right boundary that the neighbour names as its left one is there already.
    lines += [
        lane.right
        for token, lane in open_road.items()
        if lane.right_neighbour is not None and (lane.right_neighbour not in left or token not in given)
    ]
    found = _distinct(lines)
    strips = shapely.buffer(np.array(found, dtype=object), _STRIP_M, cap_style="flat", join_style="mitre")
    tree, dropped = STRtree(strips), set()
    for first, strip in enumerate(strips):
        for other in sorted(tree.query(strip, predicate="intersects").tolist()) if first not in dropped else ():
            if other <= first or other in dropped:
                continue
            shared = strip.intersection(strips[other]).area
            if shared >= _COVERED * (strip.area + strips[other].area - shared):
                dropped.add(other)
    return _joined([line for number, line in enumerate(found) if number not in dropped])


def painted(lanes: dict[int, LaneSegment], border: Iterable[LineString]) -> list[LineString]:
    """P-MapNet's dividers, map frame.

    Args:
        lanes: of the map, by id.
        border: of the road.
    """
    sides = [
        line
        for lane in lanes.values()
        for line, mark in ((lane.right, lane.right_mark), (lane.left, lane.left_mark))
        if mark not in _UNPAINTED
    ]
    found = _distinct(sides)
    edges = np.array(list(border), dtype=object)
    edge_tree, tree = STRtree(edges), STRtree(found)
    kept: set[int] = set()
    for number, line in enumerate(found):
        others = [found[other] for other in tree.query(line.buffer(2 * _NEAR_M)).tolist() if other in kept]
        # Short pieces of one long border: all that is near counts together.
        near = edges[edge_tree.query(line.buffer(2 * _NEAR_M))]
        border_near = [shapely.MultiLineString(list(near))] if len(near) else []
        if not any(_runs_along(line, other) for other in others) and not any(
            _runs_along(line, edge, line.length) for edge in border_near
        ):
            kept.add(number)
    return _joined([found[number] for number in sorted(kept)], _JOIN_M)


def _runs_along(line: LineString, other: shapely.Geometry, length: float | None = None) -> bool:
    shorter = min(line.length, other.length) if length is None else length
    # Without round ends, which would count the next piece of the same line.
    strips = (shape.buffer(_NEAR_M, cap_style="flat") for shape in (line, other))
    return bool(shapely.intersection(*strips).area > _SHARE * shorter)


def _distinct(lines: list[np.ndarray]) -> list[LineString]:
    """Lines of two points and more, those once that are the same in either direction."""
    seen: set[bytes] = set()
    found = []
    for line in lines:
        keys = [np.round(points, 3).tobytes() for points in (line, line[::-1])]
        if len(line) > 1 and not seen.intersection(keys):
            seen.update(keys)
            found.append(LineString(line))
    return [line for line in found if line.length > 0]


def _joined(lines: list[LineString], reach: float = 0.0) -> list[LineString]:
    """Lines joined where the ends of exactly two meet, to within `reach` metres."""
    if reach and lines:
        ends = shapely.points(np.array([line.coords[at] for line in lines for at in (0, -1)]))
        tree = STRtree(ends)
        near = [tree.query(end, predicate="dwithin", distance=reach).tolist() for end in ends]
        pulled = []
        for number, line in enumerate(lines):
            points = shapely.get_coordinates(line, include_z=True)
            for at, place in ((0, 2 * number), (-1, 2 * number + 1)):
                points[at] = shapely.get_coordinates(ends[min(near[place])], include_z=True)[0]
            pulled.append(LineString(points))
        lines = [line for line in pulled if line.length > 0]
    return list(shapely.get_parts(shapely.line_merge(shapely.MultiLineString(lines))))
