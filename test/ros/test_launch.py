"""The launch files, run with recording stand-ins; with the real `launch` in `test_real_launch.py`."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from hdmap_ros.bag.layouts import load_layout
from hdmap_ros.node_config import CAMERA_PARAMETERS, PARAMETERS

ROOT = Path(__file__).resolve().parents[2]
CAMERAS = {"CAM_FRONT", "CAM_FRONT_LEFT", "CAM_FRONT_RIGHT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_BACK_RIGHT"}


class Context:
    """What the launch file asks of a LaunchContext."""

    def __init__(self, values: dict[str, str] | None = None) -> None:
        self.launch_configurations = values or {}
        self.is_shutdown = False


@pytest.fixture
def load(load_module: Callable[[Path], ModuleType]) -> Callable[[str], ModuleType]:
    """A launch file by name."""
    return lambda name: load_module(ROOT / "launch" / f"{name}.launch.py")


@pytest.fixture
def online_map(load_module: Callable[[Path], ModuleType], load: Any, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    load_module(Path(__file__).with_name("launch_stand_ins.py")).install(monkeypatch)
    return load("online_map")


def resolve(module: ModuleType, tmp_path: Path, **given: str) -> dict[str, str]:
    """Defaults as `ros2 launch` would resolve them, under the arguments that a user gives."""
    values = {}
    for argument in module.declare_arguments():
        default = argument.kwargs["default_value"]
        values[argument.name] = default if isinstance(default, str) else default.perform(Context())
    default = parameters(tmp_path, "/**: {ros__parameters: {}}", "default.yaml")
    return {**values, "params_file": str(default), **given}


def parameters(tmp_path: Path, content: str, name: str = "parameters.yaml") -> Path:
    path = tmp_path / name
    path.write_text(content + "\n", encoding="utf-8")
    return path


def bag_file(tmp_path: Path) -> Path:
    """A bag without messages."""
    path = tmp_path / "drive.mcap"
    path.write_bytes(2 * b"\x89MCAP0\r\n")
    return path


def start(module: ModuleType, tmp_path: Path, **given: str) -> dict[str, list[Any]]:
    entities = module.start(Context(resolve(module, tmp_path, **given)))
    by_kind: dict[str, list[Any]] = {}
    for entity in entities:
        by_kind.setdefault(type(entity).__name__, []).append(entity)
    return by_kind


def test_arguments_are_described_and_switches_are_closed(online_map: ModuleType) -> None:
    arguments = {a.name: a for a in online_map.declare_arguments()}
    wanted = {"params_file", "weights", "device", "namespace", "use_sim_time", "rviz", "bag", "bag_rate", "bag_loop"}
    assert wanted <= set(arguments)
    assert all(a.kwargs["description"] for a in arguments.values())
    for name in ("rviz", "bag_loop", "respawn", "exit_on_bag_end"):
        assert arguments[name].kwargs["choices"] == ["true", "false"]


def test_the_help_offers_nothing_that_is_not_there(online_map: ModuleType) -> None:
    assert not [a.name for a in online_map.declare_arguments() if "engine" in a.kwargs["description"]]


def test_nothing_given_overrides_nothing(online_map: ModuleType, tmp_path: Path) -> None:
    node = start(online_map, tmp_path)["LifecycleNode"][0]
    assert node.kwargs["executable"] == "online_map_node"
    assert node.kwargs["name"] == "online_map"
    assert len(node.kwargs["parameters"]) == 1, "use_sim_time of the parameter file stays"


def test_given_arguments_become_typed_parameters(online_map: ModuleType, tmp_path: Path) -> None:
    weights = tmp_path / "student.safetensors"
    weights.touch()
    node = start(online_map, tmp_path, weights=str(weights), device="cuda:0", autostart="false")["LifecycleNode"][0]
    assert node.kwargs["parameters"][1] == {
        "model.weights": str(weights),
        "model.device": "cuda:0",
        "autostart": False,
    }


def test_a_tilde_is_the_home_folder(online_map: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("student.safetensors", "rig.yaml", "drive.mcap", "view.rviz"):
        (tmp_path / name).touch()
    bag_file(tmp_path)
    parameters(tmp_path, "/**: {ros__parameters: {}}")
    given = {"weights": "~/student.safetensors", "calibration_file": "~/rig.yaml", "params_file": "~/parameters.yaml"}
    entities = start(online_map, tmp_path, bag="~/drive.mcap", rviz_config="~/view.rviz", **given)
    file, overrides = entities["LifecycleNode"][0].kwargs["parameters"]
    assert file == str(tmp_path / "parameters.yaml")
    assert overrides["model.weights"] == str(tmp_path / "student.safetensors")
    assert overrides["calibration.file"] == str(tmp_path / "rig.yaml")
    assert str(tmp_path / "drive.mcap") in player(entities).kwargs["cmd"]
    assert entities["Node"][0].kwargs["arguments"] == ["-d", str(tmp_path / "view.rviz")]
    with pytest.raises(RuntimeError, match=r"weights:=.*~nobody-of-that-name/x: no such file"):
        start(online_map, tmp_path, weights="~nobody-of-that-name/x")


def player(entities: dict[str, list[Any]]) -> Any:
    handlers = [h.args[0] for h in entities["RegisterEventHandler"]]
    [active] = [h for h in handlers if type(h).__name__ == "OnStateTransition"]
    [process] = active.kwargs["entities"]
    return process


@pytest.fixture(params=[True, False], ids=["ros2 bag", "no ros2 bag"])
def has_ros2_bag(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bool:
    """A `ros2` on the path that has the command `bag`, or has not."""
    command = tmp_path / "bin" / "ros2"
    command.parent.mkdir()
    command.write_text(f"#!/bin/sh\nexit {0 if request.param else 2}\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(command.parent), prepend=":")
    return bool(request.param)


def test_a_bag_brings_the_clock_and_waits_for_the_node(
    online_map: ModuleType, tmp_path: Path, has_ros2_bag: bool
) -> None:
    bag = bag_file(tmp_path)
    entities = start(online_map, tmp_path, bag=str(bag), bag_rate="0.5")
    assert entities["LifecycleNode"][0].kwargs["parameters"][1]["use_sim_time"] is True
    assert "ExecuteProcess" not in entities, "the player must not start before the node is active"
    handlers = [h.args[0] for h in entities["RegisterEventHandler"]]
    [active] = [h for h in handlers if type(h).__name__ == "OnStateTransition"]
    assert active.kwargs["goal_state"] == "active"
    assert active.kwargs["target_lifecycle_node"] is entities["LifecycleNode"][0]
    assert active.kwargs["handle_once"], "a second activation must not play again"
    own = ["python3", "-m", "hdmap_ros.bag.player"]
    program = ["ros2", "bag", "play"] if has_ros2_bag else own
    assert player(entities).kwargs["cmd"] == [*program, str(bag), "--clock", "100", "--rate", "0.5"]


def test_only_ros2_bag_can_loop_and_wait(online_map: ModuleType, tmp_path: Path, has_ros2_bag: bool) -> None:
    given = {"bag": str(bag_file(tmp_path)), "bag_loop": "true", "bag_start_paused": "true"}
    if has_ros2_bag:
        assert player(start(online_map, tmp_path, **given)).kwargs["cmd"][-2:] == ["--loop", "--start-paused"]
    else:
        with pytest.raises(RuntimeError, match="need `ros2 bag`, which is not there"):
            start(online_map, tmp_path, **given)


@pytest.mark.parametrize(
    ("content", "given", "expected"),
    [
        ("online_map: {ros__parameters: {use_sim_time: true}}", {}, None),
        ("/**: {ros__parameters: {use_sim_time: false}}", {"bag": "drive.mcap"}, None),
        ("/*: {ros__parameters: {use_sim_time: false}}", {"bag": "drive.mcap"}, None),
        (
            "car: {online_map: {ros__parameters: {use_sim_time: false}}}",
            {"bag": "drive.mcap", "namespace": "/car"},
            None,
        ),
        ("/**/online_map: {ros__parameters: {use_sim_time: false}}", {"bag": "drive.mcap", "namespace": "a/b"}, None),
        ("/**: {ros__parameters: {lazy: false}}", {"bag": "drive.mcap"}, True),
        ("{other: {ros__parameters: {use_sim_time: false}}, /**: {ros__parameters: {}}}", {"bag": "drive.mcap"}, True),
        ("/**: {ros__parameters: {use_sim_time: true}}", {"use_sim_time": "false"}, False),
    ],
)
def test_the_clock_of_the_parameter_file_stays(
    online_map: ModuleType,
    tmp_path: Path,
    content: str,
    given: dict[str, str],
    expected: bool | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = parameters(tmp_path, content)
    monkeypatch.chdir(bag_file(tmp_path).parent)
    node = start(online_map, tmp_path, **{"params_file": str(path), **given})["LifecycleNode"][0]
    overrides = node.kwargs["parameters"][1] if len(node.kwargs["parameters"]) > 1 else {}
    assert overrides.get("use_sim_time") is expected


@pytest.mark.parametrize(
    ("content", "namespace"),
    [
        ("front_map: {ros__parameters: {lazy: false}}", ""),
        ("online_map: {ros__parameters: {lazy: false}}", "car"),
        ("/*: {ros__parameters: {lazy: false}}", "car"),
        ("/van/online_map: {ros__parameters: {lazy: false}}", "car"),
        ("", ""),
        ("- lazy", ""),
    ],
)
def test_a_parameter_file_for_another_node_is_refused(
    online_map: ModuleType, tmp_path: Path, content: str, namespace: str
) -> None:
    path = parameters(tmp_path, content)
    with pytest.raises(RuntimeError, match=r"no section is for the node /(car/)?online_map"):
        start(online_map, tmp_path, params_file=str(path), namespace=namespace)


@pytest.mark.parametrize(
    ("namespace", "around", "name"),
    [
        ("", "", "/online_map"),
        ("car", "", "/car/online_map"),
        ("/car/", "/fleet", "/car/online_map"),
        ("car", "/fleet", "/fleet/car/online_map"),
        ("", "fleet", "/fleet/online_map"),
    ],
)
def test_the_node_has_its_full_name(online_map: ModuleType, namespace: str, around: str, name: str) -> None:
    assert online_map.full_node_name(namespace, around) == name


def test_rviz_that_is_not_installed_is_told_before_the_node_starts(
    online_map: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = str(ROOT / "config" / "online_map.rviz")
    index = tmp_path / "share" / "ament_index" / "resource_index" / "packages"
    index.mkdir(parents=True)
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match=r"rviz2 is not installed; apt install .*rviz:=false"):
        start(online_map, tmp_path, rviz="true", rviz_config=view)
    (index / "rviz2").touch()
    assert start(online_map, tmp_path, rviz="true", rviz_config=view)["Node"][0].kwargs["package"] == "rviz2"


def test_ends_are_no_second_shutdown(online_map: ModuleType, tmp_path: Path) -> None:
    entities = start(online_map, tmp_path, bag=str(bag_file(tmp_path)), exit_on_bag_end="true")
    exits = [h.args[0] for h in entities["RegisterEventHandler"] if type(h.args[0]).__name__ == "OnProcessExit"]
    assert [exit_.kwargs["target_action"] for exit_ in exits] == [
        entities["Node"][0],
        player(entities),
        entities["LifecycleNode"][0],
    ]
    for handler in exits:
        [action] = handler.kwargs["on_exit"]
        context = Context()
        assert len(action.kwargs["function"](context)) == 1
        context.is_shutdown = True
        assert action.kwargs["function"](context) == []


def test_sim_time_can_be_refused_with_a_bag(online_map: ModuleType, tmp_path: Path) -> None:
    node = start(online_map, tmp_path, bag=str(bag_file(tmp_path)), use_sim_time="false")["LifecycleNode"][0]
    assert node.kwargs["parameters"][1]["use_sim_time"] is False


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"weights": "absent.safetensors"}, "weights:=.*/absent.safetensors: no such file"),
        ({"bag": "absent.mcap"}, "bag:=.*/absent.mcap: no such file"),
        ({"bag": __file__}, "bag:=.*test_launch.py is no bag: it is a text file"),
        ({"rviz": "true", "rviz_config": "absent.rviz"}, "rviz_config:=.*absent.rviz: no such file"),
        ({"bag_rate": "fast"}, "bag_rate:=fast: must be a number above 0"),
        ({"bag_rate": "-1"}, "bag_rate:=-1"),
        ({"bag_rate": "nan"}, "bag_rate:=nan"),
    ],
)
def test_mistakes_are_told_before_anything_starts(
    online_map: ModuleType, tmp_path: Path, given: dict[str, str], told: str
) -> None:
    with pytest.raises(RuntimeError, match=told):
        start(online_map, tmp_path, **given)


@pytest.mark.parametrize("layout", ["hdmap", "nuscenes2bag", "foxglove"])
def test_layouts_name_every_camera(online_map: ModuleType, tmp_path: Path, layout: str) -> None:
    assert layout in online_map.LAYOUTS
    node = start(online_map, tmp_path, layout=layout, camera_prefix="/car")["LifecycleNode"][0]
    parameters = node.kwargs["parameters"][1]
    assert set(parameters["camera_names"]) == CAMERAS
    assert parameters["cameras.CAM_FRONT.image_topic"].startswith("/car/cam_front/")
    assert parameters["cameras.CAM_FRONT.frame_id"] == "cam_front"
    assert parameters["image_transport"] in ("raw", "compressed")


def test_a_camera_keeps_the_projection_that_its_layout_states(online_map: ModuleType, tmp_path: Path) -> None:
    layout = yaml.safe_load((ROOT / "config" / "topics" / "hdmap.yaml").read_text())
    layout["cameras"]["CAM_BACK"]["projection"] = "p"
    path = parameters(tmp_path, yaml.safe_dump(layout), "mine.yaml")
    named = online_map.camera_parameters(load_layout(path), "")
    assert {name: value for name, value in named.items() if "projection" in name} == {
        "cameras.CAM_BACK.projection": "p"
    }


def test_overrides_are_parameters_of_the_node(online_map: ModuleType, tmp_path: Path) -> None:
    given = {"layout": "hdmap", "weights": str(tmp_path), "calibration_file": str(tmp_path), "device": "cpu"}
    more = {"autostart": "true", "image_transport": "raw", "bag": str(bag_file(tmp_path))}
    [node] = start(online_map, tmp_path, **given, **more)["LifecycleNode"]
    declared = {spec.name for spec in PARAMETERS} | {"use_sim_time"}
    declared |= {f"cameras.{camera}.{key}" for camera in CAMERAS for key in CAMERA_PARAMETERS}
    overrides = node.kwargs["parameters"][1]
    assert len(overrides) == 10 + 3 * len(CAMERAS)
    assert set(overrides) <= declared


def test_layout_files_and_choices_agree(online_map: ModuleType) -> None:
    assert sorted(file.stem for file in (ROOT / "config" / "topics").glob("*.yaml")) == sorted(online_map.LAYOUTS)


def test_replay_passes_its_defaults_on(online_map: ModuleType, load: Any) -> None:
    replay = load("replay")
    *arguments, include = replay.generate_launch_description().args[0]
    assert [a.name for a in arguments] == ["bag", "layout", "rviz", "exit_on_bag_end"]
    assert "default_value" not in arguments[0].kwargs, "a bag has to be named"
    passed = dict(include.kwargs["launch_arguments"])
    assert set(passed) <= {a.name for a in online_map.declare_arguments()}
