"""The asphalt of a town: where kerbs run and islands stand, and the coverage by road segments."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from shapely import LineString, MultiPolygon, Polygon

from hdmap_core.datasets.synthetic.curve import cut, directions, headings_at, left_of, points_at, total_length
from hdmap_core.datasets.synthetic.streets.junctions import LayoutError, Trims, open_line
from hdmap_core.datasets.synthetic.streets.roads import Arm, Network, Road
from hdmap_core.datasets.synthetic.town import RoadSegment

GRID_M = 0.001
"""All outlines are rounded to this, so that neighbours share vertices exactly."""


@dataclass(frozen=True)
class Surface:
    """What is asphalt and what stands on it."""

    drivable: MultiPolygon
    outline: MultiPolygon
    """`drivable` with its islands filled."""
    road_segments: tuple[RoadSegment, ...]
    islands: tuple[Polygon, ...]


def _cross_line(road: Road, along: float) -> LineString:
    """A straight line across the road `along` metres from its start, from kerb to kerb and a bit beyond."""
    centre = points_at(road.line, along)
    left = left_of(directions(headings_at(road.line, along, 1.0)))
    reach = (road.profile.width / 2 + 0.6) * left
    return LineString([centre - reach, centre + reach])


def build_surface(
    network: Network, radii: np.ndarray, trim: Trims, islands: list[Polygon], beside: Sequence[Polygon] = ()
) -> Surface:
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
        arms_area = shapely.union_all([arm_area(network, arm, trim[arm.road, arm.at_start] + 3.0) for arm in arms])
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
        _cross_line(network.roads[arm.road], _along(network, arm, trim[arm.road, arm.at_start]))
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


def check_junctions(network: Network, trim: Trims, surface: Surface) -> None:
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


def arm_area(network: Network, arm: Arm, reach: float) -> Polygon:
    """The asphalt of a road as far as `reach` metres from its junction."""
    road = network.roads[arm.road]
    ends = sorted((_along(network, arm, 0.0), _along(network, arm, min(reach, total_length(road.line)))))
    return shapely.buffer(LineString(cut(road.line, *ends)), arm.half_width, cap_style="flat", quad_segs=4)


def _open_road(network: Network, k: int, trim: Trims) -> Polygon:
    line = LineString(open_line(network, k, trim))
    return shapely.buffer(line, network.roads[k].profile.width / 2 + 0.3, cap_style="flat")
