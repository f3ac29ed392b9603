"""Vector-map ground truth of an Argoverse 2 log, as MapTRv2 and P-MapNet make it.

- divider: see `dividers`; MapTRv2's with crossings as outlines, P-MapNet's with crossings as edges, so that a recipe
  of either family says by `crossings` whose truth it is trained on;
- boundary: rings of the union of all drivable areas, as in both: cut 0.2 m inside the patch, pieces of one ring joined,
  the road on the right of the line;
- ped_crossing: rings of the crossings, those that touch and run within 8 degrees of each other in one (MapTRv2), cut at
  the patch; or the two edges of each, as the map has them (P-MapNet's code has both ways);
- centerline, only when asked for: ten points midway between a lane's boundaries, as av2-api makes them, lanes joined
  where exactly one leads to one; points in the driving direction.

Heights are kept: they are above the origin of the ego frame, on the road.

Deliberate differences, beside those of `dividers`:

- Of a pose x, y and yaw count, as with nuScenes, where both turn the map by roll and pitch too: of a slope of one in
  twenty that makes 4 cm at 30 m.
- A crossing that the patch cuts stays closed, as in P-MapNet and with nuScenes; MapTRv2 leaves it open there.
- MapTRv2 gives centre lines as every path through the patch; here a stretch that several paths share is there once.
"""

from functools import cached_property
from pathlib import Path

import numpy as np
import shapely
from shapely import LineString, Polygon

from hdmap_core.datasets.argoverse.dividers import between_neighbours, painted
from hdmap_core.datasets.argoverse.map_file import read_map_file
from hdmap_core.datasets.map_patch import Outline, Patch, ShapeIndex, rings_of, tiled
from hdmap_core.datasets.protocol import Crossings
from hdmap_core.datasets.true_map import TrueMap
from hdmap_core.elements import MapClass
from hdmap_core.errors import DatasetError
from hdmap_core.geometry import polyline

_CENTERLINE_POINTS = 10
_PARALLEL = 0.99
"""Cosine from which on MapTRv2 takes two crossings for parallel: 8 degrees."""


class ArgoverseMap(TrueMap):
    """The vector map of one log.

    Args:
        path: a `log_map_archive_*.json`.

    Raises:
        DatasetError: naming the file if it is missing or no vector map.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._records = read_map_file(self.path)

    def _lines(self, label: MapClass, patch: Patch, crossings: Crossings) -> list[LineString]:
        match label:
            case MapClass.DIVIDER:
                return patch.cut_lines(self._between_neighbours if crossings == "outlines" else self._painted)
            case MapClass.PED_CROSSING if crossings == "edges":
                return patch.cut_lines(self._crossing_edges)
            case MapClass.PED_CROSSING:
                return rings_of(patch.cut(self._crossing_areas))
            case MapClass.BOUNDARY:
                return self._road_edges.within(patch)
            case MapClass.CENTERLINE:
                return patch.cut_paths(self._centerlines)

    def _areas_of(self, layer: str) -> ShapeIndex:
        """The road stands for nuScenes' road segments, too."""
        if layer in ("drivable_area", "road_segment"):
            return self._road_tiles
        if layer == "ped_crossing":
            return self._crossing_areas
        raise DatasetError(
            f"{self.path}: a map of Argoverse 2 has no layer {layer!r}; it has drivable_area, road_segment, "
            "ped_crossing"
        )

    @cached_property
    def _between_neighbours(self) -> ShapeIndex:
        return ShapeIndex.of(between_neighbours(self._records.lanes))

    @cached_property
    def _painted(self) -> ShapeIndex:
        return ShapeIndex.of(painted(self._records.lanes, self._road_edges.lines))

    @cached_property
    def _road(self) -> shapely.Geometry:
        return shapely.union_all(_valid(self._records.drivable_areas))

    @cached_property
    def _road_edges(self) -> Outline:
        return Outline(self._road)

    @cached_property
    def _road_tiles(self) -> ShapeIndex:
        return ShapeIndex.of(tiled(shapely.force_2d(self._road)))

    @cached_property
    def _crossing_edges(self) -> ShapeIndex:
        return ShapeIndex.of([LineString(edge) for edges in self._records.crossings for edge in edges])

    @cached_property
    def _crossing_areas(self) -> ShapeIndex:
        """Each with the parallel ones that touch it."""
        outlines = [np.concatenate([first, second[::-1]]) for first, second in self._records.crossings]
        left = [(shape, _direction(shape)) for shape in _valid(outlines)]
        merged: list[Polygon] = []
        while left:
            shape, direction = left.pop(0)
            beside = [n for n, (s, d) in enumerate(left) if abs(d @ direction) > _PARALLEL and s.intersects(shape)]
            if beside:
                joined = shapely.union_all([shape, *(left[n][0] for n in beside)])
                left = [other for n, other in enumerate(left) if n not in beside]
                left.insert(0, (joined, direction))
            else:
                merged += [part for part in shapely.get_parts(shape) if isinstance(part, Polygon)]
        return ShapeIndex.of(merged)

    @cached_property
    def _centerlines(self) -> ShapeIndex:
        middles = []
        for lane in self._records.lanes.values():
            left, right = (polyline.resample(side, _CENTERLINE_POINTS) for side in (lane.left, lane.right))
            middles.append(LineString((left + right) / 2))
        lines = shapely.MultiLineString(middles)
        return ShapeIndex.of(list(shapely.get_parts(shapely.line_merge(lines, directed=True))))


def _valid(outlines: list[np.ndarray]) -> np.ndarray:
    """(N,) polygons; invalid ones are left out, as in MapTRv2."""
    shapes = np.array([Polygon(points) for points in outlines if len(points) >= 3], dtype=object)
    return shapes[shapely.is_valid(shapes)] if len(shapes) else shapes


def _direction(shape: shapely.Geometry) -> np.ndarray:
    """(2,) unit vector along the longer side of the smallest rectangle around."""
    corners = shapely.get_coordinates(shapely.minimum_rotated_rectangle(shape))
    sides = np.diff(corners[:3], axis=0)
    lengths = np.linalg.norm(sides, axis=1)
    longest = int(lengths.argmax())
    return sides[longest] / lengths[longest]
