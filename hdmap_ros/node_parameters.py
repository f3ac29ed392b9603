"""node_config's parameters as a ROS node declares them."""

from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor

from hdmap_core.errors import ConfigError
from hdmap_ros.node_config import CAMERA_PARAMETERS, PARAMETERS, ParameterSpec

_SPECS = {spec.name: spec for spec in PARAMETERS}


def declaration(spec: ParameterSpec) -> tuple[Any, ParameterDescriptor]:
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


def camera_declarations(camera: str) -> dict[str, ParameterDescriptor]:
    """Names and descriptors of a camera's own parameters, all strings."""
    return {
        f"cameras.{camera}.{key}": ParameterDescriptor(description=description)
        for key, description in CAMERA_PARAMETERS.items()
    }


def refusal(name: str, value: Any, too_late: bool) -> str:
    """Why a parameter may not be set to a value; empty: it may.

    Args:
        name: of the ROS parameter; those that are not ours may be anything.
        value: the wanted one.
        too_late: whether the node has been configured with another value.
    """
    spec = _SPECS.get(name)
    if spec is not None:
        try:
            spec.check(value)
        except ConfigError as error:
            return str(error)
    is_fixed = not spec.live if spec is not None else name.startswith("cameras.")
    if is_fixed and too_late:
        return (
            f"parameter {name} is read when the node is configured; clean the node up first "
            "(ros2 lifecycle set NODE deactivate, then cleanup), set it, configure and activate again"
        )
    return ""
