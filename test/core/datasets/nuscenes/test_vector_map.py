import json
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from shapely import LineString, Polygon

from hdmap_core.datasets.nuscenes import VectorMap
from hdmap_core.elements import MapClass, MapElement
from hdmap_core.errors import DatasetError
from hdmap_core.geometry import se3

CITY = "singapore-onenorth"


def pose(x: float, y: float, yaw: float = 0.0, roll: float = 0.0, pitch: float = 0.0) -> np.ndarray:
    return se3.se3(se3.rotation_from_euler(roll, pitch, yaw), [x, y, 0.0])


def lines_of(elements: list[MapElement], label: MapClass) -> list[LineString]:
    rings = [np.vstack([e.points, e.points[:1]]) if e.closed else e.points for e in elements if e.label == label]
    return [LineString(ring) for ring in rings]


def rings_of(area: Any) -> list[LineString]:
    parts = [part for part in shapely.get_parts(area) if isinstance(part, Polygon)]
    return [LineString(ring.coords) for part in parts for ring in (part.exterior, *part.interiors)]


def devkit_truth(root: Path, city: str, centre: np.ndarray, size: tuple[float, float]) -> dict[MapClass, list[Any]]:
    """MapTR's recipe on nuscenes-devkit's clipped shapes: cut first, unite then, as the original does."""
    pytest.importorskip("nuscenes", reason="nuscenes-devkit, the oracle, is not installed; make setup brings it")
    from nuscenes.map_expansion.map_api import NuScenesMap

    nusc_map = NuScenesMap(dataroot=str(root), map_name=city)
    patch = (centre[0, 3], centre[1, 3], size[1], size[0])
    angle = math.degrees(se3.yaw_of(centre))

    def clipped(layer: str) -> list[Any]:
        shapes = nusc_map.get_map_geom(patch, angle, [layer])[0][1]
        return [part for shape in shapes for part in shapely.get_parts(shape)]

    dividers = [part for layer in ("road_divider", "lane_divider") for part in clipped(layer)]
    roads = shapely.union_all([shapely.union_all(clipped("road_segment")), shapely.union_all(clipped("lane"))])
    inner = shapely.box(-size[0] / 2 + 0.2, -size[1] / 2 + 0.2, size[0] / 2 - 0.2, size[1] / 2 - 0.2)
    boundaries = []
    for ring in rings_of(roads):
        cut = ring.intersection(inner)
        merged = shapely.line_merge(cut) if cut.geom_type == "MultiLineString" else cut
        boundaries += list(shapely.get_parts(merged))
    return {
        MapClass.DIVIDER: [part for part in dividers if part.length > 1e-3],
        MapClass.PED_CROSSING: rings_of(shapely.union_all(clipped("ped_crossing"))),
        MapClass.BOUNDARY: [part for part in boundaries if part.length > 1e-3],
    }


@pytest.mark.parametrize(
    "centre",
    [
        pose(400.0, 1000.0),
        pose(402.3, 1001.7, 0.4),
        pose(390.0, 998.0, -2.2, roll=0.02, pitch=-0.01),
        pose(452.0, 1000.0, math.pi / 2),
        pose(415.0, 1000.0, 3.0),
        pose(700.0, 1500.0, 0.3),
    ],
)
def test_agrees_with_the_devkit(hard_map_root: Path, centre: np.ndarray) -> None:
    elements = VectorMap.of_city(hard_map_root, CITY).elements(centre)
    for label, truth in devkit_truth(hard_map_root, CITY, centre, (60.0, 30.0)).items():
        ours = lines_of(elements, label)
        assert len(ours) == len(truth), label
        unmatched = list(truth)
        for line in ours:
            distance = [line.hausdorff_distance(other) for other in unmatched]
            nearest = int(np.argmin(distance))
            assert distance[nearest] < 1e-4, label
            assert line.length == pytest.approx(unmatched.pop(nearest).length, abs=1e-3)


def test_hard_cases_are_what_they_should_be(hard_map_root: Path) -> None:
    elements = VectorMap.of_city(hard_map_root, CITY).elements(pose(400.0, 1000.0))
    dividers = lines_of(elements, MapClass.DIVIDER)
    # The straight one, the loop, the zigzag in three pieces; neither the touching nor the empty line.
    assert sorted(round(line.length, 1) for line in dividers) == [12.0, 17.0, 17.0, 33.9, 60.0]
    crossings = [element for element in elements if element.label == MapClass.PED_CROSSING]
    assert all(element.closed for element in crossings)
    areas = sorted(round(Polygon(element.points).area, 2) for element in crossings)
    assert areas == [20.0, 30.0, 60.0]  # cut at the border, alone, two that touch
    boundaries = [element for element in elements if element.label == MapClass.BOUNDARY]
    islands = [element for element in boundaries if element.closed]
    assert sorted(round(Polygon(element.points).area, 2) for element in islands) == [20.0, 36.0]
    for element in boundaries:
        assert np.abs(element.points[:, 0]).max() <= 29.8 + 1e-4
        assert np.abs(element.points[:, 1]).max() <= 14.8 + 1e-4


def test_two_edges_of_every_crossing(hard_map_root: Path) -> None:
    """Touching crossings, which are one outline, keep their four sides; the border of the patch is no side."""
    vector_map, centre = VectorMap.of_city(hard_map_root, CITY), pose(400.0, 1000.0)
    crossing = (MapClass.PED_CROSSING,)
    edges = vector_map.elements(centre, classes=crossing, crossings="edges")
    assert len(vector_map.elements(centre, classes=crossing)) == 3
    assert len(edges) == 7 and not any(element.closed for element in edges)
    sides = lines_of(edges, MapClass.PED_CROSSING)
    assert [round(line.length, 3) for line in sides] == [10.0] * 7
    assert sorted(round(line.centroid.x) for line in sides) == [-28, -4, -1, -1, 2, 22, 25]


def test_the_road_lies_to_the_right_of_its_boundary(hard_map_root: Path) -> None:
    vector_map = VectorMap.of_city(hard_map_root, CITY)
    centre = pose(400.0, 1000.0)
    areas = vector_map.areas(centre, layers=("road_segment", "lane"))
    road = shapely.union_all(list(areas.values()))
    for line in lines_of(vector_map.elements(centre), MapClass.BOUNDARY):
        (x0, y0), (x1, y1) = np.array(line.coords)[:2]
        step = np.array([y1 - y0, x0 - x1]) / np.hypot(x1 - x0, y1 - y0) * 0.05
        right = shapely.Point(np.array([(x0 + x1) / 2, (y0 + y1) / 2]) + step)
        assert road.distance(right) < 1e-6


def test_classes_are_chosen_and_ordered(hard_map_root: Path) -> None:
    vector_map = VectorMap.of_city(hard_map_root, CITY)
    labels = [e.label for e in vector_map.elements(pose(400.0, 1000.0), classes=(MapClass.PED_CROSSING,))]
    assert set(labels) == {MapClass.PED_CROSSING}


def test_elements_move_with_the_car(hard_map_root: Path) -> None:
    """Turned by half a turn, the same patch holds the same lines with both signs flipped."""
    vector_map = VectorMap.of_city(hard_map_root, CITY)
    ahead = lines_of(vector_map.elements(pose(400.0, 1000.0, 0.3)), MapClass.BOUNDARY)
    back = lines_of(vector_map.elements(pose(400.0, 1000.0, 0.3 + math.pi)), MapClass.BOUNDARY)
    flipped = shapely.union_all([shapely.transform(line, lambda xy: -xy) for line in back])
    assert shapely.union_all(ahead).hausdorff_distance(flipped) < 1e-4


def test_areas(hard_map_root: Path) -> None:
    areas = VectorMap.of_city(hard_map_root, CITY).areas(pose(400.0, 1000.0))
    assert areas["drivable_area"].area == pytest.approx(60 * 25 - 20)  # 10 m to the south, 15 m to the north
    assert not areas["drivable_area"].contains(shapely.Point(15, 0))
    bow_tie = 2 * 0.5 * 3 * 2
    assert areas["ped_crossing"].area == pytest.approx(20 + 60 + 30 + bow_tie)


def test_empty_city_and_pickling(hard_map_root: Path) -> None:
    assert VectorMap.of_city(hard_map_root, "boston-seaport").elements(pose(400.0, 1000.0)) == []
    vector_map = VectorMap.of_city(hard_map_root, CITY)
    before = vector_map.elements(pose(400.0, 1000.0))
    after = pickle.loads(pickle.dumps(vector_map)).elements(pose(400.0, 1000.0))
    assert [e.to_json() for e in after] == [e.to_json() for e in before]


def test_missing_map_says_what_there_is(hard_map_root: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"utrecht\.json.*boston-seaport.*Map expansion pack"):
        VectorMap.of_city(hard_map_root, "utrecht")
    with pytest.raises(DatasetError, match="holds no map"):
        VectorMap.of_city(tmp_path, CITY)


def test_null_tokens_and_short_shapes_are_left_out(expansion: Callable[[], Any], tmp_path: Path) -> None:
    town = expansion()
    town.line("lane_divider", [(400.0, 1000.0)])
    town.polygon("ped_crossing", [(400.0, 1000.0), (401.0, 1000.0)])
    town.layers["ped_crossing"].append({"token": "null", "polygon_token": None, "road_segment_token": None})
    town.layers["lane_divider"].append({"token": "null", "line_token": None, "lane_divider_segments": []})
    town.polygon("road_segment", [(390.0, 1000.0), (400.0, 1000.0), (410.0, 1000.0)])
    assert VectorMap(town.write(tmp_path, CITY)).elements(pose(400.0, 1000.0)) == []


def test_broken_maps_are_named(expansion: Callable[[], Any], tmp_path: Path) -> None:
    town = expansion()
    town.line("lane_divider", [(400.0, 1000.0), (405.0, 1000.0)])
    path = town.write(tmp_path, CITY)
    content = path.read_text()
    path.write_text(content[: len(content) // 2])
    with pytest.raises(DatasetError, match=rf"{CITY}\.json: broken or truncated JSON at line 1"):
        VectorMap(path)
    path.write_text("[" * 100_000)
    with pytest.raises(DatasetError, match=rf"{CITY}\.json: JSON that is not read"):
        VectorMap(path)
    layers = json.loads(content)
    path.write_text(json.dumps({**layers, "line": [{"token": "line-0", "node_tokens": ["nowhere", "node-0"]}]}))
    with pytest.raises(DatasetError, match=r"'line-0' points to node 'nowhere'"):
        VectorMap(path).elements(pose(400.0, 1000.0))
    path.write_text(json.dumps({**layers, "line": []}))
    with pytest.raises(DatasetError, match=r"lane_divider .* points to line 'line-0'"):
        VectorMap(path).elements(pose(400.0, 1000.0))
    del layers["node"]
    path.write_text(json.dumps(layers))
    with pytest.raises(DatasetError, match="layer 'node' is missing"):
        VectorMap(path)
