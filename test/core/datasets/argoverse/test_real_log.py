"""A real log against av2, the official package: calibration, poses, points, map, ground height, and the truth."""

from pathlib import Path

import numpy as np
import pytest
import shapely

from hdmap_core.datasets.argoverse import ArgoverseDataset, ArgoverseMap
from hdmap_core.datasets.argoverse.logs import GROUND_FROM_CAR
from hdmap_core.datasets.argoverse.map_file import read_map_file
from hdmap_core.elements import MapClass
from hdmap_core.errors import DatasetError
from hdmap_core.geometry.road_plane import road_from_points

ALL = tuple(MapClass)


@pytest.fixture(scope="module")
def dataset(real_logs: Path) -> ArgoverseDataset:
    return ArgoverseDataset(real_logs, road_plane=False)


def test_calibration(dataset: ArgoverseDataset, real_log: Path) -> None:
    camera_model = pytest.importorskip("av2.geometry.camera.pinhole_camera").PinholeCamera
    observation = dataset.observation(dataset.tokens[0], images=False, points=False)
    assert len(observation.rig.names) == 7
    frames = dataset.keyframe(dataset.tokens[0])
    for name in observation.rig.names:
        theirs = camera_model.from_feather(real_log, name)
        np.testing.assert_allclose(frames[name].intrinsics, theirs.intrinsics.K)
        assert frames[name].image_size == (theirs.height_px, theirs.width_px)
        on_road = GROUND_FROM_CAR @ theirs.ego_SE3_cam.transform_matrix
        np.testing.assert_allclose(frames[name].ego_from_sensor, on_road, atol=1e-12)


def test_poses(dataset: ArgoverseDataset, real_log: Path) -> None:
    poses = pytest.importorskip("av2.utils.io").read_city_SE3_ego(real_log)
    assert len(poses) > 2000
    log = next(iter(dataset._logs.values()))
    for stamp in sorted(poses)[::200]:
        ours = log.map_from_ego(int(stamp)) @ GROUND_FROM_CAR
        np.testing.assert_allclose(ours, poses[stamp].transform_matrix, atol=1e-9)
    with pytest.raises(DatasetError, match="no pose at 12345"):
        log.map_from_ego(12345)


def test_points(dataset: ArgoverseDataset, real_log: Path) -> None:
    sweep = pytest.importorskip("av2.structures.sweep").Sweep
    observation = dataset.observation(dataset.tokens[0], images=False)
    theirs = sweep.from_feather(next(iter(sorted((real_log / "sensors" / "lidar").iterdir()))))
    assert observation.points is not None
    np.testing.assert_allclose(observation.points[:, :3], theirs.xyz + GROUND_FROM_CAR[:3, 3], atol=1e-5)
    np.testing.assert_array_equal(observation.points[:, 3], theirs.intensity)
    np.testing.assert_array_equal(observation.points[:, 4], theirs.laser_number)
    road = road_from_points(observation.points)
    assert road is not None
    assert abs(road[2, 3]) < 0.03  # the ego frame stands on the road


def test_previous_sweeps_are_carried_along(real_logs: Path) -> None:
    dataset = ArgoverseDataset(real_logs, version="10hz", road_plane=False)
    assert len(dataset.tokens) == 2
    one, two = (dataset.observation(dataset.tokens[1], images=False, sweeps=count) for count in (1, 2))
    assert one.points is not None and two.points is not None and two.point_age_s is not None
    assert len(two.points) > 1.8 * len(one.points)
    assert set(np.round(two.point_age_s, 2).tolist()) == {0.0, np.float32(0.1).item()}


def test_map_records(dataset: ArgoverseDataset, real_log: Path) -> None:
    official = pytest.importorskip("av2.map.map_api").ArgoverseStaticMap
    path = next((real_log / "map").glob("log_map_archive_*.json"))
    theirs, ours = official.from_json(path), read_map_file(path)
    assert set(ours.lanes) == set(theirs.vector_lane_segments)
    for token, lane in ours.lanes.items():
        other = theirs.vector_lane_segments[token]
        np.testing.assert_array_equal(lane.left, other.left_lane_boundary.xyz)
        np.testing.assert_array_equal(lane.right, other.right_lane_boundary.xyz)
        assert (lane.left_mark, lane.right_mark) == (other.left_mark_type.value, other.right_mark_type.value)
        assert (lane.left_neighbour, lane.right_neighbour) == (other.left_neighbor_id, other.right_neighbor_id)
        assert lane.is_intersection == other.is_intersection
    for edges, crossing in zip(ours.crossings, theirs.get_scenario_ped_crossings(), strict=True):
        np.testing.assert_array_equal(np.concatenate([edges[0], edges[1][::-1]]), crossing.polygon[:4])
    for area, other in zip(ours.drivable_areas, theirs.get_scenario_vector_drivable_areas(), strict=True):
        np.testing.assert_array_equal(area, other.xyz[: len(area)])


def test_ground_height(dataset: ArgoverseDataset, real_log: Path) -> None:
    layer = pytest.importorskip("av2.map.map_api").GroundHeightLayer.from_file(real_log / "map")
    token = dataset.tokens[0]
    centre = dataset.map_from_ego(token)[:3, 3]
    places = centre[:2] + np.random.default_rng(0).uniform(-60, 60, (500, 2))
    ours = dataset.ground_height(token).at(places)
    np.testing.assert_allclose(ours, layer.get_ground_height_at_xy(places))
    assert np.isfinite(ours).any()
    assert dataset.ground_height(token).at(centre[:2]) == pytest.approx(centre[2], abs=0.05)  # we stand on it
    assert np.isnan(dataset.ground_height(token).at(np.array([0.0, 0.0])))


def test_truth_lies_where_the_official_map_has_it(dataset: ArgoverseDataset, real_log: Path) -> None:
    """Every vertex in the city lies on what the class is made of; rings and centre lines against the package's own."""
    official = pytest.importorskip("av2.map.map_api").ArgoverseStaticMap
    theirs = official.from_json(next((real_log / "map").glob("log_map_archive_*.json")))
    lanes, areas = theirs.vector_lane_segments.values(), theirs.get_scenario_vector_drivable_areas()
    crosswalks = theirs.get_scenario_ped_crossings()
    made_of = {
        ("divider", "outlines"): [
            side.xyz[:, :2]
            for lane in lanes
            if not lane.is_intersection
            for side, other in (
                (lane.left_lane_boundary, lane.left_neighbor_id), (lane.right_lane_boundary, lane.right_neighbor_id)
            )
            if other is not None
        ],
        ("divider", "edges"): [
            side.xyz[:, :2]
            for lane in lanes
            for side, mark in (
                (lane.left_lane_boundary, lane.left_mark_type), (lane.right_lane_boundary, lane.right_mark_type)
            )
            if mark.value not in ("NONE", "UNKNOWN")
        ],
        ("centerline", "outlines"): [theirs.get_lane_segment_centerline(lane.id)[:, :2] for lane in lanes],
        ("boundary", "outlines"): [np.vstack([a.xyz, a.xyz[:1]])[:, :2] for a in areas],
        ("ped_crossing", "outlines"): [c.polygon[:, :2] for c in crosswalks],
        ("ped_crossing", "edges"): [e.xyz[:, :2] for c in crosswalks for e in (c.edge1, c.edge2)],
    }  # fmt: skip
    pose = dataset.map_from_ego(dataset.tokens[0])
    yaw = np.arctan2(pose[1, 0], pose[0, 0])
    turn = np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]])
    inner = shapely.box(-59.7, -29.7, 59.7, 29.7)
    for (label, crossings), shapes in made_of.items():
        found = dataset.vector_map(dataset.tokens[0]).elements(pose, (-60, 60), (-30, 30), [MapClass(label)], crossings)
        assert found, label
        source = shapely.union_all([shapely.LineString(shape) for shape in shapes])
        for element in found:
            vertices = element.points[shapely.contains_xy(inner, element.points)].astype(np.float64)
            spots = shapely.points(vertices @ turn.T + pose[:2, 3])
            assert shapely.distance(spots, source).max(initial=0) < 1e-4, label
            assert element.heights is not None
            assert np.abs(element.heights).max() < 8.0


def test_no_divider_is_there_twice(dataset: ArgoverseDataset) -> None:
    for crossings in ("outlines", "edges"):
        pose = dataset.map_from_ego(dataset.tokens[0])
        found = dataset.vector_map(dataset.tokens[0]).elements(
            pose, (-100, 100), (-100, 100), [MapClass.DIVIDER], crossings
        )
        strips = [shapely.LineString(e.points).buffer(0.1, cap_style="flat") for e in found]
        assert len(strips) > 3
        for number, strip in enumerate(strips):
            for other in strips[number + 1 :]:
                assert strip.intersection(other).area < 0.2 * min(strip.area, other.area)


def test_centre_lines_are_those_of_the_package(real_log: Path) -> None:
    official = pytest.importorskip("av2.map.map_api").ArgoverseStaticMap
    path = next((real_log / "map").glob("log_map_archive_*.json"))
    theirs, ours = official.from_json(path), ArgoverseMap(path)
    length = sum(
        shapely.LineString(theirs.get_lane_segment_centerline(token)[:, :2]).length for token in ours._records.lanes
    )
    assert sum(line.length for line in ours._centerlines.shapes) == pytest.approx(length, rel=1e-6)


def test_without_pictures(dataset: ArgoverseDataset) -> None:
    token = dataset.tokens[0]
    assert dataset.observation(token, images=False).images == (None,) * 7
    with pytest.raises(DatasetError, match="has no pictures in sensors/cameras; download"):
        dataset.observation(token)


def test_splits_and_rates(real_logs: Path, real_log: Path) -> None:
    for root in (real_logs, real_logs / "sensor", real_logs / "sensor" / "val", real_log):
        dataset = ArgoverseDataset(root)
        assert dataset.splits == {"val": [real_log.name]}
        assert dataset.scenes[0].location == "PIT"
        assert len(dataset.tokens) == 1
    with pytest.raises(DatasetError, match=r"how many keyframes per second: 2hz, 2.5hz, 10hz; 'v1.0-mini' is none"):
        ArgoverseDataset(real_logs, version="v1.0-mini")
