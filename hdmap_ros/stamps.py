"""ROS times and nanoseconds."""

from typing import Any


def stamp_to_ns(stamp: Any) -> int:
    """Nanoseconds of a builtin_interfaces/Time (of rclpy or of a bag)."""
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def ns_to_parts(stamp_ns: int) -> dict[str, int]:
    """The fields `sec` and `nanosec` of a builtin_interfaces/Time."""
    sec, nanosec = divmod(stamp_ns, 1_000_000_000)
    return {"sec": sec, "nanosec": nanosec}
