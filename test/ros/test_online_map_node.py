"""The node in a real ROS graph: six cameras in, maps out."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hdmap_ros.latency_log import STAGES
from hdmap_ros.stamps import stamp_to_ns

pytestmark = pytest.mark.ros

LOSE_NOTHING = {"input_qos.depth": 10, "sync.timeout": 1.0, "sync.max_age": 10.0}
"""For what counts sets: on a busy machine the executor comes to the images late, and the first sets are slow."""


def test_six_cameras_in_map_out(graph: Any, start_node: Any, predictor: Any, rig_module: Any, tmp_path: Path) -> None:
    graph.open_cameras()
    maps, markers = graph.listen_to_maps(), graph.listen_to_markers()
    report_file = tmp_path / "report.json"
    node = start_node(report_file=str(report_file), **LOSE_NOTHING)
    ticks = rig_module.ticks(10)
    graph.drive(ticks)
    anchor_stamps = [tick + rig_module.PHASES_NS["CAM_FRONT"] for tick in ticks]
    assert graph.until(lambda: maps and stamp_to_ns(maps[-1].header.stamp) == anchor_stamps[-1])
    message = maps[-1]
    assert {stamp_to_ns(entry.header.stamp) for entry in maps} <= set(anchor_stamps)
    assert message.header.frame_id == "base_link"
    assert [element.label for element in message.elements] == [1] * 6 + [2]
    assert (message.camera_mask, message.model_id) == (0b111111, "rig_lines-00000000")
    assert message.sync_spread == pytest.approx(0.0426, abs=1e-6)
    assert (message.roi_min.x, message.roi_max.y) == (-30.0, 15.0)
    scores = [element.score for element in message.elements[:6]]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] == pytest.approx(220 / 255, abs=0.01)
    # The geometry: the brightest camera is CAM_FRONT_LEFT, which fired 7.6 ms before the anchor at 10 m/s.
    start = message.elements[0].points[0]
    mount = rig_module.base_from_camera("CAM_FRONT_LEFT")
    assert (start.x, start.y) == pytest.approx((mount[0, 3] - 0.076, mount[1, 3]), abs=1e-4)
    assert message.elements[6].closed and len(message.elements[6].points) == 4
    assert [entry.sequence for entry in maps] == list(range(maps[0].sequence, maps[0].sequence + len(maps)))
    # Markers are another topic: those of the last map may come after it.
    assert graph.until(
        lambda: markers and markers[-1].markers and markers[-1].markers[0].header.stamp == message.header.stamp
    )
    node.trigger_deactivate()
    report = json.loads(report_file.read_text())
    assert report["published"] == len(maps)
    assert report["images"] == dict.fromkeys(rig_module.CAMERAS, 10)
    assert report["synchroniser"]["complete"] == 10
    assert report["published"] + sum(report["dropped"].values()) == 10
    assert set(report["latency_ms"]) == set(STAGES)


def test_pictures_for_whoever_listens_to_them_alone(graph: Any, start_node: Any, rig_module: Any) -> None:
    graph.open_cameras()
    pictures = graph.listen("sensor_msgs/msg/Image", "/online_map/debug/image")
    masks = graph.listen("nav_msgs/msg/OccupancyGrid", "/online_map/output/mask")
    start_node(**{"mask.classes": ["ped_crossing"]})
    graph.drive(rig_module.ticks(10))
    assert graph.until(lambda: pictures and masks)
    picture, mask = pictures[-1], masks[-1]
    pixels = np.array(picture.data).reshape(picture.height, picture.width, 3).astype(int)
    assert (pixels[..., 2] - pixels[..., 0] > 80).sum() > 100  # the crossing, blue on grey images
    assert set(mask.data) == {0, 90}
    assert mask.header.frame_id == picture.header.frame_id == "base_link"


def test_model_info_is_latched(graph: Any, start_node: Any, rig_module: Any) -> None:
    from rclpy.qos import DurabilityPolicy, QoSProfile

    start_node()
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    infos = graph.listen("hdmap_ros/msg/MapModelInfo", "/online_map/output/model_info", latched)
    assert graph.until(lambda: infos)
    assert list(infos[0].labels) == [1, 2]
    assert infos[0].label_names == ["divider", "ped_crossing"]
    assert infos[0].camera_names == list(rig_module.CAMERAS)


def test_the_burst_when_the_phases_are_known_is_mapped_in_full(
    graph: Any, start_node: Any, rig_module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first sets come at once; the newest of them used to win."""
    monkeypatch.setattr("hdmap_ros.worker.CATCH_UP_S", 60.0)  # however busy this machine is
    graph.open_cameras()
    maps = graph.listen_to_maps()
    node = start_node(**LOSE_NOTHING)
    sets: list[Any] = []
    take = node.session._take
    monkeypatch.setattr(node.session, "_take", lambda ready: (sets.extend(ready), take(ready)))
    ticks = rig_module.ticks(8)
    graph.drive(ticks, pause_s=0.1)
    assert graph.until(lambda: len(maps) == 8)
    assert [stamp_to_ns(entry.header.stamp) for entry in maps] == [
        tick + rig_module.PHASES_NS["CAM_FRONT"] for tick in ticks
    ]
    assert node.session.worker.statistics.superseded == 0
    longest_ms = node.session.report()["latency_ms"]["since_last_image"]["max"]
    assert longest_ms >= max(entry.held_ns for entry in sets) * 1e-6 > 50, "the time that it was held back counts"


def test_a_slow_model_drops_sets_and_stays_at_the_newest(
    graph: Any, start_node: Any, predictor: Any, rig_module: Any
) -> None:
    graph.open_cameras()
    maps = graph.listen_to_maps()
    node = start_node(**LOSE_NOTHING | {"sync.max_age": 0.0})
    predictor.delay_s = 0.3
    ticks = rig_module.ticks(20)
    graph.drive(ticks)
    last = ticks[-1] + rig_module.PHASES_NS["CAM_FRONT"]
    assert graph.until(lambda: maps and stamp_to_ns(maps[-1].header.stamp) == last)
    superseded = node.session.worker.statistics.superseded
    assert superseded > 0
    assert len(maps) + superseded == 20


def test_nobody_listens_nothing_is_computed(graph: Any, start_node: Any, predictor: Any, rig_module: Any) -> None:
    graph.open_cameras()
    node = start_node(**LOSE_NOTHING)
    graph.drive(rig_module.ticks(10))
    assert graph.until(lambda: node.session.counts["nobody_listens"] == 10)
    assert predictor.seen == []


def test_best_effort_cameras_are_heard(graph: Any, start_node: Any, rig_module: Any) -> None:
    from rclpy.qos import QoSProfile, ReliabilityPolicy

    graph.open_cameras(qos=QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT))
    maps = graph.listen_to_maps()
    start_node()
    graph.drive(rig_module.ticks(12))
    assert graph.until(lambda: maps)


def test_output_in_the_odometry_frame(graph: Any, start_node: Any, rig_module: Any) -> None:
    graph.open_cameras()
    maps = graph.listen_to_maps()
    start_node(output_frame="odom")
    ticks = rig_module.ticks(10)
    graph.drive(ticks)
    assert graph.until(lambda: maps)
    message = maps[-1]
    assert message.header.frame_id == "odom"
    travelled = rig_module.odom_from_base(stamp_to_ns(message.header.stamp))[0, 3]
    assert message.elements[6].points[0].x == pytest.approx(5 + travelled, abs=1e-3)
    np.testing.assert_allclose([message.roi_min.x, message.roi_max.x], [travelled - 30, travelled + 30], atol=1e-3)


def test_diagnostics_name_the_device_that_is_used(graph: Any, start_node: Any) -> None:
    diagnostics = graph.listen_to_diagnostics()
    start_node(diagnostics__period=0.1, model__device="auto")
    assert graph.until(lambda: diagnostics)
    values = {pair.key: pair.value for pair in diagnostics[-1]["model"].values}
    assert values["device"] == "cpu"


def test_the_next_set_is_decoded_while_one_is_in_the_network(
    graph: Any, start_node: Any, predictor: Any, rig_module: Any
) -> None:
    """And both come out, in order."""
    graph.open_cameras()
    maps = graph.listen_to_maps()
    start_node(**LOSE_NOTHING)
    predictor.release.clear()
    prepare, prepared = predictor.prepare, []

    def noted(observation: Any, pool: Any) -> Any:
        prepared.append(observation.stamp_ns)
        return prepare(observation, pool)

    predictor.prepare = noted
    graph.drive(rig_module.ticks(8))
    assert graph.until(lambda: len(prepared) == 2)
    assert predictor.begun.is_set() and maps == []
    predictor.release.set()
    assert graph.until(lambda: len(maps) > 2)
    stamps = [stamp_to_ns(entry.header.stamp) for entry in maps]
    assert stamps[:2] == prepared[:2] and stamps == sorted(stamps)


def test_a_lidar_shows_the_node_the_ground(graph: Any, start_node: Any, rig_module: Any) -> None:
    """A road that falls away by 3 % ahead: cameras then stand on it as if the car had put its nose up."""
    from hdmap_ros.message_types import graph_types

    slope, types = 0.03, graph_types()
    places = np.random.default_rng(0).uniform((-30, -15), (30, 15), (9000, 2))
    points = np.c_[places, -slope * places[:, 0]].astype(np.float32)
    kind, field = types.get("sensor_msgs/msg/PointCloud2"), types.get("sensor_msgs/msg/PointField")
    graph.open_cameras()
    maps, starts = graph.listen_to_maps(), []
    sweeps = graph.node.create_publisher(kind, "/lidar/points", 5)
    start_node(**LOSE_NOTHING, **{"lidar.topic": "/lidar/points"})
    assert graph.until(lambda: sweeps.get_subscription_count())
    for ticks in (rig_module.ticks(8)[:4], rig_module.ticks(8)[4:]):
        for tick in ticks:
            if starts:
                fields = [field(name=n, offset=4 * i, datatype=field.FLOAT32, count=1) for i, n in enumerate("xyz")]
                header = types.header(tick, "base_link")
                data = types.octets(points.tobytes())
                cloud = {"height": 1, "width": len(points), "point_step": 12, "row_step": points.nbytes, "data": data}
                sweeps.publish(kind(header=header, fields=fields, is_dense=True, **cloud))
            graph.drive([tick])
        last = ticks[-1] + rig_module.PHASES_NS["CAM_FRONT"]
        assert graph.until(lambda last=last: maps and stamp_to_ns(maps[-1].header.stamp) == last)
        starts.append(maps[-1].elements[0].points[0])
    height = rig_module.base_from_camera("CAM_FRONT_LEFT")[2, 3]
    assert starts[0].x - starts[1].x == pytest.approx(height * slope, abs=0.01) and height > 1
