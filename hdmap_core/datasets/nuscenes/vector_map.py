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

from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import shapely
from shapely import LineString

from hdmap_core.datasets.map_patch import Outline, Patch, ShapeIndex, rings_of, tiled
from hdmap_core.datasets.nuscenes.map_layers import LINE_LAYERS, MapLayers
from hdmap_core.datasets.protocol import Crossings
from hdmap_core.datasets.true_map import TrueMap
from hdmap_core.elements import MapClass
from hdmap_core.elements.crossing_edges import long_sides


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


class VectorMap(TrueMap):
    """The map of one city.

    Args:
        source: `maps/expansion/<city>.json`, or the layers of another map.

    Raises:
        DatasetError: naming the file if it is missing or malformed.
    """

    def __init__(self, source: str | Path | Layers) -> None:
        self.layers: Layers = MapLayers(Path(source)) if isinstance(source, str | Path) else source
        self._areas: dict[str, ShapeIndex] = {}

    @classmethod
    def of_city(cls, root: str | Path, city: str) -> "VectorMap":
        """The map of a city of a nuScenes folder."""
        return cls(Path(root) / "maps" / "expansion" / f"{city}.json")

    def _lines(self, label: MapClass, patch: Patch, crossings: Crossings) -> list[LineString]:
        match label:
            case MapClass.DIVIDER:
                return patch.cut_lines(self._dividers)
            case MapClass.PED_CROSSING if crossings == "edges":
                return patch.cut_lines(self._crossing_sides)
            case MapClass.PED_CROSSING:
                return rings_of(shapely.union_all(patch.cut(self._crossings)))
            case MapClass.BOUNDARY:
                return self._road_edges.within(patch)
            case MapClass.CENTERLINE:
                return patch.cut_paths(self._lane_paths)

    def _areas_of(self, layer: str) -> ShapeIndex:
        """Other than for lines, invalid polygons are mended, since half a road is better than none here."""
        if layer not in self._areas:
            shapes = self.layers.polygons(layer, repair=True)
            self._areas[layer] = ShapeIndex.of([tile for shape in shapes for tile in tiled(shape)])
        return self._areas[layer]

    @cached_property
    def _lane_paths(self) -> ShapeIndex:
        return ShapeIndex.of(self.layers.centerlines())

    @cached_property
    def _dividers(self) -> ShapeIndex:
        return ShapeIndex.of(np.concatenate([self.layers.lines(layer) for layer in LINE_LAYERS]))

    @cached_property
    def _crossings(self) -> ShapeIndex:
        return ShapeIndex.of(self.layers.polygons("ped_crossing"))

    @cached_property
    def _crossing_sides(self) -> ShapeIndex:
        outlines = [shapely.get_coordinates(shape.exterior)[:-1] for shape in self.layers.polygons("ped_crossing")]
        return ShapeIndex.of([LineString(side) for outline in outlines for side in long_sides(outline)])

    @cached_property
    def _road_edges(self) -> Outline:
        return Outline(self.layers.road(), self.layers.kerbs())
