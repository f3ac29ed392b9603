"""What the benchmarks share that play to the node, a process of its own, in a ROS graph that nobody else hears."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hdmap_ros.bag.mcap import BagReader

HERE = Path(__file__).resolve().parents[1]


def graph_environment(domain: int, **more: str) -> dict[str, str]:
    """Of the processes of one graph: this process's, one thread for each of their libraries, and what else is said."""
    kept = {name: value for name, value in os.environ.items() if name != "_ROS_WHEELS_BOOTSTRAP_COMPLETE"}
    graph = {"ROS_DOMAIN_ID": str(domain), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    return kept | graph | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE)} | more


@contextmanager
def running_node(environment: dict[str, str], report: Path, **parameters: str) -> Iterator[subprocess.Popen[bytes]]:
    """The node, whether anybody listens or not; ended by Ctrl-C, when it writes its report."""
    values = {"lazy": "false", "model.threads": 1, "report_file": report, **parameters}
    overrides = [word for name, value in values.items() for word in ("-p", f"{name}:={value}")]
    command = [sys.executable, "-m", "hdmap_ros.online_map_node", "--ros-args", *overrides]
    node = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield node
    finally:
        node.send_signal(signal.SIGINT)
        node.wait(30)


def topics_to_play(reader: BagReader) -> dict[str, str]:
    """The kinds of the bag's topics of cameras and poses."""
    return {topic: kind for topic, kind in reader.topics.items() if "/cam_" in topic or topic.startswith("/tf")}


def qos_of(topic: str) -> Any:
    """Latched for /tf_static."""
    from rclpy.qos import DurabilityPolicy, QoSProfile

    static = topic == "/tf_static"
    return QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL if static else DurabilityPolicy.VOLATILE)
