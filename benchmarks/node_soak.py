"""The node for twenty minutes at full rate: six JPEG cameras of 1600 x 900 at 12 Hz, the shipped student, one process.

Another process sends the drive of a bag over and over: its stamps go on in real time and its car drives on from where
it was, so that nothing jumps. Every ten seconds the node's memory, threads and open files are read. At the end every
cycle that was sent must be a map or have a named cause in the node's report, and the second half of the run may not
have grown by more than 10 MiB; else the exit code is 1.

Run: python benchmarks/node_soak.py out/demo/drive.mcap [--minutes 20] [--plot docs/results/node_soak.png]
"""

import argparse
import json
import os
import resource
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from node_process import graph_environment, qos_of, running_node, topics_to_play

from hdmap_core.geometry.se3 import rotation_from_quaternion, se3
from hdmap_ros.bag.mcap import open_bag
from hdmap_ros.bag.write import transform_message
from hdmap_ros.message_types import graph_types

EVERY_S = 10.0
SETTLE_S = 5.0
LIMIT_MIB = 10.0
TICK_NS = 50_000_000
"""Of the rig's clock; a round ends with the second tick after its last image."""


def read_drive(bag: Path) -> tuple[dict[str, str], list[tuple[int, str, Any]], bytes]:
    """Topics and kinds; (nanoseconds since the start, topic, message in CDR or pose) by time; /tf_static in CDR."""
    with open_bag(bag) as reader:
        kinds = topics_to_play(reader)
        static = next(data for _, _, data in reader.raw(lambda topic: topic == "/tf_static"))
        events: list[tuple[int, str, Any]] = [
            (log_ns - reader.start_ns, topic, bytearray(data))
            for topic, log_ns, data in reader.raw(lambda topic: topic in kinds and not topic.startswith("/tf"))
        ]
        for topic, log_ns, message in reader.messages(lambda topic: topic == "/tf"):
            (entry,) = message.transforms
            place, turn = entry.transform.translation, entry.transform.rotation
            rotation = rotation_from_quaternion([turn.w, turn.x, turn.y, turn.z])
            pose = se3(rotation, [place.x, place.y, place.z])
            events.append((log_ns - reader.start_ns, topic, (entry.header.frame_id, entry.child_frame_id, pose)))
    events.sort(key=lambda event: (event[0], event[1] != "/tf"))  # a pose before the image that needs it
    return kinds, events, static


def publish(bag: Path, minutes: float) -> None:
    """Sends the drive in rounds; says how much, and how far it fell behind its schedule."""
    import rclpy

    rclpy.init()
    node, types = rclpy.create_node("cameras"), graph_types()
    kinds, events, static = read_drive(bag)
    publishers = {topic: node.create_publisher(types.get(kind), topic, qos_of(topic)) for topic, kind in kinds.items()}
    publishers["/tf_static"].publish(static)
    cameras = [topic for topic in kinds if topic.endswith("/compressed")]
    while not all(publishers[topic].get_subscription_count() for topic in [*cameras, "/tf"]):
        time.sleep(0.05)
    time.sleep(SETTLE_S)
    poses = [content[2] for _, topic, content in events if topic == "/tf"]
    per_round, round_ns = poses[-1] @ np.linalg.inv(poses[0]), (events[-1][0] // TICK_NS + 2) * TICK_NS
    moved, sent, late_s = np.eye(4), dict.fromkeys(cameras, 0), 0.0
    begin_ns, begin_s, cpu_s = time.time_ns(), time.monotonic(), time.process_time()
    for number in range(max(1, round(60e9 * minutes / round_ns))):
        for offset_ns, topic, content in events:
            since_ns = number * round_ns + offset_ns
            wait_s = begin_s + since_ns * 1e-9 - time.monotonic()
            time.sleep(max(0.0, wait_s))
            stamp = divmod(begin_ns + since_ns, 1_000_000_000)
            if topic == "/tf":
                parent, child, pose = content
                stamped = transform_message(types, parent, child, begin_ns + since_ns, moved @ pose)
                publishers[topic].publish(types.get("tf2_msgs/msg/TFMessage")(transforms=[stamped]))
                continue
            struct.pack_into("<iI", content, 4, *stamp)  # behind CDR's own header
            publishers[topic].publish(bytes(content))
            if topic in sent:
                sent[topic] += 1
                late_s = max(late_s, -wait_s)
        moved = per_round @ moved
    seconds = time.monotonic() - begin_s
    cores = (time.process_time() - cpu_s) / seconds
    time.sleep(1.0)
    print(json.dumps({"sent": sent, "seconds": seconds, "late_ms": 1e3 * late_s, "cores": cores}), flush=True)


def held_by(process: int, since_s: float) -> dict[str, float]:
    """What a process holds now."""
    folder = Path(f"/proc/{process}")
    ticks = sum(map(int, (folder / "stat").read_text().rsplit(")", 1)[1].split()[11:13]))
    return {
        "seconds": round(time.monotonic() - since_s, 1),
        "mib": round(int((folder / "statm").read_text().split()[1]) * resource.getpagesize() / 2**20, 2),
        "threads": len([*(folder / "task").iterdir()]),
        "files": len([*(folder / "fd").iterdir()]),
        "cpu_s": ticks / os.sysconf("SC_CLK_TCK"),
    }


def soak(bag: Path, minutes: float) -> dict[str, Any]:
    """What was sent, what the node held all the time, and its report."""
    environment = graph_environment(101)
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, __file__, str(bag), "--publish", "--minutes", str(minutes)]
        with running_node(environment, report) as node:
            sender = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
            begin_s, held = time.monotonic(), []
            try:
                while sender.poll() is None and node.poll() is None:
                    time.sleep(EVERY_S)
                    held.append(held_by(node.pid, begin_s))
                    if len(held) % 6 == 0:
                        print(held[-1], f"load {os.getloadavg()[0]:.1f}", flush=True)
            finally:
                sender.terminate()
        assert sender.stdout is not None
        return {
            "sender": json.loads(sender.stdout.read().splitlines()[-1]),
            "held": held,
            "report": json.loads(report.read_text()),
        }


def draw(held: list[dict[str, float]], path: Path) -> None:
    """Memory and CPU over the run."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.2), layout="constrained")
    memory, cpu = figure.subplots(2, 1, sharex=True)
    minutes = np.array([entry["seconds"] for entry in held]) / 60
    memory.plot(minutes, [entry["mib"] for entry in held], color="#1f5f8b")
    memory.set(ylabel="memory, MiB", ylim=(0, 1.2 * max(entry["mib"] for entry in held)))
    cores = np.diff([entry["cpu_s"] for entry in held]) / np.diff([entry["seconds"] for entry in held])
    cpu.plot(minutes[1:], cores, color="#8b4a1f")
    cpu.set(ylabel="cores", xlabel="minutes", ylim=(0, 1.2 * cores.max()), xlim=(0, minutes[-1]))
    for axes in (memory, cpu):
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=80)


def main() -> int:
    """Runs it; says what became of every cycle."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bag", type=Path, help="a recording such as make demo's drive.mcap")
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--plot", type=Path, help="a .png of memory and CPU")
    parser.add_argument("--publish", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.publish:
        publish(arguments.bag, arguments.minutes)
        return 0
    result = soak(arguments.bag.resolve(), arguments.minutes)
    held, sender, report = result["held"], result["sender"], result["report"]
    if arguments.plot:
        draw(held, arguments.plot)
    cycles, received = max(sender["sent"].values()), sum(report["images"].values())
    dropped = {reason: count for reason, count in report["dropped"].items() if count}
    incomplete, sets = report["synchroniser"]["incomplete"], report["sets"]
    print(f"{sender['seconds']:.0f} s, {cycles} cycles, sender at most {sender['late_ms']:.0f} ms late")
    print(f"{received} of {sum(sender['sent'].values())} images received; {sets} sets, {incomplete} too incomplete")
    print(f"{report['published']} maps; dropped: {dropped or 'none'}; {report['synchroniser']}")
    print(f"latency: {report['latency_ms']}")
    # One cycle may end as a set and, with images that came late, as an incomplete one too.
    unexplained = max(0, cycles - sets - incomplete) + abs(sets - report["published"] - sum(dropped.values()))
    half = held[len(held) // 2 :]
    slope = np.polyfit([entry["seconds"] for entry in half], [entry["mib"] for entry in half], 1)[0]
    grown = float(slope * (half[-1]["seconds"] - half[0]["seconds"]))
    for key in ("mib", "threads", "files"):
        print(f"{key}: {held[0][key]:.0f} at first, {half[0][key]:.0f} half-way, {held[-1][key]:.0f} at the end")
    print(f"the second half {grown:+.2f} MiB; {unexplained} cycles without a cause")
    return int(grown > LIMIT_MIB or unexplained != 0)


if __name__ == "__main__":
    sys.exit(main())
