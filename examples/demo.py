"""Drives a synthetic town through the real ROS 2 node and leaves a picture of the map: `make demo`.

Four processes in one ROS graph: the player publishes the bag, the node maps, the recorder keeps what it publishes, and
this one waits, scores and draws. Everything lands in the output folder; nothing is faked, and on a slow machine sets
are dropped, which the table says. Ctrl-C ends all of them.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # the imports below take seconds, in which Ctrl-C would be a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from rich.console import Console
from rich.table import Table

from hdmap_core.datasets.nuscenes import CAMERAS, NuScenesDataset, Scene, SensorFrame
from hdmap_core.datasets.nuscenes.firing_cycles import observe_cycle
from hdmap_core.datasets.nuscenes.vector_map import CLASSES
from hdmap_core.elements import MapElement
from hdmap_core.errors import HdmapError
from hdmap_core.inference import default_weights, load_predictor
from hdmap_core.metrics.chamfer_ap import ChamferScore, chamfer_ap
from hdmap_core.metrics.report import score_json, score_table
from hdmap_core.observation import Observation
from hdmap_core.viz import draw_map, write_picture
from hdmap_ros.bag.mcap import open_bag
from hdmap_ros.conversions import elements_from_message

ELEMENTS, MARKERS, INFO = (f"/online_map/output/{name}" for name in ("map_elements", "markers", "model_info"))
NEXT = (
    ("source .venv/bin/activate", "so that the shell knows `hdmap`"),
    ("hdmap bag replay {out}/drive.mcap -o out/replay", "the same drive without a ROS graph, every image set"),
    ("hdmap predict hdmap_core/weights/student.safetensors {out}/world -o out/keyframe.png", "the map of one keyframe"),
    ("hdmap synth data/synth --preset tiny", "other towns, to train on: README, With data"),
)
RECORDED = (
    f"{ELEMENTS}:hdmap_ros/msg/MapElementArray",
    f"{MARKERS}:visualization_msgs/msg/MarkerArray",
    f"{INFO}:hdmap_ros/msg/MapModelInfo",
)
# Six JPEGs are more than Fast DDS's shared memory holds as it comes, and /tf falls behind: docs/ros.md, Large images.
PROFILE = Path(__file__).resolve().parents[1] / "config" / "fastdds_large_images.xml"
PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
STOPPING = (signal.SIGINT, signal.SIGTERM)
console = Console()
running: list[subprocess.Popen] = []


class DemoError(HdmapError):
    """A process of the demo failed."""


def main() -> None:
    """Parses the command line and runs the steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/demo"), help="folder for pictures, bags and report")
    parser.add_argument("--rate", type=float, default=1.0, help="speed of the player; 0.5 gives a slow CPU time")
    arguments = parser.parse_args()
    for number in STOPPING:
        signal.signal(number, stop)
    try:
        run(arguments.out, arguments.rate)
    except HdmapError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    finally:
        end_processes(running)


def stop(number: int, frame: object) -> None:
    """Ends everything on Ctrl-C or SIGTERM, whatever is going on, and says so in one line."""
    for again in STOPPING:
        signal.signal(again, signal.SIG_IGN)
    end_processes(running)
    print("\ndemo: stopped; run `make demo` again to begin anew", file=sys.stderr, flush=True)
    os._exit(128 + signal.SIGINT)  # no more words from libraries that would be torn down in the midst of their work


def start(command: list[str], **options: Any) -> subprocess.Popen:
    """A process in a session of its own: Ctrl-C reaches this one alone, which then ends the others in order.

    A signal that comes while the process is being made is answered once `running` knows it; else nobody would end it.
    """
    came: list[int] = []
    handlers = {number: signal.signal(number, lambda number, _: came.append(number)) for number in STOPPING}
    try:
        process = subprocess.Popen(command, start_new_session=True, **options)
        running.append(process)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if came:
        stop(came[0], None)
    return process


def end_processes(processes: list[subprocess.Popen], patience_s: float = 5.0) -> None:
    """SIGTERM to each process and its children, SIGKILL to those that are still there after `patience_s`."""
    for number, wait_s in ((signal.SIGTERM, patience_s), (signal.SIGKILL, 1.0)):
        for process in processes:
            if not has_ended(process):
                os.killpg(process.pid, number)
        deadline = time.monotonic() + wait_s
        while not all(map(has_ended, processes)) and time.monotonic() < deadline:
            time.sleep(0.02)


def has_ended(process: subprocess.Popen) -> bool:
    """Asks the system and not `poll`, whose lock the code that a signal interrupts may hold."""
    if process.returncode is not None:
        return True
    try:
        return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


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
    # Should Ctrl-C end its workers, multiprocessing's own helper would warn that it has to clean up after them.
    environment = {**os.environ, "PYTHONWARNINGS": "ignore:resource_tracker:UserWarning"}
    if start([sys.executable, "-m", module, *arguments], env=environment).wait():
        raise DemoError(f"`hdmap {' '.join(arguments)}` failed; its own message stands above")


def drive_through_node(drive: Path, result: Path, out: Path, weights: Path, rate: float) -> dict:
    """Plays the bag through the node while a recorder listens; returns the node's own report."""
    environment = {k: v for k, v in os.environ.items() if k != "_ROS_WHEELS_BOOTSTRAP_COMPLETE"}
    environment |= {"ROS_DOMAIN_ID": str(20 + os.getpid() % 80), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    environment |= dict.fromkeys(PROFILE_VARIABLES, str(PROFILE))
    report = out / "node.json"
    report.unlink(missing_ok=True)
    logs = {name: (out / f"{name}.log").open("w") for name in ("node", "recorder", "player")}

    def start_logged(name: str, *arguments: str) -> subprocess.Popen:
        command = [sys.executable, "-m", *arguments]
        return start(command, env=environment, stdout=logs[name], stderr=subprocess.STDOUT)

    recorder = start_logged("recorder", "hdmap_ros.bag.recorder", "-o", str(result), *RECORDED)
    parameters = {"model.weights": weights, "model.device": "auto", "report_file": report, "model.threads": 1}
    overrides = [word for name, value in parameters.items() for word in ("-p", f"{name}:={value}")]
    node = start_logged("node", "hdmap_ros.online_map_node", "--ros-args", *overrides)
    try:
        player = start_logged("player", "hdmap_ros.bag.player", str(drive), "--rate", str(rate), "--wait", "60")
        if player.wait():
            raise DemoError(f"the player failed; see player.log and node.log in {out}")
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
    frames = dataset.tables.sensor_frames(scene, CAMERAS)
    return observe_cycle(frames, CAMERAS, anchor_frame(dataset, scene, stamp_ns))


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
    """The report as tables, where the picture is, and what to try now."""
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
    console.print(f"[bold green]✓[/] look at [bold]{out / 'map.png'}[/]: the map in the six images and from above")
    console.print(
        f"  {out / 'drive.mcap'} and map.mcap are bags (RViz, Foxglove), report.json has the figures. Try now:"
    )
    for command, what in NEXT:
        console.print(f"    [bold]{command.format(out=out)}[/]  # {what}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main()
