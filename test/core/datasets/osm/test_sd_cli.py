"""`hdmap sdmap`, its figures and its picture."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import shapely

from hdmap_core.datasets.nuscenes import NuScenesTables
from hdmap_core.datasets.osm.coverage import coverage
from hdmap_core.datasets.osm.picture import CityBackground, draw_city
from hdmap_core.datasets.osm.roads import ATTRIBUTION, Road
from hdmap_core.datasets.sd_map import SdMap

CITY = "singapore-onenorth"
City = Callable[..., Path]
Hdmap = Callable[..., Any]
NOWHERE = np.zeros((0, 2))


def test_coverage_in_numbers() -> None:
    lines = [np.array([[0.0, 0], [100, 0]]), np.array([[0.0, 50], [100, 50], [100, 150]])]
    area = [shapely.box(-10, -10, 60, 10), shapely.box(90, 40, 110, 200)]
    driven = np.array([[50.0, 20], [0, 79], [0, 81], [300, 0]])
    figures = coverage(lines, area, driven)
    assert figures.length_m == pytest.approx(300)
    assert figures.inside == pytest.approx((60 + 10 + 100) / 300, abs=0.01)
    assert figures.near == 0.5 and figures.driven == 4
    assert figures.notes == [
        "0.3 km of roads",
        "56.7% of it in the drivable area of the HD map",
        "50.0% of 4 keyframes have a road within 30 m",
    ]
    bare = coverage(lines, [], NOWHERE)
    assert (bare.inside, bare.near, bare.notes) == (None, None, ["0.3 km of roads"])
    none = coverage([], area, driven)
    assert (none.length_m, none.inside, none.near) == (0, None, 0)


def test_the_picture_has_the_roads_over_the_map() -> None:
    roads = [Road(np.array([[0.0, 0], [100, 0]]), "motorway", True, ""), Road(np.eye(2) * 90, "steps", False, "")]
    square = shapely.box(0, 0, 100, 100).difference(shapely.box(40, 40, 60, 60))
    background = CityBackground([square], [shapely.LineString([[0, 80], [100, 80]])], np.array([[20.0, 20]]))
    picture = draw_city("a city", roads, background, coverage([road.line for road in roads], [square], NOWHERE))
    assert picture.dtype == np.uint8 and picture.shape == (2000, 2700, 3)
    per_metre = 2000 / 200  # 50 m around the square

    def at(x: float, y: float) -> tuple[int, ...]:
        return tuple(picture[round((150 - y) * per_metre), round((x + 50) * per_metre)].tolist())

    assert at(50, 0) == (235, 64, 92)  # south is below
    assert at(20, 20) == (255, 255, 255)
    assert at(10, 90) == (52, 56, 66)
    assert at(50, 50) == at(-40, -40)  # the hole is no road
    np.testing.assert_allclose(at(50, 80), (104, 108, 122), atol=8)  # one pixel, smoothed


def test_without_a_nuscenes_folder(osm_city: City, tmp_path: Path, hdmap: Hdmap) -> None:
    osm, out = osm_city(), tmp_path / "out"
    ended = hdmap("sdmap", osm, "-o", out)
    assert ended.code == 0, ended.err
    assert f"{CITY}: 3 of 5 lines, 0.8 km of roads\n" in ended.out
    assert sorted(path.name for path in out.iterdir()) == [f"{CITY}.geojson", f"{CITY}.png"]
    content = json.loads((out / f"{CITY}.geojson").read_text())
    assert content["attribution"] == ATTRIBUTION and content["city"] == CITY and content["roads"] == "cars"
    assert len(SdMap.read(out / f"{CITY}.geojson").lines) == 3
    picture = cv2.imread(str(out / f"{CITY}.png"))
    assert picture is not None and picture.shape[1] > 2000
    assert hdmap("sdmap", osm, "-o", out, "--roads", "all").code == 0  # one's own may be replaced
    assert len(SdMap.read(out / f"{CITY}.geojson").lines) == 5


def test_a_synthetic_town_through_openstreetmap(osm_city: City, tiny_world: Path, tmp_path: Path, hdmap: Hdmap) -> None:
    """The roads of a town written as a shapefile and made into an SD map again: the same, and under its cars."""
    for path in sorted((tiny_world / "maps" / "sd").glob("*.geojson")):
        features = json.loads(path.read_text())["features"]
        if features:
            break
    city = path.stem
    roads = [("residential", feature["geometry"]["coordinates"], {}) for feature in features]
    out = tmp_path / "out"
    ended = hdmap("sdmap", osm_city(city, roads), tiny_world, "-o", out)
    assert ended.code == 0, ended.err
    made, given = SdMap.read(out / path.name).lines, SdMap.read(path).lines
    assert len(made) == len(given) > 3
    for ours, theirs in zip(made, given, strict=True):
        np.testing.assert_allclose(shapely.get_coordinates(ours), shapely.get_coordinates(theirs), atol=2e-3)
    # Streets of a town end where it ends; the drivable area does a little earlier or later.
    share = float(ended.out.split("km of roads, ")[1].split("%")[0])
    assert share > 90
    assert "100.0% of 3 keyframes have a road within 30 m" in ended.out
    version = NuScenesTables(tiny_world).version
    assert hdmap("sdmap", osm_city(city, roads), tiny_world, "-o", out, "--version", version).out == ended.out
    ended = hdmap("sdmap", osm_city(city, roads), tiny_world, "-o", out, "--version", "v1.0-test")
    ended.assert_refused("has no version 'v1.0-test'")


def nuscenes_with_own_map(root: Path) -> Path:
    path = root / "maps" / "sd" / f"{CITY}.geojson"
    path.parent.mkdir(parents=True)
    path.write_text('{"type": "FeatureCollection", "features": []}')
    return path


def test_a_town_s_own_map_is_kept(osm_city: City, tmp_path: Path, hdmap: Hdmap) -> None:
    root = tmp_path / "nuscenes"
    path = nuscenes_with_own_map(root)
    before = path.read_text()
    hdmap("sdmap", osm_city(), root).assert_refused(str(path), "not from OpenStreetMap", "--overwrite")
    assert path.read_text() == before
    assert hdmap("sdmap", osm_city(), root, "--overwrite").code == 0
    assert len(SdMap.read(path).lines) == 3
    assert hdmap("sdmap", osm_city(), root).code == 0


def test_what_is_refused(osm_city: City, tmp_path: Path, hdmap: Hdmap) -> None:
    osm, out = osm_city(), tmp_path / "out"
    hdmap("sdmap", osm).assert_refused("where to?", "-o FOLDER")
    hdmap("sdmap", tmp_path / "gone", "-o", out).assert_refused("gone: no such folder")
    (tmp_path / "empty").mkdir()
    hdmap("sdmap", tmp_path / "empty", "-o", out).assert_refused("holds the shapefile of no city", "boston-seaport.shp")
    hdmap("sdmap", osm, tmp_path / "empty").assert_refused("is not a nuScenes folder")
    hdmap("sdmap", osm, "-o", out, "--cities", f"{CITY},paris").assert_refused("no city 'paris'")
    hdmap("sdmap", osm, "-o", out, "--cities", "boston-seaport").assert_refused("no file", "boston-seaport.shp")
    hdmap("sdmap", osm, "-o", out, "--roads", "big").assert_refused("no choice of roads 'big'")
    assert not out.exists()
    (tmp_path / "file").write_text("")
    hdmap("sdmap", osm, "-o", tmp_path / "file").assert_refused("cannot write", "file is not a folder")
    path = osm / f"{CITY}.dbf"
    path.write_bytes(path.read_bytes()[:100])
    hdmap("sdmap", osm, "-o", out).assert_refused(f"{CITY}.dbf is truncated")


def test_a_city_without_a_chosen_road(osm_city: City, tmp_path: Path, hdmap: Hdmap) -> None:
    osm, out = osm_city(roads=[("footway", [[100, 500], [200, 500]], {})]), tmp_path / "out"
    hdmap("sdmap", osm, "-o", out).assert_refused(f"{CITY}.shp: none of its 1 lines", "'cars'", "--roads all")
    assert not out.exists(), "a map without roads would be taken for a place without roads"
    assert hdmap("sdmap", osm, "-o", out, "--roads", "all").code == 0


def test_help_has_an_example(hdmap: Hdmap) -> None:
    ended = hdmap("sdmap", "--help")
    assert ended.code == 0
    assert "Example: hdmap sdmap" in ended.out
