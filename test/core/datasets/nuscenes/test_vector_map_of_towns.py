"""The closed loop: what a synthetic town is made of, written as a map expansion and read back as elements."""

import json
from pathlib import Path

import numpy as np
import pytest
import shapely
from shapely import LineString

from hdmap_core.datasets.nuscenes import VectorMap
from hdmap_core.datasets.nuscenes.map_layers import MapLayers
from hdmap_core.datasets.synthetic.formats.map_expansion import PATH_STEP_M, empty_map, merge_into, town_layers
from hdmap_core.datasets.synthetic.town import Town
from hdmap_core.datasets.synthetic.world import generate_town
from hdmap_core.elements import MapClass
from hdmap_core.geometry import se3
from hdmap_core.metrics.chamfer_ap import chamfer_ap

ORIGIN = (460.0, 860.0)
CITY = "boston-seaport"
CENTERLINE = (MapClass.CENTERLINE,)


@pytest.fixture(scope="module")
def town() -> Town:
    return generate_town(5, drives_left=False)


@pytest.fixture(scope="module")
def root(town: Town, tmp_path_factory: pytest.TempPathFactory) -> Path:
    content = empty_map(CITY)
    merge_into(content, town_layers(town, "town-5", ORIGIN))
    path: Path = tmp_path_factory.mktemp("town") / "maps" / "expansion" / f"{CITY}.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(content))
    return path.parents[2]


@pytest.fixture(scope="module")
def vector_map(root: Path) -> VectorMap:
    return VectorMap.of_city(root, CITY)


def poses(town: Town) -> list[np.ndarray]:
    found = []
    for route in town.routes[:3]:
        for index in range(20, len(route) - 2, max(len(route) // 4, 1)):
            yaw = np.arctan2(*(route[index + 1] - route[index])[::-1])
            found.append(se3.se3(se3.rotation_from_euler(0.01, -0.01, yaw), [*(route[index] + ORIGIN), 0.0]))
    return found


def lines_of(vector_map: VectorMap, pose: np.ndarray, label: MapClass) -> shapely.Geometry:
    elements = vector_map.elements(pose, classes=(label,))
    rings = [np.vstack([e.points, e.points[:1]]) if e.closed else e.points for e in elements]
    return shapely.MultiLineString([LineString(ring) for ring in rings])


def in_patch(shape: shapely.Geometry, pose: np.ndarray, margin: float = 0.0) -> shapely.Geometry:
    """The town's own shape in the ego frame, cut at the patch."""
    yaw = se3.yaw_of(pose)
    rotation = np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]])
    local = shapely.transform(shape, lambda xy: (xy + ORIGIN - pose[:2, 3]) @ rotation)
    return local.intersection(shapely.box(-30 + margin, -15 + margin, 30 - margin, 15 - margin))


def assert_same(ours: shapely.Geometry, theirs: shapely.Geometry) -> None:
    assert ours.is_empty == theirs.is_empty
    if not theirs.is_empty:
        assert ours.hausdorff_distance(theirs) < 0.01
        assert ours.length == pytest.approx(theirs.length, abs=0.05)


def test_elements_are_the_town_s_own_shapes(town: Town, vector_map: VectorMap) -> None:
    markings = shapely.MultiLineString([marking.line for marking in town.markings])
    crossings = shapely.union_all([shapely.Polygon(crossing.corners) for crossing in town.crossings])
    chosen = poses(town)
    assert len(chosen) >= 6
    for pose in chosen:
        assert_same(lines_of(vector_map, pose, MapClass.DIVIDER), in_patch(markings, pose))
        assert_same(lines_of(vector_map, pose, MapClass.PED_CROSSING), in_patch(crossings, pose).boundary)
        kerbs = in_patch(town.drivable.boundary, pose, margin=0.2)
        assert_same(lines_of(vector_map, pose, MapClass.BOUNDARY), kerbs)


def test_areas_are_the_town_s_own(town: Town, vector_map: VectorMap) -> None:
    for pose in poses(town)[:3]:
        area = vector_map.areas(pose)["drivable_area"]
        assert area.symmetric_difference(in_patch(town.drivable, pose)).area < 0.1


def test_centerlines_are_the_town_s_lanes(town: Town, vector_map: VectorMap) -> None:
    """Each piece of a lane in the patch has its element, in the same direction."""
    for pose in poses(town):
        lanes = [in_patch(LineString(lane.centerline), pose) for lane in town.lanes]
        wanted = [part for lane in lanes for part in shapely.get_parts(lane) if part.length > 0.5]
        found = [e.points for e in vector_map.elements(pose, classes=CENTERLINE) if LineString(e.points).length > 0.5]
        assert len(found) == len(wanted) > 0
        for lane in wanted:
            ends = shapely.get_coordinates(lane)[[0, -1]]
            gaps = [np.hypot(*(points[[0, -1]] - ends).T).max() for points in found]
            points = found.pop(int(np.argmin(gaps)))
            assert min(gaps) < 0.5, "begins and ends where the lane does"
            # Paths meet the lane every PATH_STEP_M; between, a bend of 8 m radius and more strays by under 0.25 m.
            assert LineString(points).hausdorff_distance(lane) < PATH_STEP_M**2 / (8 * 8.0)


def test_centerlines_agree_with_the_devkit(town: Town, root: Path, vector_map: VectorMap) -> None:
    pytest.importorskip("nuscenes", reason="nuscenes-devkit, the oracle, is not installed; make setup brings it")
    from nuscenes.map_expansion.arcline_path_utils import discretize_lane
    from nuscenes.map_expansion.map_api import NuScenesMap

    city_map = NuScenesMap(str(root), CITY)
    records = (*city_map.lane, *city_map.lane_connector)
    lanes = [np.array(discretize_lane(city_map.get_arcline_path(r["token"]), 0.5))[:, :2] for r in records]
    theirs = shapely.MultiLineString(lanes)
    for pose in poses(town):
        ours = lines_of(vector_map, pose, MapClass.CENTERLINE)
        inside = in_patch(shapely.transform(theirs, lambda xy: xy - ORIGIN), pose)
        assert ours.hausdorff_distance(inside) < 0.05
        assert ours.length == pytest.approx(inside.length, rel=1e-3)


@pytest.mark.parametrize("protocol", ["maptr", "mapqr", "streammapnet"])
def test_truth_against_itself_is_perfect(town: Town, vector_map: VectorMap, protocol: str) -> None:
    truth = {str(index): vector_map.elements(pose, classes=tuple(MapClass)) for index, pose in enumerate(poses(town))}
    present = {element.label for elements in truth.values() for element in elements}
    assert MapClass.DIVIDER in present
    assert MapClass.BOUNDARY in present
    assert MapClass.CENTERLINE in present
    score = chamfer_ap(truth, truth, protocol, sorted(present))
    assert score.mean_ap == pytest.approx(1.0)


def test_crossing_edges_are_two_long_sides_of_each(root: Path, town: Town, vector_map: VectorMap) -> None:
    """As HDMapNet's code does it: the two longest edges of every polygon of the layer, then cut at the patch."""
    layers = MapLayers(root / "maps" / "expansion" / f"{CITY}.json")
    seen = 0
    for pose in poses(town):
        expected = []
        for polygon in layers.polygons("ped_crossing"):
            corners = np.array(polygon.exterior.coords)
            edges = [LineString(corners[index : index + 2]) for index in range(len(corners) - 1)]
            for edge in sorted(edges, key=lambda edge: edge.length)[-2:]:
                local = shapely.transform(edge, lambda xy, pose=pose: flat(pose, xy))
                cut = shapely.intersection(local, shapely.box(-30, -15, 30, 15))
                expected += [cut] if cut.length > 1e-3 else []
        found = vector_map.elements(pose, classes=(MapClass.PED_CROSSING,), crossings="edges")
        assert len(found) == len(expected) and not any(element.closed for element in found)
        for element in found:
            line = LineString(element.points)
            nearest = min(expected, key=lambda edge: shapely.hausdorff_distance(edge, line))
            assert shapely.hausdorff_distance(nearest, line) < 1e-3
        seen += len(found)
    assert seen > 8


def flat(pose: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """Map coordinates in the ego frame, by x, y and yaw of the pose."""
    yaw = se3.yaw_of(pose)
    turn = np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]])
    return (xy - pose[:2, 3]) @ turn
