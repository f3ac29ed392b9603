"""What the node takes off the graph in one round of the executor."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from hdmap_ros.transforms import TransformBuffer

if TYPE_CHECKING:
    from hdmap_ros.ros_graph import Endpoints

pytestmark = pytest.mark.ros
STAMPS_NS = [1_600_000_000_000_000_000 + index * 10_000_000 for index in range(60)]


@pytest.fixture
def transforms() -> TransformBuffer:
    return TransformBuffer()


@pytest.fixture
def endpoints(graph: Any, transforms: TransformBuffer) -> "Iterator[Endpoints]":
    """Motion at STAMPS_NS has been sent to them; they have taken none of it."""
    from rclpy.duration import Duration

    from hdmap_ros.ros_graph import Endpoints

    def unchanged(request: Any, response: Any) -> Any:
        return response

    endpoints = Endpoints(graph.node, transforms, unchanged, unchanged)
    publisher = graph.node.create_publisher(graph.rig.types.get("tf2_msgs/msg/TFMessage"), "/tf", 100)
    assert graph.until(publisher.get_subscription_count)
    for stamp_ns in STAMPS_NS:
        publisher.publish(graph.rig.tf(stamp_ns))
    assert publisher.wait_for_all_acked(Duration(seconds=10))
    yield endpoints
    endpoints.close()


def assert_all_taken(transforms: TransformBuffer) -> None:
    for stamp_ns in (STAMPS_NS[0], STAMPS_NS[-1]):
        transforms.lookup("odom", "base_link", stamp_ns)


@pytest.mark.usefixtures("endpoints")
def test_transforms_that_wait_are_taken_in_one_round(graph: Any, transforms: TransformBuffer) -> None:
    """One message a round, as an executor hands them on, would leave motion behind the images."""
    for _ in range(6):  # handlers of one round; far fewer than messages
        graph.executor.spin_once(timeout_sec=0.1)
    assert_all_taken(transforms)


def test_transforms_sent_before_an_image_are_taken_before_it(
    graph: Any, endpoints: "Endpoints", transforms: TransformBuffer
) -> None:
    """Without a round of the executor in between: its handlers of images may come first."""
    endpoints.take_transforms()
    assert_all_taken(transforms)
    graph.spin(0.05)  # the executor finds nothing where it thought there was something
