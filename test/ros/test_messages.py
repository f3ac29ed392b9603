"""The generated messages in a real graph: fields, constants, and a round trip through DDS."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.ros
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def node() -> Iterator[Any]:
    import rclpy

    context = rclpy.Context()
    # A domain of its own, so that no other process on this machine is heard.
    rclpy.init(context=context, domain_id=1 + os.getpid() % 100)
    node = rclpy.create_node("test_messages", context=context)
    yield node
    node.destroy_node()
    context.try_shutdown()


def spin_until(node: Any, done: Callable[[], bool], timeout_s: float = 20.0) -> None:
    from rclpy.executors import SingleThreadedExecutor

    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(node)
    deadline = time.monotonic() + timeout_s
    while not done() and time.monotonic() < deadline:
        executor.spin_once(timeout_sec=0.05)
    executor.shutdown()
    assert done(), f"nothing came within {timeout_s} s"


def test_round_trip_of_an_array(node: Any) -> None:
    from geometry_msgs.msg import Point32

    from hdmap_ros.msg import MapElement, MapElementArray

    # float32 holds 0.0625 exactly, so the arrays can be compared as they are.
    sent = MapElementArray(has_elevation=True, camera_mask=0b101111, sync_spread=0.0625, sequence=7)
    sent.model_id = "student-0123abcd"
    sent.header.frame_id = "base_link"
    sent.header.stamp.sec, sent.header.stamp.nanosec = 1_533_151_603, 547_590_000
    sent.roi_min, sent.roi_max = Point32(x=-30.0, y=-15.0), Point32(x=30.0, y=15.0)
    ring = [Point32(x=float(i), y=i * 0.5, z=-0.25) for i in range(20)]
    sent.elements = [
        MapElement(label=MapElement.DIVIDER, score=0.5, points=ring[:2]),
        MapElement(label=MapElement.PED_CROSSING, closed=True, points=ring, point_covariance=[0.0] * 60, track_id=3),
    ]
    received: list[MapElementArray] = []
    node.create_subscription(MapElementArray, "map_elements", received.append, 1)
    publisher = node.create_publisher(MapElementArray, "map_elements", 1)
    spin_until(node, lambda: publisher.get_subscription_count() == 1)
    publisher.publish(sent)
    spin_until(node, lambda: bool(received))
    assert received[0] == sent


def test_model_info_reaches_a_late_joiner(node: Any) -> None:
    from rclpy.qos import DurabilityPolicy, QoSProfile

    from hdmap_ros.msg import MapModelInfo

    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    sent = MapModelInfo(model_name="student", labels=[1, 2, 3], label_names=["divider", "ped_crossing", "boundary"])
    node.create_publisher(MapModelInfo, "model_info", latched).publish(sent)
    received: list[MapModelInfo] = []
    node.create_subscription(MapModelInfo, "model_info", received.append, latched)
    spin_until(node, lambda: bool(received))
    assert received[0] == sent


def test_transforms_have_a_type(node: Any) -> None:
    from geometry_msgs.msg import TransformStamped
    from tf2_msgs.msg import TFMessage

    received: list[TFMessage] = []
    node.create_subscription(TFMessage, "/tf", received.append, 10)
    publisher = node.create_publisher(TFMessage, "/tf", 10)
    spin_until(node, lambda: publisher.get_subscription_count() == 1)
    publisher.publish(TFMessage(transforms=[TransformStamped(child_frame_id="base_link")]))
    spin_until(node, lambda: bool(received))
    assert received[0].transforms[0].child_frame_id == "base_link"
    assert dict(node.get_topic_names_and_types())["/tf"] == ["tf2_msgs/msg/TFMessage"]


def test_label_values_are_fixed_for_ever() -> None:
    from hdmap_ros.msg import MapElement

    values = [
        MapElement.UNKNOWN,
        MapElement.DIVIDER,
        MapElement.PED_CROSSING,
        MapElement.BOUNDARY,
        MapElement.CENTERLINE,
    ]
    assert values == [0, 1, 2, 3, 4], "bags hold these numbers"


def test_generated_messages_are_those_of_msg() -> None:
    import hdmap_ros.msg

    for file in sorted((ROOT / "msg").glob("*.msg")):
        lines = (line.split("#")[0].split() for line in file.read_text(encoding="utf-8").splitlines())
        names = [words[1] for words in lines if len(words) == 2 and "=" not in words[1]]
        generated = getattr(hdmap_ros.msg, file.stem)
        assert list(generated.get_fields_and_field_types()) == names, f"{file.name} changed: run make setup"
