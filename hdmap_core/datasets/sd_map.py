"""SD maps: roads as bare centre lines, beside a nuScenes folder in `maps/sd/<city>.geojson`.

A GeoJSON FeatureCollection of LineString or MultiLineString features whose coordinates are metres in the city's map
frame (x east, y north), not longitude and latitude.
"""

import json
from pathlib import Path

import numpy as np
import shapely
from shapely import LineString, MultiLineString

from hdmap_core.datasets.map_patch import Patch, ShapeIndex
from hdmap_core.datasets.protocol import Range
from hdmap_core.errors import DatasetError


class SdMap:
    """The roads of one city, indexed.

    Args:
        lines: polylines (P, 2) float64, metres, map frame.
    """

    def __init__(self, lines: list[np.ndarray]) -> None:
        self.lines = [LineString(line) for line in lines if len(line) >= 2]
        self._index = ShapeIndex.of(self.lines)

    @classmethod
    def read(cls, path: str | Path) -> "SdMap":
        """Reads a GeoJSON file.

        Raises:
            DatasetError: if the file is missing, is not GeoJSON, or holds longitudes and latitudes.
        """
        try:
            features = json.loads(Path(path).read_text(encoding="utf-8"))["features"]
            lines = [line for feature in features for line in _lines_of(feature["geometry"])]
        except OSError as error:
            raise DatasetError(f"cannot read the SD map {path}: {error.strerror or error}") from None
        except (ValueError, RecursionError, KeyError, TypeError, IndexError, shapely.errors.ShapelyError) as error:
            raise DatasetError(f"{path}: not a GeoJSON FeatureCollection of lines ({error!r})") from None
        if not all(np.isfinite(line).all() for line in lines):
            raise DatasetError(f"{path}: a road has a coordinate that is not finite")
        # A city measures kilometres, and less than one degree.
        if lines and np.ptp(np.concatenate(lines), axis=0).max() < 1.0:
            raise DatasetError(f"{path}: holds longitudes and latitudes; expected metres in the city's map frame")
        return cls(lines)

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


def _lines_of(geometry: dict[str, object]) -> list[np.ndarray]:
    if geometry["type"] not in ("LineString", "MultiLineString"):
        return []
    shape = (LineString if geometry["type"] == "LineString" else MultiLineString)(geometry["coordinates"])
    return [shapely.get_coordinates(part) for part in shapely.get_parts(shape) if not part.is_empty]
