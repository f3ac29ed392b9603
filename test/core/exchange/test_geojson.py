"""Elements as GeoJSON: on the earth where that is known, else metres that nobody can take for degrees."""

import json
from pathlib import Path

import numpy as np
import pytest

from hdmap_core.datasets.nuscenes.cities import CITIES
from hdmap_core.elements import MapClass, MapElement
from hdmap_core.errors import OutputError
from hdmap_core.exchange.geojson import AT_CAR, IN_MAP, ON_EARTH, to_geojson, write_geojson
from hdmap_core.geometry import se3

POSE = se3.se3(se3.rotation_from_euler(0.02, -0.01, np.pi / 2), [100.0, 200.0, 0.0])  # looks north
LINE = MapElement(MapClass.DIVIDER, np.array([[0.0, 0], [10, 0]]), score=0.7)
CROSSING = MapElement(MapClass.PED_CROSSING, np.array([[0.0, 0], [0, 4], [3, 4], [3, 0]]), closed=True)  # clockwise
ISLAND = MapElement(MapClass.BOUNDARY, np.array([[0.0, 0], [2, 0], [2, 2]]), closed=True)


def test_on_the_earth() -> None:
    origin = CITIES["boston-seaport"]
    made = to_geojson([LINE], token="a", stamp_ns=5, map_from_ego=POSE, origin=origin)
    assert made["type"] == "FeatureCollection" and made["frame"] == ON_EARTH
    assert "crs" not in made, "RFC 7946 has longitude and latitude only"
    (feature,) = made["features"]
    assert feature["properties"] == {"label": "divider", "score": 0.7, "token": "a"}
    assert feature["geometry"]["type"] == "LineString"
    degrees = np.array(feature["geometry"]["coordinates"])
    np.testing.assert_allclose(origin.metres(degrees), [[100, 200], [100, 210]], atol=2e-3)
    assert (degrees[:, 0] < -70).all() and (degrees[:, 1] > 42).all(), "longitude comes first"


def test_metres_say_so() -> None:
    in_map, at_car = to_geojson([LINE], map_from_ego=POSE), to_geojson([LINE])
    assert (in_map["frame"], at_car["frame"]) == (IN_MAP, AT_CAR)
    assert in_map["crs"] is None and at_car["crs"] is None
    np.testing.assert_allclose(in_map["features"][0]["geometry"]["coordinates"], [[100, 200], [100, 210]], atol=2e-3)
    assert at_car["features"][0]["geometry"]["coordinates"] == [[0, 0], [10, 0]]
    # Where the map lies helps nobody who does not know where the car is on it.
    assert to_geojson([LINE], origin=CITIES["boston-seaport"]) == at_car


def test_closed_elements() -> None:
    crossing, island = to_geojson([CROSSING, ISLAND])["features"]
    (ring,) = crossing["geometry"]["coordinates"]
    assert crossing["geometry"]["type"] == "Polygon" and ring[0] == ring[-1] and len(ring) == 5
    x, y = np.array(ring).T
    assert (x[:-1] * y[1:] - x[1:] * y[:-1]).sum() > 0, "counter-clockwise"
    assert island["geometry"] == {"type": "LineString", "coordinates": [[0, 0], [2, 0], [2, 2], [0, 0]]}


def test_file(tmp_path: Path) -> None:
    write_geojson(str(tmp_path / "maps" / "a.geojson"), to_geojson([LINE, CROSSING]))
    assert len(json.loads((tmp_path / "maps" / "a.geojson").read_text())["features"]) == 2
    with pytest.raises(OutputError, match=r"a\.geojson"):
        write_geojson(tmp_path / "maps" / "a.geojson" / "b.geojson", to_geojson([]))
