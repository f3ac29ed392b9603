"""Drives a synthetic town through the real ROS 2 node and leaves a picture of the map: `make demo`.

Four processes in one ROS graph: the player publishes the bag, the node maps, the recorder keeps what it publishes, and
this one waits, scores and draws. Everything lands in the output folder; nothing is faked, and on a slow machine sets
are dropped, which the table says.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from hdmap_core.datasets.nuscenes import CAMERAS, NuScenesDataset, Scene, SensorFrame
from hdmap_core.datasets.nuscenes.vector_map import CLASSES
from hdmap_core.elements import MapElement
from hdmap_core.errors import HdmapError
from hdmap_core.geometry import CameraRig, se3
from hdmap_core.image_decoding import decode_image
from hdmap_core.inference import default_weights, load_predictor
from hdmap_core.metrics.chamfer_ap import ChamferScore, chamfer_ap
from hdmap_core.metrics.report import score_json, score_table
from hdmap_core.observation import Observation
from hdmap_core.viz import draw_map, write_picture
from hdmap_ros.bag.mcap import open_bag
from hdmap_ros.conversions import elements_from_message

ELEMENTS, MARKERS, INFO = (f"/online_map/output/{name}" for name in ("map_elements", "markers", "model_info"))
RECORDED = (
    f"{ELEMENTS}:hdmap_ros/msg/MapElementArray",
    f"{MARKERS}:visualization_msgs/msg/MarkerArray",
    f"{INFO}:hdmap_ros/msg/MapModelInfo",
)
console = Console()


class DemoError(HdmapError):
    """A process of the demo failed."""


def main() -> None:
    """Parses the command line and runs the steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/demo"), help="folder for pictures, bags and report")
    parser.add_argument("--rate", type=float, default=1.0, help="speed of the player; 0.5 gives a slow CPU time")
    arguments = parser.parse_args()
    try:
        run(arguments.out, arguments.rate)
    except HdmapError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def run(out: Path, rate: float) -> None:
    """World, bag, drive, score, picture, report."""
    weights = default_weights()
    world = out / "world"
    step(f"a synthetic town and a drive through it → {world}")
    call("hdmap_core", "synth", str(world), "--preset", "demo")
    dataset = NuScenesDataset(world)
    scene = dataset.scenes[0]
    drive, result = out / "drive.mcap", out / "map.mcap"
    step(f"the drive as a bag → {drive}")
    call("hdmap_core", "bag", "write", str(world), "--scene", scene.name, "-o", str(drive))
    step(f"player → node → recorder, real time x {rate:g} → {result}")
    node = drive_through_node(drive, result, out, weights, rate)
    step("scoring and drawing")
    grid = load_predictor(weights, "cpu").info.grid
    published = read_published(result)
    truth = {stamp: truth_at(dataset, scene, stamp) for stamp in published}
    score = chamfer_ap(
        {str(stamp): elements for stamp, elements in published.items()},
        {str(stamp): elements for stamp, elements in truth.items()},
    )
    stamp = max(truth, key=lambda key: richness(truth[key]))
    facts = picture_facts(node, score)
    observation = observation_at(dataset, scene, stamp)
    title = "hdmap_ros: six cameras in, a vectorised map out"
    write_picture(out / "map.png", draw_map(observation, published[stamp], truth[stamp], grid, title, facts))
    report = {"node": node, "chamfer_ap": score_json(score), "split": "demo (a town never trained on)"}
    (out / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print_report(node, score, out)


def step(text: str) -> None:
    """Announces a step."""
    console.print(f"[bold cyan]▸[/] {text}")


def call(module: str, *arguments: str) -> None:
    """Runs a verb of the command line as a user would."""
    command = [sys.executable, "-m", module, *arguments]
    if subprocess.run(command, check=False).returncode:
        raise DemoError(f"`hdmap {' '.join(arguments)}` failed; its own message stands above")


def drive_through_node(drive: Path, result: Path, out: Path, weights: Path, rate: float) -> dict:
    """Plays the bag through the node while a recorder listens; returns the node's own report."""
    environment = {k: v for k, v in os.environ.items() if k != "_ROS_WHEELS_BOOTSTRAP_COMPLETE"}
    environment |= {"ROS_DOMAIN_ID": str(20 + os.getpid() % 80), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    report = out / "node.json"
    report.unlink(missing_ok=True)
    logs = {name: (out / f"{name}.log").open("w") for name in ("node", "recorder")}

    def start(name: str, *arguments: str) -> subprocess.Popen:
        command = [sys.executable, "-m", *arguments]
        return subprocess.Popen(command, env=environment, stdout=logs[name], stderr=subprocess.STDOUT)

    recorder = start("recorder", "hdmap_ros.bag.recorder", "-o", str(result), *RECORDED)
    parameters = {"model.weights": weights, "model.device": "auto", "report_file": report, "model.threads": 1}
    overrides = [word for name, value in parameters.items() for word in ("-p", f"{name}:={value}")]
    node = start("node", "hdmap_ros.online_map_node", "--ros-args", *overrides)
    try:
        player = subprocess.run(
            [sys.executable, "-m", "hdmap_ros.bag.player", str(drive), "--rate", str(rate), "--wait", "60"],
            env=environment,
            check=False,
        )
        if player.returncode:
            raise DemoError(f"the player failed; see also {out / 'node.log'}")
        time.sleep(2.0)  # the last set is still on its way
    finally:
        for process in (node, recorder):
            process.send_signal(signal.SIGINT)
        codes = [process.wait(timeout=30) for process in (node, recorder)]
        for log in logs.values():
            log.close()
    if any(codes) or not report.is_file():
        raise DemoError(f"node or recorder failed with exit codes {codes}; see node.log and recorder.log in {out}")
    return json.loads(report.read_text(encoding="utf-8"))


def read_published(bag: Path) -> dict[int, list[MapElement]]:
    """Stamp in nanoseconds → published elements."""
    with open_bag(bag) as reader:
        frames = {stamp: elements_from_message(m) for _, stamp, m in reader.messages(lambda topic: topic == ELEMENTS)}
    if not frames:
        raise DemoError(f"the node published nothing; see {bag.parent / 'node.log'}")
    return frames


def anchor_frame(dataset: NuScenesDataset, scene: Scene, stamp_ns: int) -> SensorFrame:
    """The CAM_FRONT image of a stamp, whose pose is the pose of the published map."""
    frames = dataset.tables.sensor_frames(scene, ["CAM_FRONT"])
    return min(frames, key=lambda frame: abs(frame.stamp_ns - stamp_ns))


def truth_at(dataset: NuScenesDataset, scene: Scene, stamp_ns: int) -> list[MapElement]:
    """Ground truth around the car at a stamp."""
    return dataset.vector_map(scene.location).elements(anchor_frame(dataset, scene, stamp_ns).map_from_ego)


def observation_at(dataset: NuScenesDataset, scene: Scene, stamp_ns: int) -> Observation:
    """The six images of the firing cycle around a stamp, for the picture."""
    anchor = anchor_frame(dataset, scene, stamp_ns)
    frames = dataset.tables.sensor_frames(scene, CAMERAS)
    nearest = [
        min((f for f in frames if f.channel == name), key=lambda frame: abs(frame.stamp_ns - stamp_ns))
        for name in CAMERAS
    ]
    ego_from_map = se3.inverse(anchor.map_from_ego)
    rig = CameraRig.from_arrays(
        CAMERAS,
        np.array([frame.intrinsics for frame in nearest]),
        [ego_from_map @ frame.map_from_ego @ frame.ego_from_sensor for frame in nearest],
        nearest[0].image_size,
    )
    images = tuple(decode_image(frame.path.read_bytes(), str(frame.path)) for frame in nearest)
    return Observation(images=images, rig=rig, stamp_ns=stamp_ns, token=str(stamp_ns))


def richness(elements: list[MapElement]) -> tuple[int, int]:
    """How much there is to see: elements of the rarest class, then elements in all."""
    counts = [sum(element.label is label for element in elements) for label in CLASSES]
    return min(counts), len(elements)


def picture_facts(node: dict, score: ChamferScore) -> list[str]:
    """What stands beside the picture."""
    latency = node["latency_ms"].get("end_to_end") or node["latency_ms"].get("total") or {}
    classes = [f"AP {label.value.replace('_', ' ')} {result.mean_ap:.2f}" for label, result in score.classes.items()]
    return [
        f"this drive: mAP {score.mean_ap:.2f} (Chamfer 0.5/1.0/1.5 m)",
        ", ".join(classes),
        f"{node['published']} of {node['sets']} image sets mapped, {node['rate_hz']:.1f} Hz",
        *([f"latency p50 {latency['p50']:.0f} ms, p95 {latency['p95']:.0f} ms"] if latency else []),
        node["model_id"],
    ]


def print_report(node: dict, score: ChamferScore, out: Path) -> None:
    """The report as tables, and where the picture is."""
    frames = Table(title="frames")
    for column in ("image sets", "mapped", *node["dropped"], "rate"):
        frames.add_column(column, justify="right")
    rate = f"{node['rate_hz']:.2f} Hz"
    frames.add_row(str(node["sets"]), str(node["published"]), *map(str, node["dropped"].values()), rate)
    console.print(frames)
    latency = Table(title="latency, ms")
    columns = next(iter(node["latency_ms"].values()), {})
    for column in ("stage", *columns):
        latency.add_column(column, justify="left" if column == "stage" else "right")
    for stage, numbers in node["latency_ms"].items():
        latency.add_row(stage, *(f"{number:.1f}" for number in numbers.values()))
    console.print(latency)
    console.print(score_table(score, "published map against ground truth"))
    console.print(f"[bold green]✓[/] {out / 'map.png'}")


if __name__ == "__main__":
    main()
