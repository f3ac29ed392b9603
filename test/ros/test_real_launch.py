"""The launch files with the real `launch` and `launch_ros`, where they are installed."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def load(load_module: Callable[[Path], ModuleType]) -> Callable[[str], ModuleType]:
    """A launch file by name."""
    return lambda name: load_module(ROOT / "launch" / f"{name}.launch.py")


@pytest.fixture
def real_launch() -> None:
    # Not importorskip("launch"): this repository's folder launch/ answers to that name.
    pytest.importorskip("launch_ros.actions", reason="launch and launch_ros are not among the ROS wheels")


def test_real_launch_takes_the_files(real_launch: None, load: Any) -> None:
    from launch.actions import DeclareLaunchArgument

    for name in ("online_map", "replay"):
        description = load(name).generate_launch_description()
        assert any(isinstance(entity, DeclareLaunchArgument) for entity in description.entities)


def test_real_launch_plays_once(real_launch: None, load: Any, tmp_path: Path) -> None:
    """The real actions and handlers: the player belongs to the first activation alone."""
    import launch
    from launch_ros.actions import LifecycleNode
    from launch_ros.event_handlers import OnStateTransition
    from launch_ros.events.lifecycle import StateTransition
    from lifecycle_msgs.msg import TransitionEvent

    module, context = load("online_map"), launch.LaunchContext()
    for argument in module.declare_arguments():
        context.launch_configurations[argument.name] = ""
    switches = ("respawn", "rviz", "bag_loop", "bag_start_paused", "exit_on_bag_end")
    file, bag = tmp_path / "parameters.yaml", tmp_path / "drive.mcap"
    file.write_text("/car/online_map: {ros__parameters: {use_sim_time: false}}\n")
    bag.write_bytes(2 * b"\x89MCAP0\r\n")
    given = {"params_file": str(file), "bag": str(bag), "bag_rate": "1.0", "log_level": "info"}
    context.launch_configurations.update({**dict.fromkeys(switches, "false"), **given})
    context.launch_configurations["ros_namespace"] = "/car"  # as an including file pushes it
    entities = module.start(context)
    [node] = (entity for entity in entities if isinstance(entity, LifecycleNode))
    handlers = [e.event_handler for e in entities if isinstance(e, launch.actions.RegisterEventHandler)]
    [handler] = (handler for handler in handlers if isinstance(handler, OnStateTransition))
    context.register_event_handler(handler)
    message = TransitionEvent()
    message.start_state.label, message.goal_state.label = "activating", "active"
    event = StateTransition(action=node, msg=message)
    assert handler.matches(event)
    [player_] = handler.handle(event, context)
    assert isinstance(player_, launch.actions.ExecuteProcess)
    with pytest.raises(ValueError):
        context.unregister_event_handler(handler)  # it has gone already
