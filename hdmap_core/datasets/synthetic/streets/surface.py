"""The asphalt of a town: where junctions end, kerbs run and islands stand, and the coverage by road segments."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from shapely import LineString, MultiPolygon, Polygon

from hdmap_core.datasets.synthetic.curve import cut, directions, headings_at, left_of, offset, points_at, total_length
from hdmap_core.datasets.synthetic.streets.roads import Arm, Network, Road
from hdmap_core.datasets.synthetic.town import RoadSegment

GRID_M = 0.001
"""All outlines are rounded to this, so that neighbours share vertices exactly."""


class LayoutError(Exception):
    """A drawn network that leaves too little room between two junctions; the town generator draws again."""


@dataclass(frozen=True)
class ArmZone:
    """What happens between a junction and the open road, as distances from the junction along the arm, in metres."""

    trim: float
    """Here the junction ends."""
    crossing: tuple[float, float] | None
    stop_line: tuple[float, float] | None
    free: float
    """From here on there are lane markings and medians."""


@dataclass(frozen=True)
class Surface:
    """What is asphalt and what stands on it."""

    drivable: MultiPolygon
    outline: MultiPolygon
    """`drivable` with its islands filled."""
    road_segments: tuple[RoadSegment, ...]
    islands: tuple[Polygon, ...]


def junction_radii(rng: np.random.Generator, network: Network) -> np.ndarray:
    """(nodes,) fillet radius of each junction's kerbs in metres."""
    town = float(rng.uniform(5.0, 9.0))
    return np.clip(town + rng.normal(0, 0.7, len(network.nodes)), 5.0, 9.0)


def trims(network: Network, radii: np.ndarray) -> dict[tuple[int, bool], float]:
    """How far from its junction each road end is free of it: (road, at_start) → metres.

    For neighbouring arms with half-widths h, k and angle a between them the kerbs meet (k + h cos a) / sin a along the
    first arm, and the fillet of radius r ends r / tan(a / 2) further out.

    Raises:
        LayoutError: two junctions lie too close together.
    """
    out: dict[tuple[int, bool], float] = {}
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


def _check_apart(network: Network, trim: dict[tuple[int, bool], float]) -> None:
    """Refuse roads that meet anywhere but at a junction."""
    bands = [
        shapely.buffer(LineString(_open_line(network, k, trim)), road.profile.width / 2 + 2.0, cap_style="flat")
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


def arm_zones(
    rng: np.random.Generator, network: Network, trim: dict[tuple[int, bool], float],
    crossed: Sequence[float] | None = None,
) -> dict[tuple[int, bool], ArmZone]:  # fmt: skip
    """Draw crossings and stop lines at the junctions; `crossed`: how likely each has any, else 0.82."""
    zones: dict[tuple[int, bool], ArmZone] = {}
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


def cross_line(road: Road, along: float, overhang: float) -> LineString:
    """A straight line across the road `along` metres from its start, from kerb to kerb and `overhang` beyond."""
    centre = points_at(road.line, along)
    left = left_of(directions(headings_at(road.line, along, 1.0)))
    reach = (road.profile.width / 2 + overhang) * left
    return LineString([centre - reach, centre + reach])


def build_surface(
    network: Network, radii: np.ndarray, trim: dict[tuple[int, bool], float], islands: list[Polygon],
    beside: Sequence[Polygon] = (),
) -> Surface:  # fmt: skip
    """Union of the roads with rounded junction corners, less the islands, cut into road segments at the junctions.

    What lies `beside` the roads (driveways, bays) is part of their segments.

    Raises:
        LayoutError: the pieces do not form a clean coverage.
    """
    bands = [
        shapely.buffer(LineString(road.line), road.profile.width / 2, cap_style="flat", quad_segs=4)
        for road in network.roads
    ]
    junctions, junction_nodes = [], []
    for node, arms in enumerate(network.arms):
        if len(arms) < 3:
            continue
        arms_area = shapely.union_all([_arm_area(network, arm, trim[arm.road, arm.at_start] + 3.0) for arm in arms])
        radius = float(radii[node])
        junctions.append(arms_area.buffer(radius, quad_segs=6).buffer(-radius, quad_segs=6))
        junction_nodes.append(node)
    whole = (
        shapely.union_all([*bands, *junctions, *beside])
        .buffer(0.05, join_style="mitre")
        .buffer(-0.05, join_style="mitre")
    )
    whole = shapely.set_precision(shapely.simplify(whole, 0.01), GRID_M)
    drivable = shapely.set_precision(whole.difference(shapely.union_all(islands)), GRID_M) if islands else whole
    cuts = [
        cross_line(network.roads[arm.road], _along(network, arm, trim[arm.road, arm.at_start]), 0.6)
        for node in junction_nodes
        for arm in network.arms[node]
    ]
    linework = shapely.union_all([drivable.boundary, *cuts], grid_size=GRID_M)
    # A node every few metres: devkit queries see nodes, not edges. Done once, before neighbours part.
    pieces = shapely.get_parts(shapely.segmentize(linework, 4.0))
    pieces = shapely.transform(pieces, lambda xy: np.round(xy / GRID_M) * GRID_M)
    faces = shapely.get_parts(shapely.polygonize(list(pieces)))
    shapely.prepare(drivable)
    faces = faces[shapely.contains(drivable, shapely.point_on_surface(faces)) & (shapely.area(faces) > 1e-4)]
    reps = shapely.point_on_surface(faces)
    roads_only = shapely.union_all([*(_open_road(network, k, trim) for k in range(len(network.roads))), *beside])
    shapely.prepare(roads_only)
    segments = tuple(
        RoadSegment(face, not bool(inside))
        for face, inside in zip(faces, shapely.contains(roads_only, reps), strict=True)
    )
    exact = shapely.union_all(faces)
    if not is_coverage(faces, exact) or abs(exact.area - drivable.area) > 0.05 + 1e-4 * drivable.area:
        raise LayoutError("road segments do not cover the asphalt")
    return Surface(_as_multi(exact), _as_multi(whole), segments, _islands_of(exact, islands))


def check_junctions(network: Network, trim: dict[tuple[int, bool], float], surface: Surface) -> None:
    """Refuse a surface whose road segments take a junction for a part of a road, or the other way round.

    Raises:
        LayoutError: a cut between a road and its junction did not reach from kerb to kerb.
    """
    crossed = shapely.union_all([segment.polygon for segment in surface.road_segments if segment.is_intersection])
    nodes = [node for node, arms in zip(network.nodes, network.arms, strict=True) if len(arms) > 2]
    inside = [shapely.intersection(_open_road(network, k, trim), crossed).area for k in range(len(network.roads))]
    if max(inside) > 4.0 or not shapely.contains_xy(crossed, np.array(nodes)).all():
        raise LayoutError("a junction is not cut off from its roads")


def is_coverage(faces: np.ndarray, union: shapely.Geometry) -> bool:
    """Whether polygons meet along whole edges and never overlap: edges of one polygon alone are the union's outline.

    What `shapely.coverage_is_valid` says, which Shapely 2.0 lacks. `faces` is an array of polygons.
    """
    points, ring = shapely.get_coordinates(shapely.get_rings(faces), return_index=True)
    edges = np.concatenate([points[:-1], points[1:]], axis=1)[ring[:-1] == ring[1:]]
    backwards = np.lexsort((edges[:, [1, 3]], edges[:, [0, 2]]))[:, 0] == 1
    edges[backwards] = edges[backwards][:, [2, 3, 0, 1]]
    edges, times = np.unique(edges, axis=0, return_counts=True)
    outline = np.linalg.norm(edges[:, 2:] - edges[:, :2], axis=1)[times == 1].sum()
    return bool(times.max() <= 2 and abs(outline - shapely.length(union)) < 1e-6)


def _islands_of(drivable: Polygon | MultiPolygon, islands: list[Polygon]) -> tuple[Polygon, ...]:
    """The islands exactly as they are cut out of the asphalt."""
    holes = [Polygon(ring) for part in shapely.get_parts(drivable) for ring in part.interiors]
    middles = shapely.points([shapely.point_on_surface(island).coords[0] for island in islands]) if islands else []
    return tuple(hole for hole in holes if hole.area < 600 and any(hole.contains(middle) for middle in middles))


def _as_multi(area: Polygon | MultiPolygon) -> MultiPolygon:
    return area if isinstance(area, MultiPolygon) else MultiPolygon([area])


def _along(network: Network, arm: Arm, distance: float) -> float:
    """Distance from the junction → distance from the road's start."""
    return distance if arm.at_start else total_length(network.roads[arm.road].line) - distance


def _arm_area(network: Network, arm: Arm, reach: float) -> Polygon:
    road = network.roads[arm.road]
    ends = sorted((_along(network, arm, 0.0), _along(network, arm, min(reach, total_length(road.line)))))
    return shapely.buffer(LineString(cut(road.line, *ends)), arm.half_width, cap_style="flat", quad_segs=4)


def _open_road(network: Network, k: int, trim: dict[tuple[int, bool], float]) -> Polygon:
    line = LineString(_open_line(network, k, trim))
    return shapely.buffer(line, network.roads[k].profile.width / 2 + 0.3, cap_style="flat")


def _open_line(network: Network, k: int, trim: dict[tuple[int, bool], float]) -> np.ndarray:
    line = network.roads[k].line
    return cut(line, trim[k, True], total_length(line) - trim[k, False])


def median_islands(
    rng: np.random.Generator, network: Network, zones: dict[tuple[int, bool], ArmZone],
    mid_crossings: dict[int, tuple[float, float]],
) -> list[Polygon]:  # fmt: skip
    """Raised medians, rounded at both ends, interrupted where people cross."""
    islands = []
    for k, road in enumerate(network.roads):
        profile = road.profile
        if profile.median_kind != "island":
            continue
        start, end = zones[k, True].free + 0.5, total_length(road.line) - zones[k, False].free - 0.5
        spans = [(start, end)]
        if k in mid_crossings:
            spans = [(start, mid_crossings[k][0] - 0.8), (mid_crossings[k][1] + 0.8, end)]
        half = profile.median / 2 - 0.3
        middle = (profile.forward_edges()[-1] + profile.backward_edges()[0]) / 2
        for a, b in spans:
            if b - a < 2 * half + 4 or (road.is_stub and rng.random() < 0.3):
                continue
            spine = offset(cut(road.line, a + half, b - half), middle)
            islands.append(shapely.set_precision(shapely.buffer(LineString(spine), half, quad_segs=5), GRID_M))
    return islands
