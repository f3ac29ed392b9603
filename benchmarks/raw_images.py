"""Raw images through ROS: how many of six cameras' 1600 x 900 images at 12 Hz (311 MB/s) the node gets and maps.

A process publishes the images of a bag decoded, on its schedule, with its CameraInfo and TF; the node hears them with
`image_transport: raw`, once with each setting of Fast DDS. What was sent and not received the transport lost; what was
received and not mapped the node's report names.

Run: python benchmarks/raw_images.py out/demo/drive.mcap [--rates 1 0.5]
"""

import argparse
import json
import os
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from measuring import figures
from node_process import HERE, graph_environment, qos_of, running_node, topics_to_play
from rich.console import Console

from hdmap_ros.bag.mcap import open_bag
from hdmap_ros.message_types import graph_types

PROFILE = HERE / "config" / "fastdds_large_images.xml"
TRANSPORTS: dict[str, dict[str, str]] = {
    "Fast DDS as it comes": {},
    "LARGE_DATA": {"FASTDDS_BUILTIN_TRANSPORTS": "LARGE_DATA"},
    "the profile": {f"{name}_DEFAULT_PROFILES_FILE": str(PROFILE) for name in ("FASTRTPS", "FASTDDS")},
}
COMPRESSED = "/compressed"
SETTLE_S = 3.0


def publish(bag: Path, rate: float) -> None:
    """Plays a bag with its images decoded; says how many it sent, and how far it fell behind its schedule."""
    import rclpy

    rclpy.init()
    node, types = rclpy.create_node("raw_cameras"), graph_types()
    with open_bag(bag) as reader:
        kinds = topics_to_play(reader)
        pictures = {topic: _serialised(reader, topic) for topic in kinds if topic.endswith(COMPRESSED)}
        publishers = {}
        for topic, kind in kinds.items():
            raw = topic.removesuffix(COMPRESSED), "sensor_msgs/msg/Image" if topic in pictures else kind
            qos = 10 if topic in pictures else qos_of(topic)
            publishers[topic] = node.create_publisher(types.get(raw[1]), raw[0], qos)
        while not all(publishers[topic].get_subscription_count() for topic in pictures):
            time.sleep(0.05)
        for topic, _, data in reader.raw(lambda topic: topic == "/tf_static"):
            publishers[topic].publish(data)
        time.sleep(SETTLE_S)
        sent, late_s, begin_s, cpu_s = 0, 0.0, time.monotonic(), time.process_time()
        for topic, log_ns, data in reader.raw(lambda topic: topic in publishers and topic != "/tf_static"):
            due_s = begin_s + (log_ns - reader.start_ns) * 1e-9 / rate
            time.sleep(max(0.0, due_s - time.monotonic()))
            if topic in pictures:
                late_s = max(late_s, time.monotonic() - due_s)
                picture = pictures[topic][sent // len(pictures) % len(pictures[topic])]
                picture[4:12] = data[4:12]  # the stamp, behind CDR's own header
                data, sent = bytes(picture), sent + 1
            publishers[topic].publish(data)
        seconds = time.monotonic() - begin_s
        time.sleep(1.0)
    report = {"sent": sent, "late_ms": 1e3 * late_s, "cores": (time.process_time() - cpu_s) / seconds}
    print(json.dumps(report), flush=True)


def _serialised(reader: Any, topic: str) -> list[bytearray]:
    """A camera's first two images as raw messages in CDR."""
    from rclpy.serialization import serialize_message

    types, found = graph_types(), []
    for _, _, message in reader.messages(lambda name: name == topic):
        pixels = cv2.imdecode(np.frombuffer(message.data, np.uint8), cv2.IMREAD_COLOR)
        assert pixels is not None
        height, width = pixels.shape[:2]
        image = types.get("sensor_msgs/msg/Image")(
            header=types.header(0, message.header.frame_id), height=height, width=width, encoding="bgr8"
        )
        image.step, image.data = 3 * width, types.octets(pixels.tobytes())
        found.append(bytearray(serialize_message(image)))
        if len(found) == 2:
            break
    assert struct.unpack_from("<iI", found[0], 4) == (0, 0)
    return found


def drive(bag: Path, rate: float, settings: dict[str, str], number: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """One play; what the publisher says, and the node's report with the cores that its process took."""
    environment = graph_environment(20 + (os.getpid() + number) % 80, **settings)
    sender = [sys.executable, __file__, str(bag), "--publish", str(rate)]
    piped: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        with running_node(environment, report, image_transport="raw"):
            done = subprocess.run(sender, env=environment, check=True, timeout=300, **piped)
        return json.loads(done.stdout.splitlines()[-1]), json.loads(report.read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bag", type=Path, help="a recording such as make demo's drive.mcap")
    parser.add_argument("--rates", type=float, nargs="+", default=[1.0], help="speeds of playing")
    parser.add_argument("--publish", type=float, default=0.0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.publish:
        publish(arguments.bag, arguments.publish)
        return
    columns = ("transport", "speed", "sent", "received", "sets", "mapped", "dropped by the node", "since last image")
    table = figures("Raw bgr8 images of six cameras", *columns, "sender late, ms")
    for rate in arguments.rates:
        for number, (name, settings) in enumerate(TRANSPORTS.items()):
            sender, node = drive(arguments.bag.resolve(), rate, settings, number)
            dropped = {reason: count for reason, count in node["dropped"].items() if count}
            if incomplete := node["synchroniser"]["incomplete"]:
                dropped["incomplete"] = incomplete
            latency = node["latency_ms"].get("since_last_image")
            table.add_row(
                name,
                f"{rate:g}",
                str(sender["sent"]),
                str(sum(node["images"].values())),
                str(node["sets"]),
                str(node["published"]),
                ", ".join(f"{count} {reason}" for reason, count in dropped.items()),
                f"{latency['p50']:.0f}, {latency['p95']:.0f} ms" if latency else "",
                f"{sender['late_ms']:.0f}",
            )
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
