"""SD maps: roads as bare centre lines, beside a nuScenes folder in `maps/sd/<city>.geojson`.

A GeoJSON FeatureCollection of LineString or MultiLineString features whose coordinates are metres in the city's map
frame (x east, y north), not longitude and latitude.
"""

from pathlib import Path

import numpy as np
import shapely
from shapely import LineString

from hdmap_core.datasets.geojson_features import read_features
from hdmap_core.datasets.map_patch import Patch, ShapeIndex, line_parts
from hdmap_core.datasets.protocol import Range
from hdmap_core.geometry.map_origin import MapOrigin


class SdMap:
    """The roads of one city, indexed.

    Args:
        lines: metres, map frame.
    """

    def __init__(self, lines: list[LineString]) -> None:
        self.lines = lines
        self._index = ShapeIndex.of(lines)

    @classmethod
    def read(cls, path: str | Path, origin: MapOrigin | None = None) -> "SdMap":
        """Reads a GeoJSON file; what are no lines in it is left out.

        Args:
            path: the file.
            origin: where the map frame lies on the earth, for longitudes and latitudes.

        Raises:
            DatasetError: if the file is missing, is not GeoJSON, or holds degrees and there is no origin.
        """
        return cls(line_parts([shape for _, _, shape in read_features(path, origin)]))

    def near(self, map_from_ego: np.ndarray, x_range: Range, y_range: Range) -> tuple[np.ndarray, ...]:
        """Roads inside a rectangle of the ego frame, each (P, 2) float32 metres in that frame (yaw only)."""
        parts = Patch(map_from_ego, x_range, y_range).cut_lines(self._index)
        return tuple(shapely.get_coordinates(part).astype(np.float32) for part in parts if part.length > 0)


def road_feature(line: np.ndarray, properties: dict[str, object]) -> dict[str, object]:
    """One feature of such a collection from a line (P, 2) in metres, rounded to millimetres."""
    return {
        "type": "Feature",
        "properties": properties,
        "geometry": {"type": "LineString", "coordinates": np.round(line, 3).tolist()},
    }
