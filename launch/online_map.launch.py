"""Starts the online map node on live cameras or a bag, with RViz if wanted.

ros2 launch hdmap_ros online_map.launch.py
ros2 launch hdmap_ros online_map.launch.py bag:=drive.mcap rviz:=true
ros2 launch hdmap_ros online_map.launch.py layout:=foxglove device:=cuda weights:=/models/student.safetensors

Only arguments that were given become parameters; everything else is left to the parameter file.
"""

from pathlib import Path

import yaml
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

LAYOUTS = ["hdmap", "nuscenes2bag", "foxglove"]


def declare_arguments() -> list[DeclareLaunchArgument]:
    """All arguments with their defaults. An empty default means: not given, the parameter file decides."""
    share = FindPackageShare("hdmap_ros")

    def argument(name: str, default: object, description: str, choices: list[str] | None = None):
        return DeclareLaunchArgument(name, default_value=default, description=description, choices=choices)

    switch = ["true", "false"]
    return [
        argument("params_file", PathJoinSubstitution([share, "config", "online_map.yaml"]), "parameters of the node"),
        argument("weights", "", "checkpoint (.safetensors) or exported engine; empty: as in params_file"),
        argument("device", "", "auto, cpu, cuda or cuda:N; empty: as in params_file"),
        argument("namespace", "", "namespace of the node"),
        argument("layout", "", "topic layout of the cameras, config/topics/; empty: as in params_file", ["", *LAYOUTS]),
        argument("camera_prefix", "", "put before the camera topics of the layout, such as /sensing"),
        argument("image_transport", "", "raw or compressed; empty: as in params_file", ["", "raw", "compressed"]),
        argument("calibration_file", "", "intrinsics and extrinsics for cameras without CameraInfo or TF"),
        argument("use_sim_time", "", "follow /clock; empty: true when a bag is given", ["", *switch]),
        argument("autostart", "", "configure and activate at once; empty: as in params_file", ["", *switch]),
        argument("respawn", "false", "start the node again when it dies", switch),
        argument("log_level", "info", "log level of the node", ["debug", "info", "warn", "error", "fatal"]),
        argument("rviz", "false", "open RViz", switch),
        argument("rviz_config", PathJoinSubstitution([share, "config", "online_map.rviz"]), "RViz configuration"),
        argument("bag", "", "rosbag2 to play once the node is active; empty: live cameras"),
        argument("bag_rate", "1.0", "speed of playing"),
        argument("bag_loop", "false", "play again and again", switch),
        argument("bag_start_paused", "false", "wait for the player's resume service", switch),
        argument("exit_on_bag_end", "false", "stop everything when the bag has been played", switch),
    ]


def camera_parameters(layout: str, prefix: str, share: Path) -> dict[str, object]:
    """Node parameters that name the topics and frames of a layout file."""
    content = yaml.safe_load((share / "config" / "topics" / f"{layout}.yaml").read_text(encoding="utf-8"))
    parameters: dict[str, object] = {
        "camera_names": list(content["cameras"]),
        "image_transport": content["transport"],
        "tf.fixed_frame": content["tf"]["fixed_frame"],
        "tf.base_frame": content["tf"]["base_frame"],
    }
    for name, camera in content["cameras"].items():
        parameters[f"cameras.{name}.image_topic"] = prefix + camera["image"]
        parameters[f"cameras.{name}.frame_id"] = camera["frame"]
        if camera["info"]:
            parameters[f"cameras.{name}.info_topic"] = prefix + camera["info"]
    return parameters


def node_overrides(given: dict[str, str], share: Path) -> dict[str, object]:
    """Parameters from the arguments that were given, typed; they go over those of the parameter file."""
    overrides: dict[str, object] = {}
    layout = given["layout"] or ("hdmap" if given["camera_prefix"] else "")
    if layout:
        overrides |= camera_parameters(layout, given["camera_prefix"], share)
    # Paths are meant from where the user stands; the node's working directory may be another.
    if given["weights"]:
        overrides["model.weights"] = str(Path(given["weights"]).resolve())
    if given["calibration_file"]:
        overrides["calibration.source"] = "topic_then_file"
        overrides["calibration.file"] = str(Path(given["calibration_file"]).resolve())
    if given["device"]:
        overrides["model.device"] = given["device"]
    if given["image_transport"]:
        overrides["image_transport"] = given["image_transport"]
    if given["autostart"]:
        overrides["autostart"] = given["autostart"] == "true"
    overrides["use_sim_time"] = (given["use_sim_time"] or ("true" if given["bag"] else "false")) == "true"
    return overrides


def check_files(given: dict[str, str]) -> None:
    """Refuses files that are not there before anything starts."""
    for argument in ("params_file", "weights", "calibration_file", "bag"):
        if given[argument] and not Path(given[argument]).exists():
            raise RuntimeError(f"{argument}:={given[argument]}: no such file or folder")
    try:
        rate = float(given["bag_rate"])
    except ValueError:
        rate = 0.0
    if not rate > 0.0:
        raise RuntimeError(f"bag_rate:={given['bag_rate']}: must be a number above 0")


def bag_command(given: dict[str, str]) -> list[str]:
    """Command line of the player. 100 Hz of clock is 10 ms of resolution for ages and time-outs."""
    command = ["ros2", "bag", "play", given["bag"], "--clock", "100", "--rate", given["bag_rate"]]
    command += ["--loop"] if given["bag_loop"] == "true" else []
    return command + (["--start-paused"] if given["bag_start_paused"] == "true" else [])


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Builds the node, and the player and RViz where they are wanted, from the resolved arguments."""
    given = {a.name: LaunchConfiguration(a.name).perform(context) for a in declare_arguments()}
    check_files(given)
    overrides = node_overrides(given, Path(FindPackageShare("hdmap_ros").perform(context)))
    node = LifecycleNode(
        package="hdmap_ros",
        executable="online_map_node",
        name="online_map",
        namespace=given["namespace"],
        parameters=[given["params_file"], overrides],
        arguments=["--ros-args", "--log-level", given["log_level"]],
        respawn=given["respawn"] == "true",
        respawn_delay=2.0,
        output="screen",
    )
    rviz = Node(
        package="rviz2",
        executable="rviz2",
        arguments=["-d", given["rviz_config"]],
        parameters=[{"use_sim_time": overrides["use_sim_time"]}],
        condition=IfCondition(given["rviz"]),
        output="log",
    )
    closed = OnProcessExit(target_action=rviz, on_exit=[EmitEvent(event=Shutdown(reason="RViz was closed"))])
    entities: list[LaunchDescriptionEntity] = [node, rviz, RegisterEventHandler(closed)]
    if given["bag"]:
        player = ExecuteProcess(cmd=bag_command(given), output="screen")
        # The node loads and warms up its model first; a bag that starts at once would lose its first seconds.
        active = OnStateTransition(target_lifecycle_node=node, goal_state="active", entities=[player])
        entities.insert(0, RegisterEventHandler(active))
        if given["exit_on_bag_end"] == "true":
            ended = OnProcessExit(target_action=player, on_exit=[EmitEvent(event=Shutdown(reason="end of the bag"))])
            entities.append(RegisterEventHandler(ended))
    return entities


def generate_launch_description() -> LaunchDescription:
    """Called by `ros2 launch`."""
    return LaunchDescription([*declare_arguments(), OpaqueFunction(function=start)])
