"""Records topics into one .mcap: `python -m hdmap_ros.bag.recorder -o map.mcap /topic:package/msg/Type ...`.

For machines whose ROS has no rosbag2 (the ROS wheels). Ends on SIGINT or SIGTERM, or when nothing has come for a
while, and then finishes the file. The log time is the header's stamp, so that input and output bags share one time
line; `time_line` says when it is not. On exit one line of JSON says what was recorded.
"""

import json
import struct
import sys
import time
from pathlib import Path
from typing import Annotated, Any

from hdmap_core.required_packages import exit_without_ros_or

if __name__ == "__main__":  # ahead of the imports that would end in a traceback
    exit_without_ros_or(("numpy", "rosbags", "typer"))

import rclpy
import typer
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions

from hdmap_core.errors import ConfigError, HdmapError
from hdmap_ros import stop_signals
from hdmap_ros.bag.mcap import BagWriter, write_mcap
from hdmap_ros.bag.time_line import TimeLine
from hdmap_ros.message_types import graph_types

_DEPTH = 100


def record(output: str | Path, topics: dict[str, str], *, idle_s: float = 0.0) -> dict[str, Any]:
    """Records until a signal, or until `idle_s` seconds have passed without a message after the first.

    Args:
        output: file ending in .mcap; appears when recording ends.
        topics: topic -> message type.
        idle_s: 0: only a signal ends it.

    Returns:
        Counts per topic, seconds.

    Raises:
        OutputError: if the file cannot be written.
        MissingDependencyError: if a type is not installed.
    """
    stopping = stop_signals.note()
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    node = Node("hdmap_bag_recorder")
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    begin = time.monotonic()
    try:
        with write_mcap(output) as bag:
            sink = _Sink(bag)
            taps = [_Tap(node, sink, topic, kind) for topic, kind in topics.items()]
            while not stopping:
                for tap in taps:
                    tap.match()
                executor.spin_once(timeout_sec=0.1)
                last = sink.last_arrival
                if idle_s and last and time.monotonic() - last > idle_s:
                    break
            sink.finish()
            counts = dict(bag.counts)
        return {"recorded": counts, "seconds": round(time.monotonic() - begin, 3), "file": str(output)}
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown()


class _Sink:
    """Where all topics go: on one time line into the bag."""

    def __init__(self, bag: BagWriter) -> None:
        self.bag = bag
        self.last_arrival = 0.0
        self._time_line = TimeLine()

    def store(self, topic: str, kind: str, data: bytes, latched: bool) -> None:
        self.last_arrival = time.monotonic()
        stamp_ns = stamp_of(kind, data)
        for log_ns, entry in self._time_line.add((topic, data), len(data), stamp_ns, time.time_ns(), latched):
            self.bag.write(entry[0], log_ns, entry[1])

    def finish(self) -> None:
        for log_ns, (topic, data) in self._time_line.rest():
            self.bag.write(topic, log_ns, data)


class _Tap:
    """One topic: listens once a publisher is there, as its QoS allows."""

    def __init__(self, node: Node, sink: _Sink, topic: str, kind: str) -> None:
        self._node = node
        self._sink = sink
        self._topic = topic
        self._kind = kind
        self._type = graph_types().get(kind)
        self._subscription: Any = None
        self._latched = False
        sink.bag.declare(topic, kind, depth=_DEPTH)

    def match(self) -> None:
        if self._subscription is not None:
            return
        offers = [info.qos_profile for info in self._node.get_publishers_info_by_topic(self._topic)]
        if not offers:
            return
        reliable = all(offer.reliability == ReliabilityPolicy.RELIABLE for offer in offers)
        self._latched = all(offer.durability == DurabilityPolicy.TRANSIENT_LOCAL for offer in offers)
        qos = QoSProfile(
            depth=_DEPTH,
            reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
            durability=DurabilityPolicy.TRANSIENT_LOCAL if self._latched else DurabilityPolicy.VOLATILE,
        )
        self._subscription = self._node.create_subscription(self._type, self._topic, self._store, qos, raw=True)

    def _store(self, data: bytes) -> None:
        self._sink.store(self._topic, self._kind, bytes(data), self._latched)


def stamp_of(kind: str, data: bytes) -> int:
    """The header's stamp in CDR bytes, nanoseconds; 0 for types that do not begin with a header.

    A MarkerArray has the stamp of its first marker, which follows the length of the sequence.
    """
    order = "<" if data[1] & 1 else ">"
    if kind == "visualization_msgs/msg/MarkerArray":
        if len(data) < 16 or struct.unpack_from(order + "I", data, 4)[0] == 0:
            return 0
        sec, nanosec = struct.unpack_from(order + "iI", data, 8)
    elif _begins_with_header(kind):
        sec, nanosec = struct.unpack_from(order + "iI", data, 4)
    else:
        return 0
    return sec * 1_000_000_000 + nanosec


def _begins_with_header(kind: str) -> bool:
    fields = graph_types().get(kind).get_fields_and_field_types()
    return next(iter(fields.values()), "") == "std_msgs/Header"


def _command(
    topics: Annotated[list[str], typer.Argument(help="/topic:package/msg/Type")],
    out: Annotated[Path, typer.Option("-o", "--out", help="File ending in .mcap")] = Path("map.mcap"),
    idle: Annotated[float, typer.Option(min=0.0, help="End after so many seconds without a message; 0: never")] = 0.0,
) -> None:
    """Record topics until SIGINT or SIGTERM."""
    try:
        pairs = dict(_topic_and_type(entry) for entry in topics)
        print(json.dumps(record(out, pairs, idle_s=idle)))
    except HdmapError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def _topic_and_type(entry: str) -> tuple[str, str]:
    topic, _, kind = entry.partition(":")
    if not topic.startswith("/") or kind.count("/") != 2:
        raise ConfigError(f"{entry!r}: expected /topic:package/msg/Type")
    return topic, kind


if __name__ == "__main__":
    typer.run(_command)
