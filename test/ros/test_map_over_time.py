"""The map over time in a real ROS graph: numbers that stay, a fused map that grows and waits for latecomers."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from hdmap_core.elements import MapClass, MapElement
from hdmap_core.observation import Observation
from hdmap_ros.output.conversions import elements_from_message

pytestmark = pytest.mark.ros
LINES_Y = (-4.0, 4.0)


@pytest.fixture
def standing_world(predictor: Any, rig_module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A predictor that sees two endless dividers of the fixed frame, 30 m ahead of the car and behind it."""

    def complete(observation: Observation) -> Any:
        pose = np.eye(4) if observation.map_from_ego is None else observation.map_from_ego
        lines = [
            MapElement(MapClass.DIVIDER, np.array([[-30.0, y - pose[1, 3]], [30.0, y - pose[1, 3]]]), score=0.9)
            for y in LINES_Y
        ]
        return rig_module.RigPrediction(lines, {"preprocess": 0.1, "network": 0.2, "postprocess": 0.1})

    monkeypatch.setattr(predictor, "complete", complete)


@pytest.fixture
def listen_latched(graph: Any) -> Callable[[], list[Any]]:
    from rclpy.qos import DurabilityPolicy, QoSProfile

    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    return lambda: graph.listen("hdmap_ros/msg/MapElementArray", "/online_map/output/local_map", latched)


def test_numbers_stay_and_the_fused_map_grows(
    graph: Any, start_node: Any, rig_module: Any, standing_world: None, listen_latched: Any
) -> None:
    graph.open_cameras()
    maps = graph.listen_to_maps()
    node = start_node(local_map__period=0.0, sync__max_age=10.0)
    early = listen_latched()
    graph.drive(rig_module.ticks(20))
    assert graph.until(lambda: len(maps) >= 10 and len(early) >= 5)
    assert graph.until(lambda: node.session.worker.wait_idle(0.0))
    graph.spin(0.2)
    assert {tuple(element.track_id for element in array.elements) for array in maps} in ({(1, 2)}, {(2, 1)})
    assert [array.temporal_reset for array in maps] == [True] + [False] * (len(maps) - 1)
    assert {array.header.frame_id for array in maps} == {"base_link"}
    late = listen_latched()
    assert graph.until(lambda: late and late[-1].header.stamp == early[-1].header.stamp)
    assert late[-1].header.frame_id == "odom"
    found = elements_from_message(late[-1])
    assert sorted(round(float(element.points[:, 1].mean())) for element in found) == [-4, 4]
    ends = [float(array.elements[0].points[-1].x) for array in (early[0], early[-1])]
    starts = [float(array.elements[0].points[0].x) for array in (early[0], early[-1])]
    lengths = [abs(end - start) for end, start in zip(ends, starts, strict=True)]
    assert lengths[1] > lengths[0] + 5  # the car went 15 m on
    assert [array.temporal_reset for array in early[1:]] == [False] * (len(early) - 1)


def test_a_recording_that_loops_begins_anew(
    graph: Any, start_node: Any, rig_module: Any, standing_world: None, listen_latched: Any
) -> None:
    graph.open_cameras()
    maps, fused = graph.listen_to_maps(), listen_latched()
    start_node(local_map__period=0.0, sync__max_age=10.0)
    graph.drive(rig_module.ticks(16))
    assert graph.until(lambda: len(maps) >= 8 and fused)
    before, numbers = len(maps), {element.track_id for array in maps for element in array.elements}
    graph.drive(rig_module.ticks(16))
    assert graph.until(lambda: len(maps) >= before + 6)
    again = [array for array in maps[1:] if array.temporal_reset]
    assert again, "no array says that its numbers begin anew"
    assert not numbers & {element.track_id for element in maps[-1].elements}


def test_who_comes_after_a_reset_is_told_that_nothing_is_left(
    graph: Any, start_node: Any, rig_module: Any, standing_world: None, listen_latched: Any
) -> None:
    graph.open_cameras()
    maps, early = graph.listen_to_maps(), listen_latched()
    node = start_node(local_map__period=0.0, sync__max_age=10.0)
    graph.drive(rig_module.ticks(10))
    assert graph.until(lambda: maps and early)
    assert graph.until(lambda: node.session.worker.wait_idle(0.0))
    node.session.reset("test")
    late = listen_latched()
    assert graph.until(lambda: late)
    assert (len(late[-1].elements), late[-1].temporal_reset, late[-1].header.frame_id) == (0, True, "odom")


def test_without_a_pose_there_are_no_numbers_and_diagnostics_say_why(
    graph: Any, start_node: Any, rig_module: Any, standing_world: None, listen_latched: Any
) -> None:
    graph.open_cameras()
    maps, fused, diagnostics = graph.listen_to_maps(), listen_latched(), graph.listen_to_diagnostics()
    start_node(tf__fixed_frame="nowhere", local_map__period=0.0, diagnostics__period=0.2)
    graph.drive(rig_module.ticks(12))
    assert graph.until(lambda: maps and diagnostics and "paused" in diagnostics[-1]["over_time"].message)
    assert {element.track_id for array in maps for element in array.elements} == {0}
    assert all(array.temporal_reset for array in maps) and not fused
    status = diagnostics[-1]["over_time"]
    assert "nowhere" in status.message and status.level == b"\x01"


def test_switched_off(graph: Any, start_node: Any, rig_module: Any, standing_world: None, listen_latched: Any) -> None:
    graph.open_cameras()
    maps, fused = graph.listen_to_maps(), listen_latched()
    start_node(local_map__enabled=False, local_map__period=0.0)
    graph.drive(rig_module.ticks(12))
    assert graph.until(lambda: maps)
    graph.spin(0.3)
    assert not fused
    assert 0 not in {element.track_id for array in maps for element in array.elements}


def test_cleaned_up_it_takes_another_fixed_frame(
    graph: Any, start_node: Any, rig_module: Any, standing_world: None, listen_latched: Any
) -> None:
    from rclpy.parameter import Parameter

    graph.open_cameras()
    maps, fused = graph.listen_to_maps(), listen_latched()
    node = start_node(tf__fixed_frame="nowhere", local_map__period=0.0, sync__max_age=10.0)
    graph.drive(rig_module.ticks(8))
    assert graph.until(lambda: maps)
    other = [Parameter("tf.fixed_frame", value="odom")]
    assert not node.set_parameters(other)[0].successful
    assert node.trigger_deactivate().name == node.trigger_cleanup().name == "SUCCESS"
    assert node.set_parameters(other)[0].successful
    assert node.trigger_configure().name == node.trigger_activate().name == "SUCCESS"
    assert graph.until(graph.matched)
    graph.drive(rig_module.ticks(20)[8:])
    assert graph.until(lambda: fused)
    assert fused[-1].header.frame_id == "odom" and fused[0].temporal_reset
    assert maps[-1].elements[0].track_id > 0
