"""What the node takes off the graph in one round of the executor."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hdmap_ros.observing.transforms import TransformBuffer

ROOT = Path(__file__).resolve().parents[2]

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


def test_the_events_executor_where_rclpy_has_one(graph: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from rclpy.executors import SingleThreadedExecutor

    from hdmap_ros.ros_graph import make_executor

    monkeypatch.setitem(sys.modules, "rclpy.experimental", None)  # as in an older Jazzy
    assert isinstance(make_executor(graph.context), SingleThreadedExecutor)
    monkeypatch.undo()
    assert isinstance(make_executor(graph.context, "classic"), SingleThreadedExecutor)
    pytest.importorskip("rclpy.experimental")
    assert not isinstance(graph.executor, SingleThreadedExecutor)


SEGMENTS = """
import re, rclpy
rclpy.init()
node = rclpy.create_node("large_images")
assert rclpy.get_rmw_implementation_identifier() == "rmw_fastrtps_cpp"
maps = [line.split() for line in open("/proc/self/maps") if re.search("/fast(rtps|dds)_[0-9a-f]+$", line)]
print(max(int(end, 16) - int(begin, 16) for begin, end in (line[0].split("-") for line in maps)))
"""


def test_fast_dds_takes_the_profile_for_large_images_from_the_variable_that_the_page_names() -> None:
    """It says nothing where a variable is not the one that it reads, and loses images as ever."""
    page = (ROOT / "docs" / "ros.md").read_text()
    (file,) = re.findall(r"export FASTRTPS_DEFAULT_PROFILES_FILE=\$PWD/(\S+)", page)
    assert "export FASTDDS_DEFAULT_PROFILES_FILE=$FASTRTPS_DEFAULT_PROFILES_FILE" in page
    names = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
    plain = {name: value for name, value in os.environ.items() if name not in names}
    sizes = [
        int(subprocess.run([sys.executable, "-c", SEGMENTS], env=env, check=True, capture_output=True).stdout)
        for env in (plain, plain | dict.fromkeys(names, str(ROOT / file)))
    ]
    assert sizes[0] < 1 << 20
    assert sizes[1] >= 12 * 1600 * 900 * 3, "two cycles of six images"
