"""A true map in GeoJSON: layers that `VectorMap` cuts frames from, and the file that keeps them.

Features carry a property `label`: `divider` and `centerline` are lines, `ped_crossing` polygons, `boundary` polygons of
the road, whose outline is the boundary, or the lines themselves; `drivable_area` polygons are for segmentation, the
road's stand in for them. Coordinates are metres in the map frame, or degrees where the scene has a `map_origin`. What
`hdmap predict -o map.geojson` writes has these labels, too: put right in a GIS program it is truth.
"""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from hdmap_core.datasets.geojson_features import read_features
from hdmap_core.datasets.nuscenes.vector_map import Layers
from hdmap_core.elements import MapClass, MapElement
from hdmap_core.errors import DatasetError
from hdmap_core.geometry.map_origin import MapOrigin

LABELS = ("divider", "ped_crossing", "boundary", "centerline", "drivable_area")
_AREAS = ("Polygon", "MultiPolygon")
_LINES = ("LineString", "MultiLineString")
_GEOMETRY = {"divider": _LINES, "centerline": _LINES, "ped_crossing": _AREAS, "drivable_area": _AREAS}


class MapShapes:
    """The shapes of a map by label, as layers of a `VectorMap`; metres in the map frame.

    Args:
        shapes: label -> lines and polygons; a label that is not there has none.
    """

    def __init__(self, shapes: dict[str, list[shapely.Geometry]]) -> None:
        self._shapes = shapes

    def lines(self, layer: str) -> np.ndarray:
        """All dividers as lane dividers."""
        return self._of("divider", "LineString") if layer == "lane_divider" else _array([])

    def polygons(self, layer: str, repair: bool = False) -> np.ndarray:
        """Crossings, the drivable area; others have no polygons here."""
        if layer == "drivable_area" and not self._shapes.get(layer):
            layer = "boundary"
        return self._of(layer, "Polygon") if layer in LABELS else _array([])

    def road(self) -> shapely.Geometry:
        """The polygons among the boundaries, united unless there is but one shape of them."""
        areas = [shape for shape in self._shapes.get("boundary", []) if shape.geom_type in _AREAS]
        return areas[0] if len(areas) == 1 else shapely.union_all(areas)

    def kerbs(self) -> np.ndarray:
        """The lines among the boundaries."""
        return self._of("boundary", "LineString")

    def centerlines(self) -> np.ndarray:
        """Of lanes, in the driving direction."""
        return self._of("centerline", "LineString")

    def _of(self, label: str, kind: str) -> np.ndarray:
        parts = shapely.get_parts(_array(self._shapes.get(label, [])))
        return _array([part for part in parts if part.geom_type == kind])


def shapes_of(elements: Sequence[MapElement]) -> MapShapes:
    """The elements of one frame as a small map in the ego frame."""
    shapes: dict[str, list[shapely.Geometry]] = {}
    for element in elements:
        is_area = element.closed and element.label is MapClass.PED_CROSSING
        ring = element.path.astype(np.float64)
        shapes.setdefault(element.label.value, []).append((shapely.Polygon if is_area else shapely.LineString)(ring))
    return MapShapes(shapes)


def write_map(layers: Layers) -> dict[str, Any]:
    """A FeatureCollection of all that a map has, in metres; numbers are kept to the last bit."""
    shapes: list[tuple[str, shapely.Geometry]] = [
        ("divider", shape) for layer in ("road_divider", "lane_divider") for shape in layers.lines(layer)
    ]
    shapes += [("ped_crossing", shape) for shape in layers.polygons("ped_crossing")]
    shapes += [("boundary", layers.road()), *(("boundary", shape) for shape in layers.kerbs())]
    shapes += [("drivable_area", shape) for shape in layers.polygons("drivable_area", repair=True)]
    with contextlib.suppress(DatasetError):  # an old map expansion; only who asks for this class needs it
        shapes += [("centerline", shape) for shape in layers.centerlines()]
    features = [
        {"type": "Feature", "properties": {"label": label}, "geometry": shapely.geometry.mapping(shape)}
        for label, shape in shapes
        if not shape.is_empty
    ]
    return {"type": "FeatureCollection", "crs": None, "frame": "metres in the map frame", "features": features}


def read_map(path: Path, origin: MapOrigin | None) -> MapShapes:
    """The map of a file.

    Args:
        path: GeoJSON.
        origin: where the map frame lies on the earth, if it is known.

    Raises:
        DatasetError: naming file and feature of what is no map.
    """
    shapes: dict[str, list[shapely.Geometry]] = {label: [] for label in LABELS}
    for number, feature, shape in read_features(path, origin):
        properties = feature.get("properties")
        label = properties.get("label") if isinstance(properties, dict) else None
        if label not in LABELS:
            raise DatasetError(f"{path}: feature {number} has the label {label!r}; known are {', '.join(LABELS)}")
        allowed = _GEOMETRY.get(label, (*_LINES, *_AREAS))
        if shape.geom_type not in allowed:
            raise DatasetError(
                f"{path}: feature {number}, a {label}, is a {shape.geom_type}; expected {' or '.join(allowed)}"
            )
        if not shape.is_valid:
            reason = shapely.is_valid_reason(shape)
            raise DatasetError(f"{path}: feature {number}, a {label}, is no valid shape ({reason}); draw it again")
        shapes[label].append(shape)
    return MapShapes(shapes)


def _array(shapes: Sequence[shapely.Geometry]) -> np.ndarray:
    array = np.empty(len(shapes), dtype=object)
    array[:] = shapes
    return array
