"""node_config's parameters as a ROS node declares and reads them."""

from collections.abc import Sequence
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor

from hdmap_core.errors import ConfigError
from hdmap_ros.bag.layouts import CameraTopics
from hdmap_ros.node_config import (
    CAMERA_PARAMETERS,
    PARAMETERS,
    OnlineMapConfig,
    ParameterSpec,
    camera_topics,
    check_projection,
    config_from_values,
)

_SPECS = {spec.name: spec for spec in PARAMETERS}


def declare_parameters(node: Any) -> None:
    """Declares all but those of single cameras."""
    for spec in PARAMETERS:
        node.declare_parameter(spec.name, *_declaration(spec))


def declare_cameras(node: Any, cameras: Sequence[str]) -> None:
    """Declares the cameras' own parameters, all strings, as far as they are not declared yet."""
    for camera in cameras:
        for name, description in _names(camera).items():
            if not node.has_parameter(name):
                node.declare_parameter(name, "", ParameterDescriptor(description=description))


def read_config(node: Any) -> OnlineMapConfig:
    """The declared parameters' values.

    Raises:
        ConfigError: see `config_from_values`.
    """
    return config_from_values({spec.name: node.get_parameter(spec.name).value for spec in PARAMETERS})


def read_topics(node: Any, config: OnlineMapConfig) -> dict[str, CameraTopics]:
    """Camera -> topics and frame, of parameters that are declared here where they are not yet."""
    declare_cameras(node, config.camera_names)
    values = {name: node.get_parameter(name).value for camera in config.camera_names for name in _names(camera)}
    return {camera: camera_topics(camera, values, config) for camera in config.camera_names}


def is_change(node: Any, parameter: Any) -> bool:
    """Whether setting a parameter would alter it."""
    if not node.has_parameter(parameter.name):
        return True
    known = node.get_parameter(parameter.name)
    return bool((known.type_, known.value) != (parameter.type_, parameter.value))


def refusal(name: str, value: Any, too_late: bool) -> str:
    """Why a parameter may not be set to a value; empty: it may.

    Args:
        name: of the ROS parameter; those that are not ours may be anything.
        value: the wanted one.
        too_late: whether the node has been configured with another value.
    """
    spec = _SPECS.get(name)
    try:
        if spec is not None:
            spec.check(value)
        elif name.startswith("cameras.") and name.endswith(".projection"):
            check_projection(name, value)
    except ConfigError as error:
        return str(error)
    is_fixed = not spec.live if spec is not None else name.startswith("cameras.")
    if is_fixed and too_late:
        return (
            f"parameter {name} is read when the node is configured; clean the node up first "
            "(ros2 lifecycle set NODE deactivate, then cleanup), set it, configure and activate again"
        )
    return ""


def _declaration(spec: ParameterSpec) -> tuple[Any, ParameterDescriptor]:
    """Default value and descriptor for `declare_parameter`; ROS itself then refuses wrong types and ranges."""
    descriptor = ParameterDescriptor(description=spec.description)
    if spec.choices:
        descriptor.additional_constraints = "one of " + ", ".join(spec.choices)
    if spec.limits and isinstance(spec.default, float):
        descriptor.floating_point_range = [FloatingPointRange(from_value=spec.limits[0], to_value=spec.limits[1])]
    elif spec.limits:
        low, high = (int(limit) for limit in spec.limits)
        descriptor.integer_range = [IntegerRange(from_value=low, to_value=high, step=1)]
    if isinstance(spec.default, tuple):
        return list(spec.default), descriptor
    return spec.default, descriptor


def _names(camera: str) -> dict[str, str]:
    """A camera's own parameters, and what each is for."""
    return {f"cameras.{camera}.{key}": description for key, description in CAMERA_PARAMETERS.items()}
