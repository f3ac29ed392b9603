"""Vector-map ground truth from the map expansion, by MapTR's procedure on shapely 2.

What is what (MapTR's and MapTRv2's data preparation, https://github.com/hustvl/MapTR):

- divider: every piece of road_divider and lane_divider inside the patch, neither merged nor filtered by kind of paint;
- boundary: rings of the union of road_segment and lane, cut 0.2 m inside the patch so that the patch's own border does
  not count, pieces of one ring joined again; drivable area on the right of the line; islands are closed;
- ped_crossing: rings of the union of all crossings, cut at the patch, always closed; or, for HDMapNet and its kin, the
  two long sides of each crossing by itself, then cut (`crossings="edges"`, `crossing_edges.long_sides`);
- centerline, only when asked for: the arc-line path of every lane and lane connector, cut at the patch; points in the
  driving direction.

Deliberate differences:

- The patch is centred at the **ego** pose and points are in the ego frame (x forward, y left), 60 m along and 30 m
  across by default, as in StreamMapNet. MapTR centres it at LIDAR_TOP, 0.94 m further ahead, with x to the right; to
  get its patch pass a flat pose at the LiDAR's x and y, with the yaw of the LiDAR's x axis plus 90 degrees. The LiDAR's
  pose turned to x forward will not do: rolled and pitched, its forward axis has another yaw than its right axis has
  less 90 degrees (on a real keyframe 0.03 degrees, 16 mm at 30 m).
- Shapes are built once per city and found by an R-tree, and the union behind the boundaries is formed before cutting
  instead of after. As sets of points both are the same; but MapTR turns shapes first, and rounding can then open a
  slit, and with it a false boundary, at a node that lies on a neighbour's edge without being a node of it.
- A centerline is the part of **one** lane or connector. MapTRv2 joins them along the lane graph to every simple path
  through the patch and simplifies these (0.2 m): at a fork its instances share the stretch before it, and a ring
  without entry has none. Scores of this class are therefore not comparable with published ones.
- Results that are points (a line that only touches the border) and pieces under a millimetre are dropped, where MapTR
  stops with an error.

As in MapTR, x, y and yaw of the pose count; roll, pitch and height do not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import shapely
from shapely import LineString, MultiPolygon, Polygon, STRtree
from shapely.geometry.polygon import orient

from hdmap_core.crossing_edges import long_sides
from hdmap_core.datasets.nuscenes.map_layers import LINE_LAYERS, MapLayers
from hdmap_core.datasets.protocol import AREA_LAYERS, CLASSES, Crossings, Range
from hdmap_core.elements import MapClass, MapElement
from hdmap_core.geometry import se3

_INSET = 0.2  # metres between the patch and the box that cuts boundaries
_MIN_LENGTH = 1e-3  # metres
_CHUNK = 32  # vertices of a ring per entry of the R-tree
_TILE = 100.0  # metres; big areas are cut into tiles once, so that a patch touches few vertices


@dataclass(frozen=True)
class _Index:
    shapes: np.ndarray
    tree: STRtree

    @classmethod
    def of(cls, shapes: Sequence[shapely.Geometry] | np.ndarray) -> "_Index":
        return cls(np.asarray(shapes, dtype=object), STRtree(shapes))

    def near(self, area: Polygon) -> np.ndarray:
        """Indices, ascending, of the shapes that meet the area."""
        return np.sort(self.tree.query(area, predicate="intersects"))


class Layers(Protocol):
    """What a map consists of, metres in the map frame: `MapLayers` of a map expansion, or another file's."""

    def lines(self, layer: str) -> np.ndarray:
        """(N,) LineStrings of `road_divider` or `lane_divider`."""

    def polygons(self, layer: str, repair: bool = False) -> np.ndarray:
        """(N,) polygons of a layer; invalid ones are left out, or mended where `repair` is set."""

    def road(self) -> shapely.Geometry:
        """The area whose outline is the boundary."""

    def kerbs(self) -> np.ndarray:
        """(N,) LineStrings that are boundaries by themselves."""

    def centerlines(self) -> np.ndarray:
        """(N,) LineStrings in the driving direction."""


class VectorMap:
    """The map of one city.

    Args:
        source: `maps/expansion/<city>.json`, or the layers of another map.

    Raises:
        DatasetError: naming the file if it is missing or malformed.
    """

    def __init__(self, source: str | Path | Layers) -> None:
        self.layers: Layers = MapLayers(Path(source)) if isinstance(source, str | Path) else source
        self._areas: dict[str, _Index] = {}

    @classmethod
    def of_city(cls, root: str | Path, city: str) -> "VectorMap":
        """The map of a city of a nuScenes folder."""
        return cls(Path(root) / "maps" / "expansion" / f"{city}.json")

    def elements(
        self,
        map_from_ego: np.ndarray,
        x_range: Range = (-30.0, 30.0),
        y_range: Range = (-15.0, 15.0),
        classes: Sequence[MapClass] = CLASSES,
        crossings: Crossings = "outlines",
    ) -> list[MapElement]:
        """The ground truth of one frame.

        Args:
            map_from_ego: (4, 4) float64 pose.
            x_range: metres ahead, ego frame.
            y_range: metres to the left, ego frame.
            classes: which classes, in this order.
            crossings: as closed outlines, those that touch in one, or as the two long sides of each.

        Returns:
            Elements with all vertices that the map has, metres in the ego frame.

        Raises:
            DatasetError: if the map has not what a class is made of.
        """
        patch = _Patch(map_from_ego, x_range, y_range)
        make = {
            MapClass.DIVIDER: self._divider_lines,
            MapClass.PED_CROSSING: self._crossing_rings if crossings == "outlines" else self._crossing_edges,
            MapClass.BOUNDARY: self._boundary_lines,
            MapClass.CENTERLINE: self._centerlines,
        }
        return [_element(label, line) for label in classes for line in make[label](patch) if line.length > _MIN_LENGTH]

    def areas(
        self,
        map_from_ego: np.ndarray,
        x_range: Range = (-30.0, 30.0),
        y_range: Range = (-15.0, 15.0),
        layers: Sequence[str] = AREA_LAYERS,
    ) -> dict[str, MultiPolygon]:
        """What polygon layers cover of the patch, metres in the ego frame: targets for segmentation.

        Other than for `elements`, invalid polygons are mended, since half a road is better than none here.
        """
        patch = _Patch(map_from_ego, x_range, y_range)
        result = {}
        for layer in layers:
            index = self._area_index(layer)
            covered = shapely.union_all(patch.clip(index.shapes[index.near(patch.outline)]))
            parts = [part for part in shapely.get_parts(covered) if isinstance(part, Polygon)]
            result[layer] = MultiPolygon(parts)
        return result

    def _divider_lines(self, patch: "_Patch") -> list[LineString]:
        return _line_parts(patch.clip(self._dividers.shapes[self._dividers.near(patch.outline)]))

    def _crossing_rings(self, patch: "_Patch") -> list[LineString]:
        clipped = patch.clip(self._crossings.shapes[self._crossings.near(patch.outline)])
        return _rings(shapely.union_all(clipped))

    def _crossing_edges(self, patch: "_Patch") -> list[LineString]:
        return _line_parts(patch.clip(self._crossing_sides.shapes[self._crossing_sides.near(patch.outline)]))

    def _boundary_lines(self, patch: "_Patch") -> list[LineString]:
        inner = _Patch(patch.map_from_ego, *patch.shrunk(_INSET))
        found = self._ring_chunks.near(inner.outline)
        rings = self._chunk_ring[found]
        lines: list[LineString] = []
        for ring in np.unique(rings):
            pieces = _line_parts(inner.clip(self._ring_chunks.shapes[found[rings == ring]]))
            lines += _line_parts([shapely.line_merge(shapely.MultiLineString(pieces), directed=True)])
        return lines

    def _centerlines(self, patch: "_Patch") -> list[LineString]:
        return _line_parts(patch.clip_paths(self._lane_paths.shapes[self._lane_paths.near(patch.outline)]))

    @cached_property
    def _lane_paths(self) -> _Index:
        return _Index.of(self.layers.centerlines())

    @cached_property
    def _dividers(self) -> _Index:
        return _Index.of(np.concatenate([self.layers.lines(layer) for layer in LINE_LAYERS]))

    @cached_property
    def _crossings(self) -> _Index:
        return _Index.of(self.layers.polygons("ped_crossing"))

    @cached_property
    def _crossing_sides(self) -> _Index:
        outlines = [shapely.get_coordinates(shape.exterior)[:-1] for shape in self.layers.polygons("ped_crossing")]
        return _Index.of([LineString(side) for outline in outlines for side in long_sides(outline)])

    @cached_property
    def _boundary_chunks(self) -> tuple[list[LineString], list[int]]:
        """Outlines of all that is road in the city, cut into short lines, with the number of the outline of each."""
        chunks, owners = [], []
        for number, ring in enumerate([*_rings(self.layers.road()), *self.layers.kerbs()]):
            points = shapely.get_coordinates(ring)
            for start in range(0, len(points) - 1, _CHUNK):
                chunks.append(LineString(points[start : start + _CHUNK + 1]))
                owners.append(number)
        return chunks, owners

    @cached_property
    def _ring_chunks(self) -> _Index:
        return _Index.of(self._boundary_chunks[0])

    @cached_property
    def _chunk_ring(self) -> np.ndarray:
        return np.array(self._boundary_chunks[1], dtype=np.int64)

    def _area_index(self, layer: str) -> _Index:
        if layer not in self._areas:
            shapes = self.layers.polygons(layer, repair=True)
            self._areas[layer] = _Index.of([tile for shape in shapes for tile in _tiled(shape)])
        return self._areas[layer]


@dataclass(frozen=True)
class _Patch:
    """A rectangle of the ego frame and its place in the map. Clips in ego coordinates: the numbers are small there."""

    map_from_ego: np.ndarray
    x_range: Range
    y_range: Range

    @cached_property
    def box(self) -> Polygon:
        return shapely.box(self.x_range[0], self.y_range[0], self.x_range[1], self.y_range[1])

    @cached_property
    def outline(self) -> Polygon:
        """The rectangle in the map frame."""
        return shapely.transform(self.box, lambda xy: xy @ self._ego_from_map + self._centre)

    def clip(self, shapes: np.ndarray) -> np.ndarray:
        """Shapes of the map frame -> what of them lies in the patch, in the ego frame."""
        return shapely.intersection(self._local(shapes), self.box)

    def clip_paths(self, shapes: np.ndarray) -> np.ndarray:
        """As `clip`, for lines with a direction: kept, and none is taken apart where it crosses itself."""
        return shapely.clip_by_rect(self._local(shapes), *self.box.bounds)

    def _local(self, shapes: np.ndarray) -> np.ndarray:
        return shapely.transform(shapes, lambda xy: (xy - self._centre) @ self._ego_from_map.T)

    def shrunk(self, margin: float) -> tuple[Range, Range]:
        (x0, x1), (y0, y1) = self.x_range, self.y_range
        return (x0 + margin, x1 - margin), (y0 + margin, y1 - margin)

    @cached_property
    def _ego_from_map(self) -> np.ndarray:
        yaw = se3.yaw_of(self.map_from_ego)
        return np.array([[np.cos(yaw), np.sin(yaw)], [-np.sin(yaw), np.cos(yaw)]])

    @cached_property
    def _centre(self) -> np.ndarray:
        return np.asarray(self.map_from_ego[:2, 3], dtype=np.float64)


def _line_parts(shapes: Sequence[shapely.Geometry] | np.ndarray) -> list[LineString]:
    """The LineStrings in any mixture of geometry; points and areas are left out."""
    parts = shapely.get_parts(shapely.get_parts(np.asarray(shapes, dtype=object)))
    return [part for part in parts if isinstance(part, LineString) and not part.is_empty]


def _rings(area: shapely.Geometry) -> list[LineString]:
    """Outer rings clockwise and holes counter-clockwise, so that the area lies to the right."""
    rings = []
    for part in shapely.get_parts(shapely.get_parts(area)):
        if isinstance(part, Polygon) and not part.is_empty:
            oriented = orient(part, sign=-1.0)
            rings += [LineString(ring.coords) for ring in (oriented.exterior, *oriented.interiors)]
    return rings


def _tiled(shape: shapely.Geometry) -> list[shapely.Geometry]:
    x0, y0, x1, y1 = shape.bounds
    if x1 - x0 <= _TILE and y1 - y0 <= _TILE:
        return [shape]
    if x1 - x0 > y1 - y0:
        halves = (x0, y0, (x0 + x1) / 2, y1), ((x0 + x1) / 2, y0, x1, y1)
    else:
        halves = (x0, y0, x1, (y0 + y1) / 2), (x0, (y0 + y1) / 2, x1, y1)
    parts = [shapely.intersection(shape, shapely.box(*half)) for half in halves]
    return [tile for part in parts if not part.is_empty and part.area > 0 for tile in _tiled(part)]


def _element(label: MapClass, line: LineString) -> MapElement:
    points = shapely.get_coordinates(line)
    closed = len(points) >= 4 and bool(np.array_equal(points[0], points[-1]))
    return MapElement(label, points[:-1] if closed else points, closed)
