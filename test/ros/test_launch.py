"""The launch files, run with the real `launch` where it is installed and with recording stand-ins everywhere."""

import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import yaml

from hdmap_ros.node_config import CAMERA_PARAMETERS, PARAMETERS

ROOT = Path(__file__).resolve().parents[2]
LAUNCH = ROOT / "launch"
CAMERAS = {"CAM_FRONT", "CAM_FRONT_LEFT", "CAM_FRONT_RIGHT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_BACK_RIGHT"}
MODULES = {
    "launch": ["LaunchContext", "LaunchDescription", "LaunchDescriptionEntity"],
    "launch.actions": [
        "DeclareLaunchArgument",
        "EmitEvent",
        "ExecuteProcess",
        "IncludeLaunchDescription",
        "OpaqueFunction",
        "RegisterEventHandler",
    ],
    "launch.conditions": ["IfCondition"],
    "launch.event_handlers": ["OnProcessExit"],
    "launch.events": ["Shutdown"],
    "launch.launch_description_sources": ["PythonLaunchDescriptionSource"],
    "launch.substitutions": [],
    "launch_ros": [],
    "launch_ros.actions": ["LifecycleNode", "Node"],
    "launch_ros.event_handlers": ["OnStateTransition"],
    "launch_ros.substitutions": [],
}


class Recorded:
    """Keeps what it was made with, as the launch actions are only descriptions."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args, self.kwargs = args, kwargs
        self.name = args[0] if args else None


class LaunchConfiguration(Recorded):
    def perform(self, context: dict[str, str]) -> str:
        return context[self.args[0]]


class FindPackageShare(Recorded):
    def perform(self, context: dict[str, str]) -> str:
        return str(ROOT)


class PathJoinSubstitution(Recorded):
    def perform(self, context: dict[str, str]) -> str:
        return str(Path(*(p if isinstance(p, str) else p.perform(context) for p in self.args[0])))


def load(name: str) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(name.replace(".", "_"), LAUNCH / f"{name}.launch.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    for module_name, class_names in MODULES.items():
        module = types.ModuleType(module_name)
        for class_name in class_names:
            setattr(module, class_name, type(class_name, (Recorded,), {}))
        monkeypatch.setitem(sys.modules, module_name, module)
    substitutions: Any = sys.modules["launch.substitutions"]
    substitutions.LaunchConfiguration, substitutions.PathJoinSubstitution = LaunchConfiguration, PathJoinSubstitution
    ros_substitutions: Any = sys.modules["launch_ros.substitutions"]
    ros_substitutions.FindPackageShare = FindPackageShare


@pytest.fixture
def online_map(stand_ins: None, tmp_path: Path) -> types.ModuleType:
    return load("online_map")


def resolve(module: types.ModuleType, tmp_path: Path, **given: str) -> dict[str, str]:
    """Defaults as `ros2 launch` would resolve them, under the arguments that a user gives."""
    values = {}
    for argument in module.declare_arguments():
        default = argument.kwargs["default_value"]
        values[argument.name] = default if isinstance(default, str) else default.perform({})
    parameters = tmp_path / "parameters.yaml"
    parameters.write_text("online_map: {ros__parameters: {}}\n", encoding="utf-8")
    return {**values, "params_file": str(parameters), **given}


def start(module: types.ModuleType, tmp_path: Path, **given: str) -> dict[str, list[Any]]:
    entities = module.start(resolve(module, tmp_path, **given))
    by_kind: dict[str, list[Any]] = {}
    for entity in entities:
        by_kind.setdefault(type(entity).__name__, []).append(entity)
    return by_kind


def test_arguments_are_described_and_switches_are_closed(online_map: types.ModuleType) -> None:
    arguments = {a.name: a for a in online_map.declare_arguments()}
    wanted = {"params_file", "weights", "device", "namespace", "use_sim_time", "rviz", "bag", "bag_rate", "bag_loop"}
    assert wanted <= set(arguments)
    assert all(a.kwargs["description"] for a in arguments.values())
    for name in ("rviz", "bag_loop", "respawn", "exit_on_bag_end"):
        assert arguments[name].kwargs["choices"] == ["true", "false"]


def test_nothing_given_overrides_nothing_but_the_clock(online_map: types.ModuleType, tmp_path: Path) -> None:
    node = start(online_map, tmp_path)["LifecycleNode"][0]
    assert node.kwargs["executable"] == "online_map_node"
    assert node.kwargs["name"] == "online_map"
    assert node.kwargs["parameters"][1] == {"use_sim_time": False}


def test_given_arguments_become_typed_parameters(online_map: types.ModuleType, tmp_path: Path) -> None:
    weights = tmp_path / "student.safetensors"
    weights.touch()
    node = start(online_map, tmp_path, weights=str(weights), device="cuda:0", autostart="false")["LifecycleNode"][0]
    assert node.kwargs["parameters"][1] == {
        "model.weights": str(weights),
        "model.device": "cuda:0",
        "autostart": False,
        "use_sim_time": False,
    }


def test_a_bag_brings_the_clock_and_waits_for_the_node(online_map: types.ModuleType, tmp_path: Path) -> None:
    bag = tmp_path / "drive.mcap"
    bag.touch()
    entities = start(online_map, tmp_path, bag=str(bag), bag_rate="0.5", bag_loop="true")
    assert entities["LifecycleNode"][0].kwargs["parameters"][1]["use_sim_time"] is True
    assert "ExecuteProcess" not in entities, "the player must not start before the node is active"
    handlers = [h.args[0] for h in entities["RegisterEventHandler"]]
    [active] = [h for h in handlers if type(h).__name__ == "OnStateTransition"]
    assert active.kwargs["goal_state"] == "active"
    assert active.kwargs["target_lifecycle_node"] is entities["LifecycleNode"][0]
    [player] = active.kwargs["entities"]
    assert player.kwargs["cmd"] == ["ros2", "bag", "play", str(bag), "--clock", "100", "--rate", "0.5", "--loop"]


def test_sim_time_can_be_refused_with_a_bag(online_map: types.ModuleType, tmp_path: Path) -> None:
    node = start(online_map, tmp_path, bag=str(tmp_path), use_sim_time="false")["LifecycleNode"][0]
    assert node.kwargs["parameters"][1]["use_sim_time"] is False


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"weights": "absent.safetensors"}, "weights:=absent.safetensors: no such file"),
        ({"bag": "absent.mcap"}, "bag:=absent.mcap: no such file"),
        ({"bag_rate": "fast"}, "bag_rate:=fast: must be a number above 0"),
        ({"bag_rate": "-1"}, "bag_rate:=-1"),
        ({"bag_rate": "nan"}, "bag_rate:=nan"),
    ],
)
def test_mistakes_are_told_before_anything_starts(
    online_map: types.ModuleType, tmp_path: Path, given: dict[str, str], told: str
) -> None:
    with pytest.raises(RuntimeError, match=told):
        start(online_map, tmp_path, **given)


@pytest.mark.parametrize("layout", ["hdmap", "nuscenes2bag", "foxglove"])
def test_layouts_name_every_camera(online_map: types.ModuleType, tmp_path: Path, layout: str) -> None:
    assert layout in online_map.LAYOUTS
    node = start(online_map, tmp_path, layout=layout, camera_prefix="/car")["LifecycleNode"][0]
    parameters = node.kwargs["parameters"][1]
    assert set(parameters["camera_names"]) == CAMERAS
    assert parameters["cameras.CAM_FRONT.image_topic"].startswith("/car/cam_front/")
    assert parameters["cameras.CAM_FRONT.frame_id"] == "cam_front"
    assert parameters["image_transport"] in ("raw", "compressed")


def test_overrides_are_parameters_of_the_node(online_map: types.ModuleType, tmp_path: Path) -> None:
    given = {"layout": "hdmap", "weights": str(tmp_path), "calibration_file": str(tmp_path), "device": "cpu"}
    more = {"autostart": "true", "image_transport": "raw", "bag": str(tmp_path)}
    [node] = start(online_map, tmp_path, **given, **more)["LifecycleNode"]
    declared = {spec.name for spec in PARAMETERS} | {"use_sim_time"}
    declared |= {f"cameras.{camera}.{key}" for camera in CAMERAS for key in CAMERA_PARAMETERS}
    overrides = node.kwargs["parameters"][1]
    assert len(overrides) == 10 + 3 * len(CAMERAS)
    assert set(overrides) <= declared


def test_layout_files_and_choices_agree(online_map: types.ModuleType) -> None:
    files = sorted((ROOT / "config" / "topics").glob("*.yaml"))
    assert sorted(f.stem for f in files) == sorted(online_map.LAYOUTS)
    for file in files:
        layout = yaml.safe_load(file.read_text(encoding="utf-8"))
        assert set(layout) == {"transport", "cameras", "lidar", "odometry", "tf"}
        assert set(layout["cameras"]) == CAMERAS
        topics = [camera["image"] for camera in layout["cameras"].values()]
        assert len(set(topics)) == len(CAMERAS), f"{file.name}: two cameras share a topic"
        assert all(topic.startswith("/") for topic in topics)


def test_replay_passes_its_defaults_on(stand_ins: None, online_map: types.ModuleType) -> None:
    replay = load("replay")
    *arguments, include = replay.generate_launch_description().args[0]
    assert [a.name for a in arguments] == ["bag", "layout", "rviz", "exit_on_bag_end"]
    assert "default_value" not in arguments[0].kwargs, "a bag has to be named"
    passed = dict(include.kwargs["launch_arguments"])
    assert set(passed) <= {a.name for a in online_map.declare_arguments()}


def test_real_launch_takes_the_files() -> None:
    # Not importorskip("launch"): this repository's folder launch/ answers to that name.
    pytest.importorskip("launch_ros.actions", reason="launch and launch_ros are not among the ROS wheels")
    from launch.actions import DeclareLaunchArgument

    for name in ("online_map", "replay"):
        description = load(name).generate_launch_description()
        assert any(isinstance(entity, DeclareLaunchArgument) for entity in description.entities)
