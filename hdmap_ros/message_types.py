"""The classes of ROS messages, from a ROS graph or from a bag's type store, behind one face.

rclpy's generated classes and rosbags' dataclasses hold the same fields; they differ in how float arrays are given.
Nothing here imports rclpy: the generated message classes need only the type support.
"""

import importlib
from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hdmap_core.errors import MissingDependencyError
from hdmap_core.files.shipped import package_folder
from hdmap_core.required_packages import missing_packages_named
from hdmap_ros.stamps import ns_to_parts

OUR_MESSAGES = ("MapElement", "MapElementArray", "MapModelInfo")


@dataclass(frozen=True)
class MessageTypes:
    """Access to message classes.

    Attributes:
        get: "package/msg/Name" -> class.
        floats: makes the value of a float32[] field.
        octets: makes the value of a uint8[] field.
        signed: makes the value of an int8[] field.
    """

    get: Callable[[str], Any]
    floats: Callable[[Iterable[float]], Any]
    octets: Callable[[bytes], Any]
    signed: Callable[[bytes], Any]

    def header(self, stamp_ns: int, frame_id: str) -> Any:
        """A std_msgs/Header."""
        return self.get("std_msgs/msg/Header")(stamp=self.time(stamp_ns), frame_id=frame_id)

    def time(self, stamp_ns: int) -> Any:
        """A builtin_interfaces/Time."""
        return self.get("builtin_interfaces/msg/Time")(**ns_to_parts(stamp_ns))


def graph_types() -> MessageTypes:
    """The generated classes of the ROS that is installed or sourced.

    Raises:
        MissingDependencyError: when a class is asked for whose package is not there.
    """
    return MessageTypes(
        _generated_class,
        lambda values: array("f", values),
        lambda data: array("B", data),
        lambda data: array("b", data),
    )


def _generated_class(name: str) -> Any:
    package, kind, short = name.split("/")
    try:
        return getattr(importlib.import_module(f"{package}.{kind}"), short)
    except (ImportError, AttributeError) as error:
        raise MissingDependencyError(
            f"the ROS message {name} is not installed ({error}); run `make setup` or source a ROS 2 that has {package}"
        ) from None


def bag_types() -> tuple[MessageTypes, Any]:
    """Rosbags' dataclasses and the type store that (de)serialises them, our own messages registered.

    Raises:
        MissingDependencyError: if rosbags is not installed.
    """
    with missing_packages_named():
        from rosbags.typesys import Stores, get_types_from_msg, get_typestore
    store = get_typestore(Stores.ROS2_JAZZY)
    folder = message_folder()
    definitions: dict[str, Any] = {}
    for name in OUR_MESSAGES:
        definitions.update(get_types_from_msg((folder / f"{name}.msg").read_text(), f"hdmap_ros/msg/{name}"))
    store.register(definitions)
    types = MessageTypes(
        lambda name: store.types[name],
        lambda values: np.array(list(values), dtype=np.float32),
        lambda data: np.frombuffer(data, np.uint8),
        lambda data: np.frombuffer(data, np.int8),
    )
    return types, store


def message_folder() -> Path:
    """Where the .msg files of hdmap_ros lie: the checkout, or an installed ROS package.

    Raises:
        MissingDependencyError: if they are nowhere.
    """
    folder = package_folder("msg")
    if folder is None:
        raise MissingDependencyError(
            "the .msg files of hdmap_ros are not found; run from a checkout or source its install"
        )
    return folder


def xyz(values: Iterable[float]) -> dict[str, float]:
    """The fields `x`, `y` and `z` of a point or vector."""
    return dict(zip("xyz", map(float, values), strict=True))
