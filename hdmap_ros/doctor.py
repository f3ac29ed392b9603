"""What the ROS part looks at for `hdmap doctor`: ROS 2, our messages, and what makes the node more comfortable."""

import os
import shutil
from collections.abc import Iterator
from importlib.util import find_spec

from hdmap_core.doctor import Finding, imported, installed
from hdmap_core.errors import MissingDependencyError
from hdmap_ros.message_types import OUR_MESSAGES, graph_types

SOURCE = "source a ROS 2 (source /opt/ros/jazzy/setup.bash), or run `make setup` in a checkout"
BUILD = "build and source the workspace (colcon build && source install/setup.bash), or run `make setup`"
MESSAGES = (
    "builtin_interfaces/msg/Time",
    "diagnostic_msgs/msg/DiagnosticArray",
    "geometry_msgs/msg/TransformStamped",
    "sensor_msgs/msg/CameraInfo",
    "sensor_msgs/msg/CompressedImage",
    "std_msgs/msg/Header",
    "tf2_msgs/msg/TFMessage",
    "visualization_msgs/msg/MarkerArray",
)
OPTIONAL = {
    "message_filters": "sync.policy approximate and exact need it: apt install ros-$ROS_DISTRO-message-filters",
    "cv_bridge": "for image encodings that are rare: apt install ros-$ROS_DISTRO-cv-bridge",
    "launch_ros": "for `ros2 launch`: apt install ros-$ROS_DISTRO-launch-ros",
}
PROGRAMS = {
    "ros2": "for `ros2 launch` and `ros2 bag play`: apt install ros-$ROS_DISTRO-ros-base",
    "rviz2": "for rviz:=true: apt install ros-$ROS_DISTRO-rviz2",
}


def look() -> Iterator[Finding]:
    """The findings about ROS."""
    distribution = os.environ.get("ROS_DISTRO", "")
    advice = "" if find_spec("rclpy") else SOURCE
    detail = (installed("ros-rclpy") and f"wheels, rclpy {installed('ros-rclpy')}") or "rclpy is not found"
    yield Finding("ROS 2", not advice, distribution if distribution and not advice else detail, advice, needed=True)
    if not advice:
        yield imported("rclpy", "ros-rclpy", SOURCE, needed=True)
    for name in MESSAGES:
        yield from _message(name, SOURCE, only_if_wrong=True)
    for name in OUR_MESSAGES:
        yield from _message(f"hdmap_ros/msg/{name}", BUILD)
    for module, use in OPTIONAL.items():
        there = find_spec(module) is not None
        yield Finding(module, there, installed(module) if there else "optional", "" if there else use)
    for program, use in PROGRAMS.items():
        path = shutil.which(program)
        yield Finding(program, path is not None, path or "optional", "" if path else use)


def _message(name: str, advice: str, *, only_if_wrong: bool = False) -> Iterator[Finding]:
    """Whether a message's class is there, and the library that sends it: one can be without the other."""
    try:
        kind = graph_types().get(name)
        type(kind).__import_type_support__()
        problem = "" if type(kind)._TYPE_SUPPORT is not None else "its type support library does not load"
    except MissingDependencyError as error:
        problem = str(error).split(";")[0]
    except Exception as error:  # of a library that was built for another Python or ROS
        problem = f"{type(error).__name__}: {error}"
    if problem or not only_if_wrong:
        yield Finding(name, not problem, problem or "class and type support", advice if problem else "", needed=True)
