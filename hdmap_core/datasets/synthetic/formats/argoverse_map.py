"""A town's vector map as an Argoverse 2 log holds it: lane segments, crossings and drivable areas, with heights.

Areas have no holes there, so road with an island in it is written in pieces that share borders; no vertex is added.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import shapely
from shapely import LineString, Polygon

from hdmap_core.datasets.synthetic.formats.argoverse_lanes import Segment, lane_segments
from hdmap_core.datasets.synthetic.town import Town

_LEAST_AREA_M2 = 1e-4
Record = dict[str, Any]


def town_archive(town: Town, origin: tuple[float, float]) -> dict[str, dict[str, Record]]:
    """The content of `log_map_archive_*.json`.

    Args:
        town: driven on the right or the left.
        origin: its south-west corner in the city's frame, metres.
    """
    shift = np.array(origin)

    def at_city(points: np.ndarray) -> np.ndarray:
        """Millimetres, as in the nuScenes map, so that both have the same places."""
        rounded = np.round(points + shift, 3)
        return rounded[np.concatenate([[True], (np.diff(rounded, axis=0) != 0).any(axis=1)])]

    def with_heights(points: np.ndarray) -> list[Record]:
        heights = town.relief.smooth(points - shift)
        return [{"x": x, "y": y, "z": z} for (x, y), z in zip(points.tolist(), heights.tolist(), strict=True)]

    def polygon(shape: Polygon) -> Polygon:
        rings = [at_city(np.array(ring.coords)) for ring in (shape.exterior, *shape.interiors)]
        return Polygon(rings[0], rings[1:])

    lanes = [replace(k, polygon=polygon(k.polygon), centerline=k.centerline + shift) for k in town.lanes]
    markings = [replace(marking, line=at_city(marking.line)) for marking in town.markings]
    segments = lane_segments(lanes, markings)
    roads = [polygon(segment.polygon) for segment in town.road_segments]
    whole = shapely.union_all(roads)
    # A lane that reaches beyond its road counts as road in the nuScenes map.
    strips = [lane.polygon for lane in lanes if not lane.is_connector]
    roads += [strip for strip in strips if strip.difference(whole).area > _LEAST_AREA_M2]
    areas = [np.array(part.exterior.coords)[:-1] for road in roads for part in without_holes(road)]
    corners = [at_city(crossing.corners) for crossing in town.crossings]
    return {
        "pedestrian_crossings": _by_id(
            {"edge1": with_heights(c[[1, 2]]), "edge2": with_heights(c[[0, 3]])} for c in corners
        ),
        "lane_segments": _by_id(
            {
                "is_intersection": segment.is_intersection,
                "lane_type": "VEHICLE",
                "left_lane_boundary": with_heights(segment.left),
                "left_lane_mark_type": segment.left_mark,
                "right_lane_boundary": with_heights(segment.right),
                "right_lane_mark_type": segment.right_mark,
                **_around(segment),
            }
            for segment in segments
        ),
        "drivable_areas": _by_id({"area_boundary": with_heights(area)} for area in areas),
    }


def _around(segment: Segment) -> Record:
    """Ids of the segments around, which are one more than their places."""
    left, right = segment.left_neighbour, segment.right_neighbour
    return {
        "successors": [other + 1 for other in segment.successors],
        "predecessors": [other + 1 for other in segment.predecessors],
        "left_neighbor_id": None if left is None else left + 1,
        "right_neighbor_id": None if right is None else right + 1,
    }


def _by_id(records: Any) -> dict[str, Record]:
    return {str(number): {"id": number, **record} for number, record in enumerate(records, start=1)}


def without_holes(shape: Polygon) -> list[Polygon]:
    """The same area in pieces without holes; every vertex is one of the polygon's.

    Each hole is tied to what lies around it by two straight cuts from vertex to vertex.
    """
    if not shape.interiors:
        return [shape]
    cuts: list[LineString] = []
    tied = np.array(shape.exterior.coords)[:-1]
    left = [np.array(ring.coords)[:-1] for ring in shape.interiors]
    while left:
        reach = [np.hypot(*(hole[:, None] - tied[None]).transpose(2, 0, 1)) for hole in left]
        nearest = int(np.argmin([gaps.min() for gaps in reach]))
        hole, gaps = left.pop(nearest), reach[nearest]
        own: list[LineString] = []
        used: set[tuple[int, ...]] = set()
        for flat in np.argsort(gaps, axis=None).tolist():
            one, other = divmod(flat, gaps.shape[1])
            ends = {(0, one), (1, other)}
            if ends & used:  # the two would meet in a point, and the hole stay one
                continue
            cut = LineString([hole[one], tied[other]])
            apart = all(not cut.crosses(line) and not cut.equals(line) for line in (*cuts, *own))
            if apart and shape.covers(cut) and _only_ends_touch(cut, shape):
                own.append(cut)
                used |= ends
            if len(own) == 2:
                break
        cuts += own
        tied = np.concatenate([tied, hole])
    lines = shapely.union_all([LineString(ring.coords) for ring in (shape.exterior, *shape.interiors)] + cuts)
    pieces = shapely.get_parts(shapely.polygonize(shapely.get_parts(lines)))
    return [piece for piece in pieces if shape.contains(piece.representative_point())]


def _only_ends_touch(cut: LineString, shape: Polygon) -> bool:
    touched = cut.intersection(shape.boundary)
    return bool(touched.geom_type == "MultiPoint" and len(touched.geoms) == 2)
