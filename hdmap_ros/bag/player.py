"""Plays a bag into the ROS graph at its own pace: `python -m hdmap_ros.bag.player drive.mcap`.

For machines whose ROS has no rosbag2 (the ROS wheels). The recorded CDR bytes are published as they are, with the
recorded QoS. On exit one line of JSON says what was played.
"""

import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any

from hdmap_core.required_packages import exit_without_ros_or

if __name__ == "__main__":  # ahead of the imports that would end in a traceback
    exit_without_ros_or(("numpy", "rosbags", "typer"))

import rclpy
import typer
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions

from hdmap_core.errors import BagError, HdmapError, MissingDependencyError
from hdmap_ros import stop_signals
from hdmap_ros.bag.mcap import BagReader, open_bag
from hdmap_ros.message_types import graph_types

_IMAGES = ("sensor_msgs/msg/CompressedImage", "sensor_msgs/msg/Image")
_TF_STATIC = "/tf_static"
_ACK_S = 2.0


def play(
    path: str | Path,
    *,
    rate: float = 1.0,
    wait_s: float = 30.0,
    settle_s: float = 1.0,
    clock_hz: float = 0.0,
    recover: bool = False,
) -> dict[str, Any]:
    """Plays a bag from start to end, or until SIGINT.

    Args:
        path: bag.
        rate: speed; 2 is twice as fast.
        wait_s: how long to wait until somebody listens to every image topic; 0: begin at once.
        settle_s: pause between that and the first image; a listener may still change its subscription.
        clock_hz: publish /clock this often; 0: never.
        recover: play the whole messages of a bag that is cut off or damaged.

    Returns:
        Counts per topic, seconds, the largest delay behind the schedule.

    Raises:
        BagError: if the bag cannot be read, or nobody listens in time.
    """
    stopping = stop_signals.note()
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    node = Node("hdmap_bag_player")
    try:
        with open_bag(path, recover) as bag:
            for sentence in bag.damage:
                node.get_logger().warning(sentence)
            publishers = _publishers(node, bag)
            for topic, _, data in bag.raw(lambda topic: topic == _TF_STATIC):
                publishers[topic].publish(data)
            _wait_for_listeners(bag, publishers, wait_s, settle_s, stopping)
            return _play(node, bag, publishers, rate, clock_hz, stopping)
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


def _publishers(node: Node, bag: BagReader) -> dict[str, Publisher]:
    types, publishers = graph_types(), {}
    for topic, kind in bag.topics.items():
        try:
            publishers[topic] = node.create_publisher(types.get(kind), topic, _qos(bag.offered_qos(topic)))
        except MissingDependencyError as error:
            node.get_logger().warning(f"{topic} is not played: {error}")
    if not publishers:
        raise BagError(f"{bag.path}: none of its message types is installed")
    return publishers


def _qos(recorded: Any) -> QoSProfile:
    """The recorded profile; rosbag2's default, reliable with depth 10, where there is none."""
    if recorded is None:
        return QoSProfile(depth=10)
    return QoSProfile(
        depth=max(1, recorded.depth),
        reliability=(
            ReliabilityPolicy.BEST_EFFORT if recorded.reliability.name == "BEST_EFFORT" else ReliabilityPolicy.RELIABLE
        ),
        durability=(
            DurabilityPolicy.TRANSIENT_LOCAL
            if recorded.durability.name == "TRANSIENT_LOCAL"
            else DurabilityPolicy.VOLATILE
        ),
    )


def _wait_for_listeners(
    bag: BagReader, publishers: dict[str, Publisher], wait_s: float, settle_s: float, stopping: list[int]
) -> None:
    images = [topic for topic in publishers if bag.topics[topic] in _IMAGES]
    if wait_s <= 0 or not images:
        return
    end = time.monotonic() + wait_s
    while not stopping:
        silent = [topic for topic in images if not publishers[topic].get_subscription_count()]
        if not silent:
            time.sleep(settle_s)
            return
        if time.monotonic() > end:
            raise BagError(f"nobody listened to {', '.join(silent)} within {wait_s:.0f} s; is the node active?")
        time.sleep(0.05)


def _play(
    node: Node, bag: BagReader, publishers: dict[str, Publisher], rate: float, clock_hz: float, stopping: list[int]
) -> dict[str, Any]:
    counts = dict.fromkeys(publishers, 0)
    clock = node.create_publisher(graph_types().get("rosgraph_msgs/msg/Clock"), "/clock", 1) if clock_hz else None
    begin, next_clock_ns, late_s = time.monotonic(), bag.start_ns, 0.0

    def sleep_until(log_ns: int) -> float:
        """Seconds behind the schedule."""
        remaining = begin + (log_ns - bag.start_ns) * 1e-9 / rate - time.monotonic()
        if remaining > 0:
            time.sleep(remaining)
        return -remaining

    for topic, log_ns, data in bag.raw(lambda topic: topic in publishers and topic != _TF_STATIC):
        while clock is not None and next_clock_ns <= log_ns:
            sleep_until(next_clock_ns)
            clock.publish(_clock_message(next_clock_ns))
            next_clock_ns += round(1e9 * rate / clock_hz)
        late_s = max(late_s, sleep_until(log_ns))
        if stopping:
            break
        publishers[topic].publish(data)
        counts[topic] += 1
    deadline = time.monotonic() + _ACK_S
    for publisher in publishers.values():
        publisher.wait_for_all_acked(Duration(seconds=max(0.0, deadline - time.monotonic())))
    counts[_TF_STATIC] = bag.counts.get(_TF_STATIC, 0)
    return {
        "played": {topic: count for topic, count in counts.items() if count},
        "seconds": round(time.monotonic() - begin, 3),
        "late_max_ms": round(late_s * 1e3, 3),
        "interrupted": bool(stopping),
    }


def _clock_message(stamp_ns: int) -> Any:
    types = graph_types()
    return types.get("rosgraph_msgs/msg/Clock")(clock=types.time(stamp_ns))


def _command(
    bag: Annotated[Path, typer.Argument(help="An .mcap file or a rosbag2 folder")],
    rate: Annotated[float, typer.Option(min=0.01, help="Speed; 2 is twice as fast")] = 1.0,
    wait: Annotated[
        float, typer.Option(min=0.0, help="Seconds to wait for listeners on all images; 0: begin at once")
    ] = 30,
    settle: Annotated[float, typer.Option(min=0.0, help="Pause between that and the first message, seconds")] = 1.0,
    clock: Annotated[float, typer.Option(min=0.0, help="Publish /clock this often per second; 0: never")] = 0.0,
    recover: Annotated[bool, typer.Option("--recover", help="Play what is whole of a bag that is damaged")] = False,
) -> None:
    """Play a bag into the ROS graph."""
    try:
        print(json.dumps(play(bag, rate=rate, wait_s=wait, settle_s=settle, clock_hz=clock, recover=recover)))
    except HdmapError as error:
        print(f"error: {error}", file=sys.stderr)
        stop_signals.leave(2)
    stop_signals.leave(0)


if __name__ == "__main__":
    typer.run(_command)
