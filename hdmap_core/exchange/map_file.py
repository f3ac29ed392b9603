"""A map without a car in it, as a file: GeoJSON or Lanelet2, by the file's suffix."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hdmap_core.elements import MapElement
from hdmap_core.errors import ConfigError
from hdmap_core.exchange.geojson import to_geojson, write_geojson
from hdmap_core.exchange.lanelet2 import to_osm, write_osm
from hdmap_core.geometry.map_origin import GeodeticOrigin, MapOrigin

SUFFIXES = (".geojson", ".osm")


def write_map(
    path: str | Path,
    elements: Sequence[MapElement],
    fixed_from_map: np.ndarray,
    frame: str,
    stamp_ns: int = 0,
    origin: MapOrigin | None = None,
) -> None:
    """Writes a fused map.

    Args:
        path: whose suffix is one of `SUFFIXES`.
        elements: metres, in a frame of their own.
        fixed_from_map: (4, 4) the frame that is written from theirs.
        frame: its name.
        stamp_ns: of the newest map in it.
        origin: where it lies on the earth, x east and y north.

    Raises:
        OutputError: if the file cannot be written; what stood there is left as it was.
    """
    if Path(path).suffix.lower() == ".osm":
        write_osm(path, to_osm(elements, fixed_from_map, origin))
        return
    collection = to_geojson(
        elements, token="fused", stamp_ns=stamp_ns, map_from_ego=fixed_from_map, origin=origin, frame_name=frame
    )
    write_geojson(path, collection)


def parse_origin(text: str) -> MapOrigin:
    """The origin of `LATITUDE,LONGITUDE` in degrees (WGS84).

    Raises:
        ConfigError: if it is written otherwise, or not on the earth.
    """
    try:
        latitude, longitude = map(float, text.split(","))
    except ValueError:
        latitude = longitude = np.nan
    if not (abs(latitude) <= 89 and abs(longitude) <= 180):
        raise ConfigError(
            f"an origin is written as latitude,longitude in degrees, like 42.3368,-71.0579, not {text!r}; the latitude "
            "lies within -89 and 89"
        )
    return GeodeticOrigin(latitude, longitude)
