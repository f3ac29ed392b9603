"""The true map of a place, whatever file it comes from: elements and areas cut out around a pose."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import shapely
from shapely import LineString, MultiPolygon, Polygon

from hdmap_core.datasets.map_patch import Patch, ShapeIndex
from hdmap_core.datasets.protocol import AREA_LAYERS, CLASSES, Crossings, Range
from hdmap_core.elements import MapClass, MapElement

_MIN_LENGTH = 1e-3  # metres


class TrueMap(ABC):
    """A map whose readers say what the lines of a class and the areas of a layer are."""

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
            Elements with all vertices that the map has, metres in the ego frame; pieces under a millimetre are dropped.

        Raises:
            DatasetError: if the map has not what a class is made of.
        """
        patch = Patch(map_from_ego, x_range, y_range)
        lines = [(label, line) for label in classes for line in self._lines(label, patch, crossings)]
        return [_element(label, line) for label, line in lines if line.length > _MIN_LENGTH]

    def areas(
        self,
        map_from_ego: np.ndarray,
        x_range: Range = (-30.0, 30.0),
        y_range: Range = (-15.0, 15.0),
        layers: Sequence[str] = AREA_LAYERS,
    ) -> dict[str, MultiPolygon]:
        """What polygon layers cover of the patch, metres in the ego frame: targets for segmentation.

        Raises:
            DatasetError: if the map has no such layer.
        """
        patch = Patch(map_from_ego, x_range, y_range)
        result = {}
        for layer in layers:
            covered = shapely.union_all(patch.cut(self._areas_of(layer)))
            result[layer] = MultiPolygon([part for part in shapely.get_parts(covered) if isinstance(part, Polygon)])
        return result

    @abstractmethod
    def _lines(self, label: MapClass, patch: Patch, crossings: Crossings) -> list[LineString]:
        """The lines of a class in a patch, ego frame."""

    @abstractmethod
    def _areas_of(self, layer: str) -> ShapeIndex:
        """The polygons of a layer, map frame."""


def _element(label: MapClass, line: LineString) -> MapElement:
    """The element of a line of the ego frame; closed where its last point is its first."""
    points = shapely.get_coordinates(line, include_z=line.has_z)
    closed = len(points) >= 4 and bool(np.array_equal(points[0, :2], points[-1, :2]))
    points = points[:-1] if closed else points
    has_heights = points.shape[1] == 3 and bool(np.isfinite(points[:, 2]).all())
    return MapElement(label, points[:, :2], closed, heights=points[:, 2] if has_heights else None)
