"""Lanelet2's OSM XML: what stands in it, and that Lanelet2 itself reads it back at the same place."""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from hdmap_core.elements import MapClass, MapElement
from hdmap_core.errors import ConfigError, ElementError, OutputError
from hdmap_core.exchange.map_file import parse_origin, write_map
from hdmap_core.geometry import se3
from hdmap_core.geometry.map_origin import GeodeticOrigin, MapOrigin

ELEMENTS = [
    MapElement(MapClass.DIVIDER, np.array([[0, 0], [40, 1], [80, 5]]), score=0.75, track_id=7),
    MapElement(MapClass.BOUNDARY, np.array([[0, 4], [80, 9]])),
    MapElement(MapClass.BOUNDARY, np.array([[100, 0], [104, 0], [104, 3], [100, 3]]), closed=True),
    MapElement(MapClass.CENTERLINE, np.array([[0, 2], [80, 7]])),
    MapElement(MapClass.PED_CROSSING, np.array([[50, -4], [54, -4], [54, 8], [50, 8]]), closed=True, track_id=9),
]
PLACE = se3.se3(np.eye(3), [120.0, -40.0, 12.5])


def tags(entity: ElementTree.Element) -> dict[str, str]:
    return {tag.attrib["k"]: tag.attrib["v"] for tag in entity.iter("tag")}


@pytest.fixture
def written(tmp_path: Path) -> ElementTree.Element:
    path = tmp_path / "map.osm"
    write_map(path, ELEMENTS, PLACE, "odom")
    return ElementTree.parse(path).getroot()


def test_every_element_is_there_with_its_tags(written: ElementTree.Element) -> None:
    ways = [tags(way) for way in written.iter("way")]
    assert [way["type"] for way in ways] == [
        "line_thin", "road_border", "road_border", "virtual", "pedestrian_marking", "pedestrian_marking",
    ]  # fmt: skip
    assert (ways[0]["score"], ways[0]["track_id"]) == ("0.750", "7") and "track_id" not in ways[1]
    (crosswalk,) = written.iter("relation")
    assert tags(crosswalk)["subtype"] == "crosswalk" and tags(crosswalk)["participant:pedestrian"] == "yes"
    assert [member.attrib["role"] for member in crosswalk.iter("member")] == ["left", "right"]
    ids = [entity.attrib["id"] for entity in written if entity.tag in ("node", "way", "relation")]
    assert len(set(ids)) == len(ids)


def test_nodes_lie_in_the_fixed_frame(written: ElementTree.Element) -> None:
    nodes = {node.attrib["id"]: tags(node) for node in written.iter("node")}
    first, _, ring, *_ = written.iter("way")
    points = [nodes[nd.attrib["ref"]] for nd in first.iter("nd")]
    found = [[float(point["local_x"]), float(point["local_y"])] for point in points]
    np.testing.assert_allclose(found, [[120, -40], [160, -39], [200, -35]])
    assert {p["ele"] for p in points} == {"12.500"}
    refs = [nd.attrib["ref"] for nd in ring.iter("nd")]
    assert refs[0] == refs[-1] and len(refs) == 5


@pytest.mark.parametrize("origin", [GeodeticOrigin(42.3368, -71.0579), None])
def test_lanelet2_reads_it_back(tmp_path: Path, origin: MapOrigin | None) -> None:
    lanelet2 = pytest.importorskip("lanelet2", reason="the oracle: pip install lanelet2")
    path = tmp_path / "map.osm"
    write_map(path, ELEMENTS, PLACE, "map", origin=origin)
    place = lanelet2.io.Origin(*(origin or (0.0, 0.0))[:2])
    projector = lanelet2.projection.LocalCartesianProjector(place)
    loaded, errors = lanelet2.io.loadRobust(str(path), projector)
    assert list(errors) == []
    lines = {line.attributes["type"]: line for line in loaded.lineStringLayer}
    divider = np.array([[point.x, point.y] for point in lines["line_thin"]])
    np.testing.assert_allclose(divider, ELEMENTS[0].points + PLACE[:2, 3], atol=0.02)
    assert len(loaded.lineStringLayer) == 6
    (crosswalk,) = loaded.laneletLayer
    assert crosswalk.attributes["subtype"] == "crosswalk"
    left, right = (np.array([[p.x, p.y] for p in bound]) for bound in (crosswalk.leftBound, crosswalk.rightBound))
    ahead, across = left[-1] - left[0], left[0] - right[0]
    assert ahead @ (right[-1] - right[0]) > 0, "the bounds run against each other"
    assert ahead[0] * across[1] - ahead[1] * across[0] > 0, "left is not left"
    rules = lanelet2.traffic_rules.create(lanelet2.traffic_rules.Locations.Germany, "pedestrian")
    assert rules.canPass(crosswalk)
    vehicle = lanelet2.traffic_rules.create(lanelet2.traffic_rules.Locations.Germany, "vehicle")
    assert not vehicle.canPass(crosswalk)


def test_nothing_is_left_of_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here")
    with pytest.raises(OutputError, match="cannot write"):
        write_map(tmp_path / "file" / "map.osm", ELEMENTS, PLACE, "odom")
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_an_origin_as_a_user_writes_it() -> None:
    assert parse_origin("42.3368, -71.0579") == GeodeticOrigin(42.3368, -71.0579)
    for wrong in ("", "42", "1,2,3", "a,b", "91,0", "90,0", "0,181", "nan,0", "inf,0"):
        with pytest.raises(ConfigError, match="latitude,longitude in degrees"):
            parse_origin(wrong)


def test_the_ellipsoid_has_true_metres() -> None:
    """Lengths of a degree from the tables of WGS84: 111 132.954 - 559.822 cos 2a + 1.175 cos 4a along the meridian."""
    for latitude in (0.0, 42.0, -60.0):
        place = GeodeticOrigin(latitude, 10.0)
        east, north = place.metres(np.array([11.0, latitude + 1.0]))
        angle = np.radians(latitude)
        assert north == pytest.approx(111132.954 - 559.822 * np.cos(2 * angle) + 1.175 * np.cos(4 * angle), abs=0.5)
        expected = 111412.84 * np.cos(angle) - 93.5 * np.cos(3 * angle) + 0.118 * np.cos(5 * angle)
        assert east == pytest.approx(expected, abs=0.5)
        np.testing.assert_allclose(place.degrees(np.array([east, north])), [11.0, latitude + 1.0])


@pytest.mark.parametrize("corner", [(500_000.0, 10_000_400.0), (-3.0e7, 0.0), (6.4e6, -6.4e6)])
def test_a_frame_that_reaches_beyond_the_pole_is_written_around_the_map(
    tmp_path: Path, corner: tuple[float, float]
) -> None:
    """Without an origin latitude and longitude say nothing, but readers refuse what is not on the earth."""
    write_map(tmp_path / "map.osm", ELEMENTS, se3.se3(np.eye(3), [*corner, 0.0]), "utm")
    nodes = list(ElementTree.parse(tmp_path / "map.osm").getroot().iter("node"))
    places = np.array([[float(node.attrib["lat"]), float(node.attrib["lon"])] for node in nodes])
    assert (np.abs(places) <= [90, 180]).all()
    metres = GeodeticOrigin(0.0, 0.0).metres(places[:, ::-1])
    local = np.array([[float(tags(node)["local_x"]), float(tags(node)["local_y"])] for node in nodes])
    np.testing.assert_allclose(local[0], corner, atol=1e-3)
    np.testing.assert_allclose(metres - metres[0], local - local[0], atol=0.01)


@pytest.mark.parametrize("suffix", ["osm", "geojson"])
def test_an_origin_of_another_frame_is_refused(tmp_path: Path, suffix: str) -> None:
    far = se3.se3(np.eye(3), [500_000.0, 5_500_000.0, 0.0])
    with pytest.raises(ElementError, match=r"5,500 km from its origin at latitude 49.*not lie on the earth"):
        write_map(tmp_path / f"map.{suffix}", ELEMENTS, far, "map", origin=GeodeticOrigin(49.0, 8.4))
    assert not list(tmp_path.iterdir())


def test_degrees_go_on_behind_the_date_line() -> None:
    place = GeodeticOrigin(-16.8, 179.99)
    assert place.degrees(np.array([5000.0, 0.0]))[0] == pytest.approx(-179.963, abs=1e-3)
