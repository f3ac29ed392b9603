"""Synthetic logs: the official package reads them, areas lose their holes without a new vertex, options are checked."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from shapely import Polygon

from hdmap_core.datasets.synthetic.argoverse_writer import write_logs
from hdmap_core.datasets.synthetic.formats.argoverse_lanes import lane_segments, sides_of
from hdmap_core.datasets.synthetic.formats.argoverse_map import without_holes
from hdmap_core.datasets.synthetic.presets import PRESETS
from hdmap_core.datasets.synthetic.sensors.ring_rig import ring_rig
from hdmap_core.datasets.synthetic.town import Lane, Marking
from hdmap_core.errors import ConfigError, DatasetError

RING = shapely.box(0, 0, 40, 30)


def street(*markings: Marking) -> list[Any]:
    """Two lanes to the east, 3 m wide, from 0 to 30 m, and one towards them."""
    lanes = []
    for y, ahead in ((0.0, True), (3.0, True), (6.0, False)):
        x = np.linspace(0, 30, 16)
        ring = np.concatenate([np.stack([x, np.full(16, y)], 1), np.stack([x, np.full(16, y + 3)], 1)[::-1]])
        centre = np.stack([x, np.full(16, y + 1.5)], 1)
        lanes.append(Lane(Polygon(ring), centre if ahead else centre[::-1], False))
    return lane_segments(lanes, markings)


def paint(x0: float, x1: float, y: float) -> Marking:
    return Marking(np.array([[x0, y], [(x0 + x1) / 2, y], [x1, y]]), "lane_divider", "dashed", "white")


@pytest.mark.parametrize(
    "holes",
    [
        [shapely.box(5, 5, 10, 10)],
        [shapely.box(5, 5, 10, 10), shapely.box(12, 5, 18, 9), shapely.box(20, 20, 30, 28)],
        [shapely.Point(20, 15).buffer(8, quad_segs=16)],
        [Polygon([(1, 1), (39, 1), (39, 2), (2, 2), (2, 29), (1, 29)])],
    ],
)
def test_areas_lose_their_holes_and_gain_no_vertex(holes: list[Polygon]) -> None:
    area = Polygon(RING.exterior.coords, [hole.exterior.coords for hole in holes])
    pieces = without_holes(area)
    assert len(pieces) > 1 and all(piece.is_valid and not piece.interiors for piece in pieces)
    assert sum(piece.area for piece in pieces) == pytest.approx(area.area)
    vertices = {tuple(point) for point in shapely.get_coordinates(area)}
    assert {tuple(point) for piece in pieces for point in shapely.get_coordinates(piece)} <= vertices
    assert shapely.union_all(pieces).equals(area)


def test_sides_of_a_lane() -> None:
    ring = Polygon([(0, 0), (10, 0), (10, 3), (0, 3)])
    for lane, left_y in ((np.array([[0, 1.5], [10, 1.5]]), 3.0), (np.array([[10, 1.5], [0, 1.5]]), 0.0)):
        left, right = sides_of(Lane(ring, lane, False))
        assert set(left[:, 1]) == {left_y} and set(right[:, 1]) == {3.0 - left_y}
        np.testing.assert_array_equal(left[:, 0], lane[:, 0])


def test_lanes_are_cut_where_paint_begins_and_ends() -> None:
    segments = street(paint(5, 20, 3.0), paint(8, 30, 6.0))
    painted = [s for s in segments if s.left_mark != "NONE"]
    assert {s.left_mark for s in painted} == {"DASHED_WHITE"}
    ends = sorted({float(x) for s in segments for x in s.left[[0, -1], 0]})
    assert ends == [0.0, 5.0, 8.0, 20.0, 30.0]
    for number, segment in enumerate(segments):
        if segment.left_neighbour is not None:
            other = segments[segment.left_neighbour]
            same = np.array_equal(other.right, segment.left) and other.right_neighbour == number
            oncoming = np.array_equal(other.left[::-1], segment.left) and other.left_neighbour == number
            assert same or oncoming
        for following in segment.successors:
            np.testing.assert_allclose(segments[following].left[0], segment.left[-1])
            assert number in segments[following].predecessors


def test_paint_at_a_rim_and_in_the_open_gets_a_strip() -> None:
    rim = street(paint(5, 20, 0.0))
    assert sum(s.right_neighbour is not None for s in rim) == 1
    open_space = street(paint(5, 20, -20.0))
    assert len(open_space) == 3 + 2
    assert open_space[3].right_neighbour == 4 and open_space[4].left_neighbour == 3


def test_ring_rig() -> None:
    rig = ring_rig().resized((303, 400))
    sizes = {name: camera.image_size for name, camera in rig.cameras.items()}
    assert len(sizes) == 7
    assert sizes["ring_front_center"] == (400, 303)
    assert {size for name, size in sizes.items() if name != "ring_front_center"} == {(303, 400)}


def test_the_official_package_reads_a_log(argoverse_world: Path) -> None:
    official = pytest.importorskip("av2.map.map_api").ArgoverseStaticMap
    camera_model = pytest.importorskip("av2.geometry.camera.pinhole_camera").PinholeCamera
    poses = pytest.importorskip("av2.utils.io").read_city_SE3_ego
    log = next((argoverse_world / "val").iterdir())
    city_map = official.from_map_dir(log / "map", build_raster=True)
    assert len(city_map.get_scenario_lane_segments()) > 50
    for lane in city_map.get_scenario_lane_segments():
        assert all(other in city_map.vector_lane_segments for other in (*lane.successors, *lane.predecessors))
    stamps = {int(path.stem) for path in (log / "sensors").rglob("*.*")}
    found = poses(log)
    assert stamps <= set(found)
    place = found[min(stamps)].translation
    ground = city_map.raster_ground_height_layer.get_ground_height_at_xy(place[None, :2])
    assert ground[0] == pytest.approx(place[2] - 0.33, abs=0.02)
    assert city_map.get_raster_layer_points_boolean(place[None, :2], layer_name="DRIVABLE_AREA").all()
    assert camera_model.from_feather(log, "CAM_FRONT").width_px == 80


def test_an_interrupted_run_goes_on_and_is_the_same(argoverse_world: Path, tmp_path: Path) -> None:
    config = PRESETS["tiny"].model_copy(update={"keyframes": 2, "image_size": (45, 80), "lidar": "all"})
    log = next((argoverse_world / "val").iterdir())
    root = tmp_path / "logs"
    root.mkdir()
    for name in ("maps", "train", "synth.json"):
        (root / name).symlink_to(argoverse_world / name)
    told: list[tuple[int, int]] = []
    splits = write_logs(root, config, 1, lambda done, total: told.append((done, total)))
    written = len(list((log / "sensors").rglob("*.*")))
    assert told == [(written + done, 2 * written) for done in range(written + 1)]
    assert splits["val"] == [log.name]
    files = sorted(path.relative_to(log) for path in log.rglob("*") if path.is_file())
    again = root / "val" / log.name
    assert files == sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
    for path in files:
        assert (log / path).read_bytes() == (again / path).read_bytes(), path


def test_what_does_not_fit(
    argoverse_world: Path, sensor_world: Path, tmp_path: Path, hdmap: Callable[..., Any]
) -> None:
    config = PRESETS["tiny"].model_copy(update={"rigs": "varied"})
    with pytest.raises(ConfigError, match="--rigs varied: Argoverse 2 logs hold pictures without lenses"):
        write_logs(tmp_path / "new", config)
    assert not (tmp_path / "new").exists()
    config = PRESETS["tiny"].model_copy(update={"keyframes": 2, "image_size": (45, 80), "lidar": "all"})
    with pytest.raises(DatasetError, match="was written with --format nuscenes"):
        write_logs(sensor_world, config)
    hdmap("synth", tmp_path / "new", "--format", "kitti").assert_refused("--format kitti", "nuscenes or av2")
