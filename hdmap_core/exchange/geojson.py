"""Map elements as GeoJSON (RFC 7946): longitude and latitude where the earth is known, else metres that say so."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hdmap_core.elements import MapClass, MapElement
from hdmap_core.files import write_atomically
from hdmap_core.geometry import polyline, se3
from hdmap_core.geometry.map_origin import MapOrigin

ON_EARTH = "WGS84 longitude and latitude, degrees"
IN_MAP = "metres in the map frame of the pose, whose place on the earth is not known: no longitude and latitude"
AT_CAR = "metres ahead of the car and to its left, as its pose is not known: no longitude and latitude"


def to_geojson(
    elements: Sequence[MapElement],
    *,
    token: str = "",
    stamp_ns: int = 0,
    map_from_ego: np.ndarray | None = None,
    origin: MapOrigin | None = None,
    frame_name: str = "",
) -> dict[str, Any]:
    """A FeatureCollection, one feature per element with its label, score and frame.

    Closed crossings are polygons, counter-clockwise; other closed lines repeat their first point. The member `frame`
    says what the coordinates are. Metres also carry `"crs": null`, by which GIS programs know that they are no degrees.

    Args:
        elements: metres, ego frame.
        token: name of the frame.
        stamp_ns: its time.
        map_from_ego: (4, 4) pose of the ego frame; its heading and place count, as in the ground truth.
        origin: where the map frame lies on the earth.
        frame_name: of the pose's frame, where the earth is not known.
    """
    if map_from_ego is None:
        frame, origin = AT_CAR, None
    elif origin is not None:
        frame = ON_EARTH
    elif frame_name:
        frame = f"metres in the frame {frame_name}, whose place on the earth is not known: no longitude and latitude"
    else:
        frame = IN_MAP

    def placed(points: np.ndarray) -> np.ndarray:
        metres = points.astype(np.float64)
        if map_from_ego is not None:
            heading = se3.rotation_from_euler(0.0, 0.0, se3.yaw_of(map_from_ego))[:2, :2]
            metres = metres @ heading.T + map_from_ego[:2, 3]
        # A millimetre in either unit.
        return metres.round(3) if origin is None else origin.degrees(metres).round(8)

    features = [
        {
            "type": "Feature",
            "properties": {
                "label": element.label.value,
                "score": round(float(element.score), 6),
                "token": token,
                **({"track_id": element.track_id} if element.track_id else {}),
            },
            "geometry": _geometry(element, placed(element.points)),
        }
        for element in elements
    ]
    no_degrees = {"crs": None} if origin is None else {}
    about = {"frame": frame, "token": token, "stamp_ns": stamp_ns}
    return {"type": "FeatureCollection", **no_degrees, **about, "features": features}


def write_geojson(path: str | Path, collection: dict[str, Any]) -> None:
    """Writes what `to_geojson` makes.

    Raises:
        OutputError: if the file cannot be written.
    """
    write_atomically(path, (json.dumps(collection) + "\n").encode())


def _geometry(element: MapElement, points: np.ndarray) -> dict[str, Any]:
    if not element.closed:
        return {"type": "LineString", "coordinates": points.tolist()}
    ring = polyline.closed_ring(points)
    if element.label is not MapClass.PED_CROSSING:
        return {"type": "LineString", "coordinates": ring.tolist()}
    x, y = (ring - ring[0]).T
    is_clockwise = (x[:-1] * y[1:] - x[1:] * y[:-1]).sum() < 0
    return {"type": "Polygon", "coordinates": [(ring[::-1] if is_clockwise else ring).tolist()]}
