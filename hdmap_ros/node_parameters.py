"""node_config's parameters as a ROS node declares them."""

from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor

from hdmap_ros.node_config import ParameterSpec


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
