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

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import shapely
from shapely import LineString, MultiPolygon, Polygon

from hdmap_core.datasets.argoverse.dividers import between_neighbours, painted
from hdmap_core.datasets.argoverse.map_file import read_map_file
from hdmap_core.datasets.map_patch import Outline, Patch, ShapeIndex, areas_in, elements_of, line_parts, rings_of, tiled
from hdmap_core.datasets.protocol import AREA_LAYERS, CLASSES, Crossings, Range
from hdmap_core.elements import MapClass, MapElement
from hdmap_core.errors import DatasetError

_CENTERLINE_POINTS = 10
_PARALLEL = 0.99
"""Cosine from which on MapTRv2 takes two crossings for parallel: 8 degrees."""


class ArgoverseMap:
    """The vector map of one log.

    Args:
        path: a `log_map_archive_*.json`.

    Raises:
        DatasetError: naming the file if it is missing or no vector map.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._records = read_map_file(self.path)

    def elements(
        self,
        map_from_ego: np.ndarray,
        x_range: Range = (-30.0, 30.0),
        y_range: Range = (-15.0, 15.0),
        classes: Sequence[MapClass] = CLASSES,
        crossings: Crossings = "outlines",
    ) -> list[MapElement]:
        """The ground truth of one frame; arguments as of `VectorMap.elements`, `crossings` as said above."""
        patch = Patch(map_from_ego, x_range, y_range)
        dividers = self._between_neighbours if crossings == "outlines" else self._painted
        lines = {
            MapClass.DIVIDER: lambda: _clipped(dividers, patch),
            MapClass.PED_CROSSING: lambda: self._crossing_lines(patch, crossings),
            MapClass.BOUNDARY: lambda: self._road_edges.within(patch),
            MapClass.CENTERLINE: lambda: line_parts(
                patch.clip_paths(self._centerlines.shapes[self._centerlines.near(patch.outline)])
            ),
        }
        return elements_of((label, lines[label]()) for label in classes)

    def areas(
        self,
        map_from_ego: np.ndarray,
        x_range: Range = (-30.0, 30.0),
        y_range: Range = (-15.0, 15.0),
        layers: Sequence[str] = AREA_LAYERS,
    ) -> dict[str, MultiPolygon]:
        """What polygon layers cover of the patch, metres in the ego frame; nuScenes' road segments are the road here.

        Raises:
            DatasetError: if the map has no such layer.
        """
        road = self._road_tiles
        known = {"drivable_area": road, "road_segment": road, "ped_crossing": self._crossing_areas}
        unknown = [layer for layer in layers if layer not in known]
        if unknown:
            raise DatasetError(
                f"{self.path}: a map of Argoverse 2 has no layer {unknown[0]!r}; it has {', '.join(known)}"
            )
        return areas_in(Patch(map_from_ego, x_range, y_range), {layer: known[layer] for layer in layers})

    def _crossing_lines(self, patch: Patch, crossings: Crossings) -> list[LineString]:
        if crossings == "edges":
            return _clipped(self._crossing_edges, patch)
        found = self._crossing_areas
        return rings_of(patch.clip(found.shapes[found.near(patch.outline)]))

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
        middles = [(_evenly(lane.left) + _evenly(lane.right)) / 2 for lane in self._records.lanes.values()]
        lines = shapely.MultiLineString([LineString(points) for points in middles])
        return ShapeIndex.of(list(shapely.get_parts(shapely.line_merge(lines, directed=True))))


def _clipped(index: ShapeIndex, patch: Patch) -> list[LineString]:
    return line_parts(patch.clip(index.shapes[index.near(patch.outline)]))


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


def _evenly(line: np.ndarray) -> np.ndarray:
    """(10, 3) points evenly along a line (P, 3); of a single point, that."""
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    at = np.linspace(0.0, along[-1], _CENTERLINE_POINTS)
    return np.stack([np.interp(at, along, line[:, axis]) for axis in range(3)], axis=1)
