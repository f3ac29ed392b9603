"""Starts the online map node on live cameras or a bag, with RViz if wanted.

ros2 launch hdmap_ros online_map.launch.py
ros2 launch hdmap_ros online_map.launch.py bag:=drive.mcap rviz:=true
ros2 launch hdmap_ros online_map.launch.py layout:=foxglove device:=cuda weights:=~/models/student.safetensors

Only arguments that were given become parameters; everything else is left to the parameter file. Everything that can be
checked is checked before anything starts, as launch leaves running what it has started when a later action fails.
"""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import yaml
from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    ExecuteProcess,
    OpaqueFunction,
    RegisterEventHandler,
)
from launch.conditions import IfCondition
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import LifecycleNode, Node
from launch_ros.event_handlers import OnStateTransition
from launch_ros.substitutions import FindPackageShare

from hdmap_core.errors import HdmapError
from hdmap_ros.bag.layouts import TopicLayout, load_layout
from hdmap_ros.bag.storage import storage_files

LAYOUTS = ["hdmap", "nuscenes2bag", "foxglove"]
PATHS = ("params_file", "weights", "calibration_file", "rviz_config", "bag")


def declare_arguments() -> list[DeclareLaunchArgument]:
    """All arguments with their defaults. An empty default means: not given, the parameter file decides."""
    share = FindPackageShare("hdmap_ros")

    def argument(name: str, default: object, description: str, choices: list[str] | None = None):
        return DeclareLaunchArgument(name, default_value=default, description=description, choices=choices)

    switch = ["true", "false"]
    return [
        argument("params_file", PathJoinSubstitution([share, "config", "online_map.yaml"]), "parameters of the node"),
        argument("weights", "", "checkpoint (.safetensors) or exported file (.onnx, .xml); empty: as in params_file"),
        argument("device", "", "auto, cpu, cuda or cuda:N; empty: as in params_file"),
        argument("namespace", "", "namespace of the node"),
        argument("layout", "", "topic layout of the cameras, config/topics/; empty: as in params_file", ["", *LAYOUTS]),
        argument("camera_prefix", "", "put before the camera topics of the layout (hdmap unless given), as /sensing"),
        argument("image_transport", "", "raw or compressed; empty: as in params_file", ["", "raw", "compressed"]),
        argument("calibration_file", "", "intrinsics and extrinsics for cameras without CameraInfo or TF"),
        argument("use_sim_time", "", "follow /clock; empty: as in params_file, else with a bag only", ["", *switch]),
        argument("autostart", "", "configure and activate at once; empty: as in params_file", ["", *switch]),
        argument("respawn", "false", "start the node again whenever it ends", switch),
        argument("log_level", "info", "log level of the node", ["debug", "info", "warn", "error", "fatal"]),
        argument("rviz", "false", "open RViz", switch),
        argument("rviz_config", PathJoinSubstitution([share, "config", "online_map.rviz"]), "RViz configuration"),
        argument("bag", "", "bag to play, once, when the node has become active; empty: live cameras"),
        argument("bag_rate", "1.0", "speed of playing"),
        argument("bag_loop", "false", "play again and again", switch),
        argument("bag_start_paused", "false", "wait for the player's resume service", switch),
        argument(
            "exit_on_bag_end", "false", "stop everything when the bag has been played or the node has ended", switch
        ),
    ]


def camera_parameters(layout: TopicLayout, prefix: str) -> dict[str, object]:
    """Node parameters that name the topics and frames of a layout."""
    parameters: dict[str, object] = {
        "camera_names": list(layout.cameras),
        "image_transport": layout.transport,
        "tf.fixed_frame": layout.fixed_frame,
        "tf.base_frame": layout.base_frame,
    }
    for name, camera in layout.cameras.items():
        parameters[f"cameras.{name}.image_topic"] = prefix + camera.image
        parameters[f"cameras.{name}.frame_id"] = camera.frame
        if camera.info:
            parameters[f"cameras.{name}.info_topic"] = prefix + camera.info
        if camera.projection:
            parameters[f"cameras.{name}.projection"] = camera.projection
    return parameters


def node_overrides(given: dict[str, str], from_file: dict[str, Any]) -> dict[str, object]:
    """Parameters from the arguments that were given, typed; they go over those of the parameter file."""
    overrides: dict[str, object] = {}
    layout = given["layout"] or ("hdmap" if given["camera_prefix"] else "")
    if layout:
        overrides |= camera_parameters(load_layout(layout), given["camera_prefix"])
    if given["weights"]:
        overrides["model.weights"] = given["weights"]
    if given["calibration_file"]:
        overrides["calibration.source"] = "topic_then_file"
        overrides["calibration.file"] = given["calibration_file"]
    if given["device"]:
        overrides["model.device"] = given["device"]
    if given["image_transport"]:
        overrides["image_transport"] = given["image_transport"]
    if given["autostart"]:
        overrides["autostart"] = given["autostart"] == "true"
    if given["use_sim_time"]:
        overrides["use_sim_time"] = given["use_sim_time"] == "true"
    elif given["bag"] and "use_sim_time" not in from_file:
        overrides["use_sim_time"] = True
    return overrides


def with_full_paths(given: dict[str, str]) -> dict[str, str]:
    """Paths are meant from where the user stands, the node's working directory may be another; `~` is his home."""
    # Not Path's expanduser, which raises for a user it does not know.
    paths = {name: str(Path(os.path.expanduser(given[name])).absolute()) for name in PATHS if given[name]}  # noqa: PTH111
    return given | paths


def check_arguments(given: dict[str, str]) -> None:
    """Refuses files and packages that are not there, and numbers that are none."""
    wanted = [name for name in PATHS if given[name] and (name != "rviz_config" or given["rviz"] == "true")]
    for name in wanted:
        if not Path(given[name]).exists():
            raise RuntimeError(f"{name}:={given[name]}: no such file or folder")
    if given["bag"]:
        try:
            storage_files(Path(given["bag"]))
        except HdmapError as error:
            raise RuntimeError(f"bag:={given['bag']}: {error}") from None
    try:
        rate = float(given["bag_rate"])
    except ValueError:
        rate = 0.0
    if not rate > 0.0:
        raise RuntimeError(f"bag_rate:={given['bag_rate']}: must be a number above 0")
    if given["rviz"] == "true":
        try:
            get_package_prefix("rviz2")
        except (PackageNotFoundError, OSError):
            install = f"apt install ros-{os.environ.get('ROS_DISTRO', 'DISTRO')}-rviz2"
            raise RuntimeError(f"the package rviz2 is not installed; {install}, or launch with rviz:=false") from None


def parameters_for(node_name: str, path: Path) -> dict[str, Any]:
    """The parameters that a file gives to a node; sections are nodes' names with ROS's wildcards `*` and `**`."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RuntimeError(f"params_file:={path}: cannot be read: {error}") from None
    sections = dict(parameter_sections(content))
    matching = [parameters for name, parameters in sections.items() if re.fullmatch(as_pattern(name), node_name)]
    if not matching:
        others = ", ".join(sections) or "none"
        raise RuntimeError(
            f"params_file:={path}: no section is for the node {node_name}, so nothing in it would count; name one "
            f"{node_name} or /**, with ros__parameters below it (sections there: {others})"
        )
    return {name: value for parameters in matching for name, value in parameters.items()}


def parameter_sections(content: Any, above: str = "") -> list[tuple[str, dict[str, Any]]]:
    """Full node names, which may be written as nested mappings, and their parameters."""
    found = []
    for name, entry in content.items() if isinstance(content, dict) else ():
        if name == "ros__parameters":
            found.append((above, entry if isinstance(entry, dict) else {}))
        else:
            found += parameter_sections(entry, f"{above}/{str(name).strip('/')}")
    return found


def as_pattern(section: str) -> str:
    """A regular expression of the node names that a section is for."""
    tokens = {"*": "/[^/]+", "**": "(/[^/]+)*"}
    return "".join(tokens.get(token, f"/{re.escape(token)}") for token in section.strip("/").split("/"))


def full_node_name(namespace: str, around: str) -> str:
    """`/namespace/online_map`; a relative namespace is below the one that an including launch file has pushed."""
    return re.sub("/+", "/", f"/{'' if namespace.startswith('/') else around}/{namespace}/online_map")


def bag_command(given: dict[str, str]) -> list[str]:
    """Command line of the player. 100 Hz of clock is 10 ms of resolution for ages and time-outs."""
    options = ["--clock", "100", "--rate", given["bag_rate"]]
    more = ["--loop"] if given["bag_loop"] == "true" else []
    more += ["--start-paused"] if given["bag_start_paused"] == "true" else []
    if is_there(["ros2", "bag", "play", "--help"]):
        return ["ros2", "bag", "play", given["bag"], *options, *more]
    if more:
        raise RuntimeError(
            "bag_loop and bag_start_paused need `ros2 bag`, which is not there; "
            f"apt install ros-{os.environ.get('ROS_DISTRO', 'DISTRO')}-rosbag2"
        )
    return ["python3", "-m", "hdmap_ros.bag.player", given["bag"], *options]


def is_there(command: list[str]) -> bool:
    """Whether a command can be run."""
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def ends_everything(process: ExecuteProcess, reason: str) -> list[LaunchDescriptionEntity]:
    """Stops all that was launched when a process exits."""

    def end(context: LaunchContext) -> list[LaunchDescriptionEntity]:
        # A second shutdown, as after Ctrl-C, would be an error of launch itself.
        return [] if context.is_shutdown else [EmitEvent(event=Shutdown(reason=reason))]

    return [RegisterEventHandler(OnProcessExit(target_action=process, on_exit=[OpaqueFunction(function=end)]))]


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Builds the node, and the player and RViz where they are wanted, from the resolved arguments."""
    given = with_full_paths({a.name: LaunchConfiguration(a.name).perform(context) for a in declare_arguments()})
    check_arguments(given)
    node_name = full_node_name(given["namespace"], context.launch_configurations.get("ros_namespace", ""))
    from_file = parameters_for(node_name, Path(given["params_file"]))
    overrides = node_overrides(given, from_file)
    node = LifecycleNode(
        package="hdmap_ros",
        executable="online_map_node",
        name="online_map",
        namespace=given["namespace"],
        parameters=[given["params_file"], *([overrides] if overrides else [])],
        arguments=["--ros-args", "--log-level", given["log_level"]],
        respawn=given["respawn"] == "true",
        respawn_delay=2.0,
        output="screen",
    )
    rviz = Node(
        package="rviz2",
        executable="rviz2",
        arguments=["-d", given["rviz_config"]],
        parameters=[{"use_sim_time": overrides.get("use_sim_time", from_file.get("use_sim_time", False))}],
        condition=IfCondition(given["rviz"]),
        output="log",
    )
    entities: list[LaunchDescriptionEntity] = [node, rviz, *ends_everything(rviz, "RViz was closed")]
    if given["bag"]:
        player = ExecuteProcess(cmd=bag_command(given), output="screen")
        # The node loads and warms up its model first; a bag that starts at once would lose its first seconds. Once: an
        # action cannot be executed again, and a node that is activated anew or respawned goes on with what is played.
        active = OnStateTransition(target_lifecycle_node=node, goal_state="active", entities=[player], handle_once=True)
        entities.insert(0, RegisterEventHandler(active))
        if given["exit_on_bag_end"] == "true":
            entities += ends_everything(player, "end of the bag")
            entities += [] if given["respawn"] == "true" else ends_everything(node, "the node has ended")
    return entities


def generate_launch_description() -> LaunchDescription:
    """Called by `ros2 launch`."""
    return LaunchDescription([*declare_arguments(), OpaqueFunction(function=start)])
