"""Centerlines of a map: cut at the patch, in the driving direction, one per lane or connector and piece."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely import LineString

from hdmap_core.datasets.nuscenes import VectorMap
from hdmap_core.elements import MapClass, MapElement
from hdmap_core.errors import DatasetError
from hdmap_core.geometry import se3

CITY = "singapore-onenorth"
HERE = se3.se3(np.eye(3), [400.0, 1000.0, 0.0])
CENTERLINE = (MapClass.CENTERLINE,)


def straight(x: float, y: float, yaw: float, length: float) -> list[dict[str, Any]]:
    end = [x + length * math.cos(yaw), y + length * math.sin(yaw), yaw]
    lengths = [0.0, length, 0.0]
    return [{"start_pose": [x, y, yaw], "end_pose": end, "shape": "LSR", "radius": 999.999, "segment_length": lengths}]


def through(points: np.ndarray) -> list[dict[str, Any]]:
    steps = np.diff(points, axis=0)
    return [
        straight(*start, math.atan2(step[1], step[0]), math.hypot(*step))[0]
        for start, step in zip(points[:-1].tolist(), steps.tolist(), strict=True)
    ]


def centerlines(vector_map: VectorMap, pose: np.ndarray = HERE) -> list[MapElement]:
    return vector_map.elements(pose, classes=CENTERLINE)


@pytest.fixture
def town(expansion: Callable[[], Any]) -> Any:
    return expansion()


def test_lanes_and_connectors_are_cut_in_the_driving_direction(town: Any, tmp_path: Path) -> None:
    town.path("lane", straight(350.0, 997.0, 0.0, 100.0))  # through the patch, eastwards
    town.path("lane", straight(450.0, 1003.0, math.pi, 40.0))  # in from the east, ends in the patch
    town.path("lane_connector", straight(410.0, 1003.0, math.pi, 5.0))  # inside
    town.path("lane", straight(400.0, 1030.0, 0.0, 20.0))  # outside
    town.path("lane", straight(400.0, 1025.0, -math.pi / 2, 10.0))  # touches the border in one point
    town.layers["lane"].append({"token": "no-path", "polygon_token": None})
    found = centerlines(VectorMap(town.write(tmp_path, CITY)))
    assert [(element.label, element.closed) for element in found] == [(MapClass.CENTERLINE, False)] * 3
    expected = [[[-30, -3], [30, -3]], [[30, 3], [10, 3]], [[10, 3], [5, 3]]]
    for element, points in zip(found, expected, strict=True):
        np.testing.assert_allclose(element.points, points, atol=1e-4)


def test_they_come_only_when_asked_for(town: Any, tmp_path: Path) -> None:
    town.path("lane", straight(380.0, 1000.0, 0.0, 10.0))
    town.line("lane_divider", [(380.0, 1002.0), (390.0, 1002.0)])
    vector_map = VectorMap(town.write(tmp_path, CITY))
    assert [e.label for e in vector_map.elements(HERE)] == [MapClass.DIVIDER]
    both = vector_map.elements(HERE, classes=(MapClass.CENTERLINE, MapClass.DIVIDER))
    assert [e.label for e in both] == [MapClass.CENTERLINE, MapClass.DIVIDER]


def test_a_lane_that_leaves_and_enters_again_gives_two_pieces(town: Any, tmp_path: Path) -> None:
    way = np.array([[390.0, 1000.0], [390.0, 1020.0], [400.0, 1020.0], [400.0, 1000.0]])
    town.path("lane", through(way))
    found = sorted(centerlines(VectorMap(town.write(tmp_path, CITY))), key=lambda element: element.points[0, 0])
    np.testing.assert_allclose(found[0].points, [[-10, 0], [-10, 15]], atol=1e-4)
    np.testing.assert_allclose(found[1].points, [[0, 15], [0, 0]], atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(-math.pi, math.pi))
def test_cutting_keeps_direction_and_length(
    tmp_path_factory: pytest.TempPathFactory, expansion: Callable[[], Any], seed: int, yaw: float
) -> None:
    """Wild lanes that cross themselves and the border many times; every edge runs as the lane does there."""
    way = np.array([400.0, 1000.0]) + np.cumsum(np.random.default_rng(seed).normal(0, 9, (25, 2)), axis=0)
    town = expansion()
    town.path("lane", through(way))
    pose = se3.se3(se3.rotation_from_euler(0, 0, yaw), [400.0, 1000.0, 0.0])
    found = centerlines(VectorMap(town.write(tmp_path_factory.mktemp("wild"), CITY)), pose)
    local = (way - (400.0, 1000.0)) @ pose[:2, :2]
    edges = np.diff(local, axis=0)
    for element in found:
        points = element.points.astype(np.float64)
        assert not element.closed
        for middle, step in zip((points[:-1] + points[1:]) / 2, np.diff(points, axis=0), strict=True):
            if math.hypot(*step) < 0.01:
                continue  # float32 leaves no direction
            share = np.clip(((middle - local[:-1]) * edges).sum(1) / (edges**2).sum(1), 0, 1)
            gaps = np.hypot(*(local[:-1] + share[:, None] * edges - middle).T)
            near = gaps < 1e-3
            assert (edges[near] @ step > 0).any()
    whole = shapely.intersection(LineString(local), shapely.box(-30, -15, 30, 15))
    assert sum(LineString(e.points).length for e in found) == pytest.approx(whole.length, abs=0.05)


def test_maps_without_paths(town: Any, tmp_path: Path) -> None:
    town.line("lane_divider", [(380.0, 1002.0), (390.0, 1002.0)])
    town.path("lane", straight(380.0, 1000.0, 0.0, 10.0))
    path = town.write(tmp_path, CITY)
    layers = json.loads(path.read_text())
    for changes in ({"arcline_path_3": {}}, {"arcline_path_3": None}, {"arcline_path_3": ...}):
        content = {key: value for key, value in {**layers, **changes}.items() if value is not ...}
        path.write_text(json.dumps(content))
        vector_map = VectorMap(path)
        assert len(vector_map.elements(HERE)) == 1, "the other classes need no paths"
        with pytest.raises(DatasetError, match=rf"{CITY}\.json: there is no 'arcline_path_3'.*without centerline"):
            centerlines(vector_map)
    del layers["lane_connector"]
    path.write_text(json.dumps(layers))
    assert len(VectorMap(path).elements(HERE)) == 1
    with pytest.raises(DatasetError, match="layer 'lane_connector' is missing"):
        centerlines(VectorMap(path))


def test_a_city_without_lanes_has_no_centerlines(town: Any, tmp_path: Path) -> None:
    assert centerlines(VectorMap(town.write(tmp_path, CITY))) == []


def test_a_broken_path_is_named(town: Any, tmp_path: Path) -> None:
    town.path("lane", [{"shape": "LSL"}])
    with pytest.raises(DatasetError, match=rf"{CITY}\.json: piece 0 of the arcline_path_3 of 'lane-0' lacks"):
        centerlines(VectorMap(town.write(tmp_path, CITY)))
