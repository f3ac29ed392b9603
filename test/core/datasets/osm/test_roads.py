"""OpenStreetMap shapefiles: which roads, where they lie, and what is wrong with those that are damaged."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import shapefile

from hdmap_core.datasets.nuscenes.cities import CITIES
from hdmap_core.datasets.osm.roads import chosen, read_roads, write_sd_map
from hdmap_core.datasets.sd_map import SdMap
from hdmap_core.errors import ConfigError, DatasetError, OutputError
from hdmap_core.geometry import se3

CITY = "singapore-onenorth"
City = Callable[..., Path]


@pytest.mark.parametrize("city", CITIES)
def test_metres_of_the_map_frame(city: str) -> None:
    latitude, longitude = CITIES[city]
    np.testing.assert_array_equal(CITIES[city].metres(np.array([longitude, latitude])), [0, 0])
    # Metres per degree of latitude on a sphere of 6378137 m, and of longitude that times the cosine.
    north, east = CITIES[city].metres(np.array([[longitude, latitude + 0.01], [longitude + 0.01, latitude]]))
    np.testing.assert_allclose(north, [0, 1113.1949], atol=1e-3)
    np.testing.assert_allclose(east, [1113.1949 * np.cos(np.radians(latitude)), 0], atol=1e-3)


def test_a_mercator_metre_is_no_metre_in_boston() -> None:
    latitude, longitude = CITIES["boston-seaport"]
    (x, _) = CITIES["boston-seaport"].metres(np.array([longitude + 0.01, latitude]))
    assert 0.01 * np.pi / 180 * 6378137 / x == pytest.approx(1.353, abs=0.001)


def test_roads_with_what_is_known_of_them(osm_city: City) -> None:
    roads = read_roads(osm_city(), CITY)
    assert [road.kind for road in roads] == ["residential", "motorway", "tertiary_link", "service", "footway"]
    np.testing.assert_allclose(roads[1].line, [[100, 200], [400, 200], [400, 300]], atol=1e-4)
    assert roads[1].line.dtype == np.float64
    assert (roads[0].name, roads[0].oneway) == ("Café Street", True)
    assert (roads[2].name, roads[2].oneway) == ("", False)


def test_which_roads_are_chosen(osm_city: City) -> None:
    roads = read_roads(osm_city(), CITY)
    kinds = {choice: [road.kind for road in chosen(roads, choice)] for choice in ("cars", "published", "all")}
    assert kinds["cars"] == ["residential", "motorway", "tertiary_link"]
    assert kinds["published"] == ["residential", "tertiary_link"]
    assert len(kinds["all"]) == 5
    with pytest.raises(ConfigError, match="no choice of roads 'big'; there are cars, published, all"):
        chosen(roads, "big")


def test_parts_of_a_record_are_roads_of_their_own(osm_city: City) -> None:
    parts = [[[100, 100], [200, 100]], [[300, 100], [400, 100]]]
    first, second = read_roads(osm_city(roads=[("primary", parts, {})]), CITY)
    np.testing.assert_allclose(first.line, parts[0], atol=1e-4)
    np.testing.assert_allclose(second.line, parts[1], atol=1e-4)


def test_a_deleted_record_takes_its_shape_with_it(osm_city: City) -> None:
    roads = [("primary", [[100 * n, 100], [100 * n + 90, 100]], {}) for n in (1, 2, 3)]
    folder = osm_city(roads=roads)
    table = folder / f"{CITY}.dbf"
    content = bytearray(table.read_bytes())
    start, size = (int.from_bytes(content[at : at + 2], "little") for at in (8, 10))
    content[start + size] = ord("*")  # how dBase marks the second one
    table.write_bytes(content)
    np.testing.assert_allclose([road.line for road in read_roads(folder, CITY)], [roads[0][1], roads[2][1]], atol=1e-4)


def test_roads_far_from_the_city_are_left_out(osm_city: City) -> None:
    roads = [("primary", [[100, 100], [200, 100]], {}), ("primary", [[20_000, 100], [21_000, 100]], {})]
    (near,) = read_roads(osm_city(roads=roads), CITY)
    np.testing.assert_allclose(near.line, roads[0][1], atol=1e-4)


def test_what_is_written_is_an_sd_map(osm_city: City, tmp_path: Path) -> None:
    roads = chosen(read_roads(osm_city(), CITY), "cars")
    path = tmp_path / "sd" / f"{CITY}.geojson"
    write_sd_map(path, CITY, roads, "cars")
    text = path.read_text(encoding="utf-8")
    assert '"attribution": "© OpenStreetMap contributors, ODbL 1.0"' in text
    assert '{"type": "residential", "oneway": true, "name": "Café Street"}' in text
    pose = se3.se3(np.eye(3), [150.0, 95.0, 0.0])
    (line,) = SdMap.read(path).near(pose, (-30, 30), (-15, 15))
    np.testing.assert_allclose(sorted(line.tolist()), [[-30, 5], [30, 5]], atol=2e-3)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot write .*file/x\.geojson"):
        write_sd_map(tmp_path / "file" / "x.geojson", CITY, roads, "cars")


def test_an_unknown_city(osm_city: City) -> None:
    with pytest.raises(ConfigError, match="no city 'atlantis'; nuScenes has boston-seaport, singapore-onenorth"):
        read_roads(osm_city(), "atlantis")


@pytest.mark.parametrize("suffix", [".shp", ".shx", ".dbf"])
def test_a_part_is_missing(osm_city: City, suffix: str) -> None:
    folder = osm_city()
    (folder / f"{CITY}{suffix}").unlink()
    with pytest.raises(DatasetError, match=rf"no file .*{CITY}\{suffix}; a shapefile is \.shp, \.shx, \.dbf"):
        read_roads(folder, CITY)


@pytest.mark.parametrize("suffix", [".shp", ".shx", ".dbf"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.4, 0.7, 0.95])
def test_truncated_files_are_named(osm_city: City, suffix: str, share: float) -> None:
    path = osm_city() / f"{CITY}{suffix}"
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(DatasetError, match=rf"{CITY}\{suffix} is truncated: it has \d+"):
        read_roads(path.parent, CITY)


@pytest.mark.parametrize("suffix", [".shp", ".shx", ".dbf"])
def test_damaged_files_are_refused_or_read(osm_city: City, suffix: str) -> None:
    """Bytes at random places: a wrong coordinate cannot be seen, but nothing else than DatasetError may come."""
    path = osm_city() / f"{CITY}{suffix}"
    data = path.read_bytes()
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(60):
        damaged = bytearray(data)
        for place in random.integers(0, len(data), 3):
            damaged[place] = random.integers(256)
        path.write_bytes(bytes(damaged))
        try:
            read_roads(path.parent, CITY)
        except DatasetError as error:
            assert CITY in str(error)
            refused += 1
    assert refused > 0


@pytest.mark.parametrize(
    "projection",
    [
        'PROJCS["WGS_1984_Web_Mercator_Auxiliary_Sphere",GEOGCS["GCS_WGS_1984",DATUM["D_WGS_1984"]]]',
        'GEOGCS["GCS_North_American_1927",DATUM["D_North_American_1927"]]',
        "",
    ],
)
def test_another_projection_is_refused(osm_city: City, projection: str) -> None:
    with pytest.raises(DatasetError, match=r"onenorth\.prj: the coordinates are in .*expected WGS-84"):
        read_roads(osm_city(projection=projection), CITY)


def test_without_prj_the_place_must_fit(osm_city: City) -> None:
    assert len(read_roads(osm_city(projection=None), CITY)) == 5
    folder = osm_city()
    for suffix in (".shp", ".shx", ".dbf"):
        (folder / f"{CITY}{suffix}").rename(folder / f"boston-seaport{suffix}")
    with pytest.raises(DatasetError, match="none of its 5 lines is near boston-seaport; expected longitude, latitude"):
        read_roads(folder, "boston-seaport")


def test_other_shapes_and_columns_are_refused(osm_city: City) -> None:
    with pytest.raises(DatasetError, match=r"onenorth\.dbf: no column 'type' .*it has osm_id, name, fclass, oneway"):
        read_roads(osm_city(column="fclass"), CITY)
    folder = osm_city()
    with shapefile.Writer(str(folder / CITY), shapeType=shapefile.POINT) as writer:
        writer.field("type", "C", 16)
        writer.point(103.785, 1.289)
        writer.record("primary")
    with pytest.raises(DatasetError, match="holds POINT shapes; roads must be polylines"):
        read_roads(folder, CITY)


@pytest.mark.parametrize(
    ("city", "lines", "with_bug", "published"),
    [
        ("boston-seaport", 1781, 372, 372),
        ("singapore-onenorth", 1537, 684, 697),
        ("singapore-hollandvillage", 2333, 1115, 1116),
        ("singapore-queenstown", 4148, 1139, 1151),
    ],
)
def test_counts_of_the_real_files(real_osm: Path, city: str, lines: int, with_bug: int, published: int) -> None:
    roads = read_roads(real_osm, city)
    kept = chosen(roads, "published")
    assert (len(roads), len(kept)) == (lines, published)
    assert sum(road.kind not in ("tertiary_link", "living_street") for road in kept) == with_bug


EXTENTS = {  # metres, of all lines together
    "boston-seaport": (31, 36, 2956, 2236),
    "singapore-onenorth": (-66, 422, 1301, 2058),
    "singapore-hollandvillage": (323, 541, 3400, 3096),
    "singapore-queenstown": (194, 774, 3255, 3605),
}


@pytest.mark.parametrize("city", EXTENTS)
def test_extents_of_the_real_files(real_osm: Path, city: str) -> None:
    points = np.concatenate([road.line for road in read_roads(real_osm, city)])
    np.testing.assert_allclose([*points.min(axis=0), *points.max(axis=0)], EXTENTS[city], atol=1.0)
