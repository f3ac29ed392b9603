"""Stand-ins of `launch` and `launch_ros` that keep what they were made with, for machines without these packages."""

import sys
import types
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
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
    def perform(self, context: Any) -> str:
        return context.launch_configurations[self.args[0]]


class FindPackageShare(Recorded):
    def perform(self, context: Any) -> str:
        return str(ROOT)


class PathJoinSubstitution(Recorded):
    def perform(self, context: Any) -> str:
        return str(Path(*(p if isinstance(p, str) else p.perform(context) for p in self.args[0])))


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts them where the launch files import them from."""
    for module_name, class_names in MODULES.items():
        module = types.ModuleType(module_name)
        for class_name in class_names:
            setattr(module, class_name, type(class_name, (Recorded,), {}))
        monkeypatch.setitem(sys.modules, module_name, module)
    substitutions: Any = sys.modules["launch.substitutions"]
    substitutions.LaunchConfiguration, substitutions.PathJoinSubstitution = LaunchConfiguration, PathJoinSubstitution
    ros_substitutions: Any = sys.modules["launch_ros.substitutions"]
    ros_substitutions.FindPackageShare = FindPackageShare
