"""What the node takes off the graph in one round of the executor."""

from typing import Any

import pytest

from hdmap_ros.transforms import TransformBuffer

pytestmark = pytest.mark.ros
STAMPS_NS = [1_600_000_000_000_000_000 + index * 10_000_000 for index in range(60)]


def test_transforms_that_wait_are_taken_in_one_round(graph: Any) -> None:
    """One message a round, as an executor hands them on, would leave motion behind the images."""
    from rclpy.duration import Duration

    from hdmap_ros.ros_graph import Endpoints

    buffer = TransformBuffer()
    endpoints = Endpoints(graph.node, buffer, lambda request, response: response, lambda request, response: response)
    publisher = graph.node.create_publisher(graph.rig.types.get("tf2_msgs/msg/TFMessage"), "/tf", 100)
    assert graph.until(publisher.get_subscription_count)
    for stamp_ns in STAMPS_NS:
        publisher.publish(graph.rig.tf(stamp_ns))
    assert publisher.wait_for_all_acked(Duration(seconds=10))
    for _ in range(6):  # handlers of one round; far fewer than messages
        graph.executor.spin_once(timeout_sec=0.1)
    for stamp_ns in (STAMPS_NS[0], STAMPS_NS[-1]):
        buffer.lookup("odom", "base_link", stamp_ns)
    endpoints.close()


def test_transforms_sent_before_an_image_are_taken_before_it(graph: Any) -> None:
    """Without a round of the executor in between: its handlers of images may come first."""
    from rclpy.duration import Duration

    from hdmap_ros.ros_graph import Endpoints

    buffer = TransformBuffer()
    endpoints = Endpoints(graph.node, buffer, lambda request, response: response, lambda request, response: response)
    publisher = graph.node.create_publisher(graph.rig.types.get("tf2_msgs/msg/TFMessage"), "/tf", 100)
    assert graph.until(publisher.get_subscription_count)
    for stamp_ns in STAMPS_NS:
        publisher.publish(graph.rig.tf(stamp_ns))
    assert publisher.wait_for_all_acked(Duration(seconds=10))
    endpoints.take_transforms()
    for stamp_ns in (STAMPS_NS[0], STAMPS_NS[-1]):
        buffer.lookup("odom", "base_link", stamp_ns)
    graph.spin(0.05)  # the executor finds nothing where it thought there was something
    endpoints.close()
