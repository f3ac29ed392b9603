"""A rectangle around the car, cut out of a map: what ground truth and the roads of SD maps are made with.

Shapes are built once per map and found by an R-tree. Of a pose x, y and yaw count, as in MapTR; heights of lines that
have them become heights above the ego frame's origin.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import shapely
from shapely import LineString, Polygon, STRtree
from shapely.geometry.polygon import orient

from hdmap_core.datasets.protocol import Range
from hdmap_core.geometry import se3

EDGE_INSET_M = 0.2
"""Between the patch and the box that cuts boundaries, so that the patch's own border is none (MapTR)."""
_CHUNK = 32  # vertices of a ring per entry of the R-tree
_TILE = 100.0  # metres; big areas are cut into tiles once, so that a patch touches few vertices


@dataclass(frozen=True)
class ShapeIndex:
    """Shapes of a map and the R-tree that finds them."""

    shapes: np.ndarray
    tree: STRtree

    @classmethod
    def of(cls, shapes: Sequence[shapely.Geometry] | np.ndarray) -> "ShapeIndex":
        """Of shapes in the map frame."""
        return cls(np.asarray(shapes, dtype=object), STRtree(shapes))

    def near(self, area: Polygon) -> np.ndarray:
        """Indices, ascending, of the shapes that meet the area."""
        return np.sort(self.tree.query(area, predicate="intersects"))


@dataclass(frozen=True)
class Patch:
    """A rectangle of the ego frame and its place in the map. Clips in ego coordinates: the numbers are small there."""

    map_from_ego: np.ndarray
    x_range: Range
    y_range: Range

    @cached_property
    def box(self) -> Polygon:
        """The rectangle in the ego frame."""
        return shapely.box(self.x_range[0], self.y_range[0], self.x_range[1], self.y_range[1])

    @cached_property
    def outline(self) -> Polygon:
        """The rectangle in the map frame."""
        return shapely.transform(self.box, lambda xy: xy @ self._ego_from_map + self._centre)

    def clip(self, shapes: np.ndarray) -> np.ndarray:
        """Shapes of the map frame -> what of them lies in the patch, in the ego frame."""
        return shapely.intersection(self._local(shapes), self.box)

    def cut(self, index: ShapeIndex) -> np.ndarray:
        """As `clip`, of the shapes that meet the patch."""
        return self.clip(index.shapes[index.near(self.outline)])

    def cut_lines(self, index: ShapeIndex) -> list[LineString]:
        """The lines in `cut`."""
        return line_parts(self.cut(index))

    def cut_paths(self, index: ShapeIndex) -> list[LineString]:
        """As `cut_lines`, for lines with a direction: kept, and none is taken apart where it crosses itself."""
        near = self._local(index.shapes[index.near(self.outline)])
        return line_parts(shapely.clip_by_rect(near, *self.box.bounds))

    def _local(self, shapes: np.ndarray) -> np.ndarray:
        if not shapely.has_z(shapes).any():
            return shapely.transform(shapes, lambda xy: (xy - self._centre) @ self._ego_from_map.T)

        def levelled(xyz: np.ndarray) -> np.ndarray:
            level = (xyz[:, :2] - self._centre) @ self._ego_from_map.T
            return np.column_stack([level, xyz[:, 2] - self.map_from_ego[2, 3]])

        return shapely.transform(shapes, levelled, include_z=True)

    def shrunk(self, margin: float) -> "Patch":
        """The same less a margin in metres on every side."""
        (x0, x1), (y0, y1) = self.x_range, self.y_range
        return Patch(self.map_from_ego, (x0 + margin, x1 - margin), (y0 + margin, y1 - margin))

    @cached_property
    def _ego_from_map(self) -> np.ndarray:
        yaw = se3.yaw_of(self.map_from_ego)
        return np.array([[np.cos(yaw), np.sin(yaw)], [-np.sin(yaw), np.cos(yaw)]])

    @cached_property
    def _centre(self) -> np.ndarray:
        return np.asarray(self.map_from_ego[:2, 3], dtype=np.float64)


def line_parts(shapes: Sequence[shapely.Geometry] | np.ndarray) -> list[LineString]:
    """The LineStrings in any mixture of geometry; points and areas are left out."""
    parts = shapely.get_parts(shapely.get_parts(np.asarray(shapes, dtype=object)))
    return [part for part in parts if isinstance(part, LineString) and not part.is_empty]


def rings_of(area: shapely.Geometry) -> list[LineString]:
    """Outer rings clockwise and holes counter-clockwise, so that the area lies to the right."""
    rings = []
    for part in shapely.get_parts(shapely.get_parts(area)):
        if isinstance(part, Polygon) and not part.is_empty:
            oriented = orient(part, sign=-1.0)
            rings += [LineString(ring.coords) for ring in (oriented.exterior, *oriented.interiors)]
    return rings


def tiled(shape: shapely.Geometry) -> list[shapely.Geometry]:
    """An area in tiles of at most 100 m."""
    x0, y0, x1, y1 = shape.bounds
    if x1 - x0 <= _TILE and y1 - y0 <= _TILE:
        return [shape]
    if x1 - x0 > y1 - y0:
        halves = (x0, y0, (x0 + x1) / 2, y1), ((x0 + x1) / 2, y0, x1, y1)
    else:
        halves = (x0, y0, x1, (y0 + y1) / 2), (x0, (y0 + y1) / 2, x1, y1)
    parts = [shapely.intersection(shape, shapely.box(*half)) for half in halves]
    return [tile for part in parts if not part.is_empty and part.area > 0 for tile in tiled(part)]


class Outline:
    """The border of all that is road in a map, as lines with the road on their right; islands are closed.

    Args:
        area: the road, map frame.
        kerbs: (N,) LineStrings that are borders by themselves.
    """

    def __init__(self, area: shapely.Geometry, kerbs: Iterable[LineString] = ()) -> None:
        chunks, owners = [], []
        for number, ring in enumerate([*rings_of(area), *kerbs]):
            points = shapely.get_coordinates(ring, include_z=ring.has_z)
            for start in range(0, len(points) - 1, _CHUNK):
                chunks.append(LineString(points[start : start + _CHUNK + 1]))
                owners.append(number)
        self._chunks, self._ring = ShapeIndex.of(chunks), np.array(owners, dtype=np.int64)

    @property
    def lines(self) -> np.ndarray:
        """All of it in short pieces, map frame."""
        return self._chunks.shapes

    def within(self, patch: Patch) -> list[LineString]:
        """What of it lies in a patch, ego frame; pieces of one ring are joined again."""
        inner = patch.shrunk(EDGE_INSET_M)
        found = self._chunks.near(inner.outline)
        rings = self._ring[found]
        lines: list[LineString] = []
        for ring in np.unique(rings):
            pieces = line_parts(inner.clip(self._chunks.shapes[found[rings == ring]]))
            lines += line_parts([shapely.line_merge(shapely.MultiLineString(pieces), directed=True)])
        return lines
