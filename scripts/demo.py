"""Drives a synthetic town through the real ROS 2 node and leaves a film and a picture of the map: `make demo`.

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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # the imports below take seconds, in which Ctrl-C would be a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, track
from rich.table import Table

from hdmap_core.datasets.nuscenes import CAMERAS, NuScenesDataset, Scene, SensorFrame
from hdmap_core.datasets.nuscenes.firing_cycles import observe_cycle
from hdmap_core.datasets.protocol import CLASSES
from hdmap_core.elements import MapElement
from hdmap_core.errors import HdmapError
from hdmap_core.files import PART
from hdmap_core.geometry import BEVGrid
from hdmap_core.inference import default_weights, load_predictor
from hdmap_core.inference.prediction import SHOWN_SCORE
from hdmap_core.metrics.chamfer_ap import ChamferScore, chamfer_ap
from hdmap_core.metrics.report import score_json, score_table
from hdmap_core.observation import Observation
from hdmap_core.recordings.keyframes import true_map
from hdmap_core.recordings.recording import Wanted
from hdmap_core.viz import draw_map, write_picture
from hdmap_core.viz.drive_film import DriveFilm
from hdmap_core.viz.film_file import check_film, open_film
from hdmap_core.viz.film_sheet import FilmSheet
from hdmap_core.viz.map_sheet import PIXELS_PER_METRE
from hdmap_core.viz.top_view import GroundMemory, pixel_grid
from hdmap_ros.bag.mcap import open_bag
from hdmap_ros.output.conversions import elements_from_message

ELEMENTS, MARKERS, INFO = (f"/online_map/output/{name}" for name in ("map_elements", "markers", "model_info"))
NEXT = (
    ("source .venv/bin/activate", "so that the shell knows `hdmap`"),
    ("hdmap bag replay {out}/drive.mcap -o out/replay", "the same drive without a ROS graph, every image set"),
    ("hdmap predict hdmap_core/weights/student.safetensors {out}/world -o out/keyframe.png", "the map of one keyframe"),
    ("hdmap view {out}/world --weights hdmap_core/weights/student.safetensors --web", "look around, in a browser"),
    ("hdmap synth data/synth --preset tiny", "other towns, to train on: README, With data"),
)
RECORDED = (
    f"{ELEMENTS}:hdmap_ros/msg/MapElementArray",
    f"{MARKERS}:visualization_msgs/msg/MarkerArray",
    f"{INFO}:hdmap_ros/msg/MapModelInfo",
)
TITLE = "hdmap_ros: six cameras in, a vectorised map out"
# Six JPEGs are more than Fast DDS's shared memory holds as it comes, and /tf falls behind: docs/ros.md, Large images.
PROFILE = Path(__file__).resolve().parents[1] / "config" / "fastdds_large_images.xml"
PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
FILM_PIXELS = (450, 800)  # an image in the film is smaller; decoding less of it takes half the time
MOST_PICTURES = 90
STOPPING = (signal.SIGINT, signal.SIGTERM)
Elements = dict[int, list[MapElement]]  # stamp in nanoseconds → of a map
console = Console()
running: list[subprocess.Popen[Any]] = []
unfinished: list[Path] = []  # films that are being written


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
    for part in unfinished:
        part.unlink(missing_ok=True)
    print("\ndemo: stopped; run `make demo` again to begin anew", file=sys.stderr, flush=True)
    os._exit(128 + signal.SIGINT)  # no more words from libraries that would be torn down in the midst of their work


def start(command: list[str], **options: Any) -> subprocess.Popen[Any]:
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


def end_processes(processes: list[subprocess.Popen[Any]], patience_s: float = 5.0) -> None:
    """SIGTERM to each process and its children, SIGKILL to those that are still there after `patience_s`."""
    for number, wait_s in ((signal.SIGTERM, patience_s), (signal.SIGKILL, 1.0)):
        for process in processes:
            if not has_ended(process):
                os.killpg(process.pid, number)
        deadline = time.monotonic() + wait_s
        while not all(map(has_ended, processes)) and time.monotonic() < deadline:
            time.sleep(0.02)


def has_ended(process: subprocess.Popen[Any]) -> bool:
    """Asks the system and not `poll`, whose lock the code that a signal interrupts may hold."""
    if process.returncode is not None:
        return True
    try:
        return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def run(out: Path, rate: float) -> None:
    """World, bag, drive, score, pictures, report."""
    weights = default_weights()
    world, film = out / "world", out / "drive.mp4"
    check_film(film)
    step(f"a synthetic town and a drive through it → {world}")
    call("hdmap_core", "synth", str(world), "--preset", "demo")
    dataset = NuScenesDataset(world)
    scene = dataset.scenes[0]
    drive, result = out / "drive.mcap", out / "map.mcap"
    step(f"the drive as a bag → {drive}")
    call("hdmap_core", "bag", "write", str(world), "--scene", scene.name, "-o", str(drive))
    step(f"player → node → recorder, real time x {rate:g} → {result}")
    node = drive_through_node(drive, result, out, weights, rate)
    step("scoring")
    grid = load_predictor(weights, "cpu").info.grid
    published = read_published(result)
    truth = {stamp: truth_at(dataset, scene, stamp) for stamp in published}
    score = chamfer_ap(
        {str(stamp): elements for stamp, elements in published.items()},
        {str(stamp): elements for stamp, elements in truth.items()},
    )
    facts = picture_facts(node, score)
    step(f"drawing a good moment → {out / 'map.png'}")
    stamp = good_moment(published, truth)
    ground = ground_at(dataset, scene, list(published), stamp, grid)
    observation = observation_at(dataset, scene, stamp)
    picture = draw_map(observation, published[stamp], truth[stamp], grid, TITLE, facts, ground=ground)
    write_picture(out / "map.png", picture)
    step(f"drawing the drive → {film}")
    write_film(film, dataset, scene, published, truth, grid)
    report = {"node": node, "chamfer_ap": score_json(score), "split": "demo (a town never trained on)"}
    (out / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print_report(node, score, out, film)


def step(text: str) -> None:
    """Announces a step."""
    console.print(f"[bold cyan]▸[/] {text}")


def call(module: str, *arguments: str) -> None:
    """Runs a verb of the command line as a user would."""
    # Should Ctrl-C end its workers, multiprocessing's own helper would warn that it has to clean up after them.
    environment = {**os.environ, "PYTHONWARNINGS": "ignore:resource_tracker:UserWarning"}
    if start([sys.executable, "-m", module, *arguments], env=environment).wait():
        raise DemoError(f"`hdmap {' '.join(arguments)}` failed; its own message stands above")


def drive_through_node(drive: Path, result: Path, out: Path, weights: Path, rate: float) -> dict[str, Any]:
    """Plays the bag through the node while a recorder listens; returns the node's own report."""
    environment = {k: v for k, v in os.environ.items() if k != "_ROS_WHEELS_BOOTSTRAP_COMPLETE"}
    environment |= {"ROS_DOMAIN_ID": str(20 + os.getpid() % 80), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    environment |= dict.fromkeys(PROFILE_VARIABLES, str(PROFILE))
    report = out / "node.json"
    report.unlink(missing_ok=True)
    logs = {name: (out / f"{name}.log").open("w") for name in ("node", "recorder", "player")}

    def start_logged(name: str, *arguments: str) -> subprocess.Popen[Any]:
        command = [sys.executable, "-m", *arguments]
        return start(command, env=environment, stdout=logs[name], stderr=subprocess.STDOUT)

    recorder = start_logged("recorder", "hdmap_ros.bag.recorder", "-o", str(result), *RECORDED)
    parameters = {"model.weights": weights, "model.device": "auto", "report_file": report, "model.threads": 1}
    overrides = [word for name, value in parameters.items() for word in ("-p", f"{name}:={value}")]
    node = start_logged("node", "hdmap_ros.online_map_node", "--ros-args", *overrides)
    try:
        player = start_logged("player", "hdmap_ros.bag.player", str(drive), "--rate", str(rate), "--wait", "60")
        if wait_for_player(player, out / "node.log", duration_s(drive) / rate):
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


def wait_for_player(player: subprocess.Popen[Any], node_log: Path, seconds: float) -> int:
    """The player's exit code; until then a bar shows how far the drive must be."""
    text = "{task.completed:.0f} of {task.total:.0f} s"
    columns = TextColumn("  {task.description}"), BarColumn(), TextColumn(text)
    with Progress(*columns, console=console, transient=True) as bar:
        task, began = bar.add_task("the node starts", total=seconds), None
        while player.poll() is None:
            if began is None and "online_map active" in node_log.read_text(encoding="utf-8", errors="replace"):
                began = time.monotonic() + 1.0  # the player waits so long when all listen
                bar.update(task, description="driving")
            if began is not None:
                bar.update(task, completed=min(max(time.monotonic() - began, 0.0), seconds))
            time.sleep(0.1)
    return player.returncode


def duration_s(bag: Path) -> float:
    """Seconds from a bag's first message to its last."""
    with open_bag(bag) as reader:
        return (reader.end_ns - reader.start_ns) * 1e-9


def read_published(bag: Path) -> Elements:
    """Stamp in nanoseconds → published elements."""
    with open_bag(bag) as reader:
        frames = {stamp: elements_from_message(m) for _, stamp, m in reader.messages(lambda topic: topic == ELEMENTS)}
    if not frames:
        raise DemoError(f"the node published nothing; see {bag.parent / 'node.log'}")
    return frames


def anchor_frame(dataset: NuScenesDataset, scene: Scene, stamp_ns: int) -> SensorFrame:
    """The CAM_FRONT image of a stamp, whose pose is the pose of the published map."""
    frames = dataset.sensor_frames(scene, ["CAM_FRONT"])
    return min(frames, key=lambda frame: abs(frame.stamp_ns - stamp_ns))


def truth_at(dataset: NuScenesDataset, scene: Scene, stamp_ns: int) -> list[MapElement]:
    """Ground truth around the car at a stamp."""
    return dataset.vector_map(scene.location).elements(anchor_frame(dataset, scene, stamp_ns).map_from_ego)


def observation_at(dataset: NuScenesDataset, scene: Scene, stamp_ns: int) -> Observation:
    """The six images of the firing cycle around a stamp, for the picture."""
    frames = dataset.sensor_frames(scene, CAMERAS)
    return observe_cycle(frames, anchor_frame(dataset, scene, stamp_ns))


def good_moment(published: Elements, truth: Elements) -> int:
    """The stamp of a frame with something of every class, whose map is right, with much to see."""

    def goodness(stamp: int) -> tuple[bool, float, int]:
        counts = [sum(element.label is label for element in truth[stamp]) for label in CLASSES]
        score = chamfer_ap({"": published[stamp]}, {"": truth[stamp]})
        return min(counts) > 0, round(score.mean_ap, 1), sum(counts)

    return max(published, key=goodness)


def ground_at(dataset: NuScenesDataset, scene: Scene, stamps: list[int], stamp_ns: int, grid: BEVGrid) -> np.ndarray:
    """The ground for the picture of a moment; what the car stands on is what its cameras saw in the seconds before."""
    memory = GroundMemory(pixel_grid(grid, PIXELS_PER_METRE))
    before = [stamp for stamp in stamps if stamp_ns - 3e9 < stamp <= stamp_ns]
    views = [memory.update(observation_at(dataset, scene, stamp)) for stamp in (*before[:-1:5], stamp_ns)]
    return views[-1]


def write_film(
    path: Path, dataset: NuScenesDataset, scene: Scene, published: Elements, truth: Elements, grid: BEVGrid
) -> None:
    """The drive: the cameras, the published map from above, and the fused map that grows beside the true one."""
    frames = dataset.sensor_frames(scene, CAMERAS)
    anchors = {stamp: anchor_frame(dataset, scene, stamp) for stamp in published}
    way = np.array([anchor.map_from_ego[:2, 3] for anchor in anchors.values()])
    sheet = FilmSheet(TITLE, grid, way, true_map(dataset, scene.sample_tokens, Wanted()))
    maker = DriveFilm(sheet, CLASSES, grid, SHOWN_SCORE)
    unfinished.append(path.with_name(path.name + PART))
    stamps = list(published)[:: -(-len(published) // MOST_PICTURES)]
    with open_film(path) as film, ThreadPoolExecutor(1) as reader:
        observations = reader.map(lambda stamp: observe_cycle(frames, anchors[stamp], FILM_PIXELS), stamps)
        for stamp in track(stamps, "  drawing", console=console, transient=True):
            clock = f"{(stamp - stamps[0]) * 1e-9:.1f} s"
            film.add(maker.draw(next(observations), published[stamp], truth[stamp], clock), stamp)


def picture_facts(node: dict[str, Any], score: ChamferScore) -> list[str]:
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


def print_report(node: dict[str, Any], score: ChamferScore, out: Path, film: Path) -> None:
    """The report as tables, where the picture is, and what to try now."""
    frames = Table(title="frames")
    for column in ("image sets", "mapped", *node["dropped"], "rate"):
        frames.add_column(column, justify="right")
    rate = f"{node['rate_hz']:.2f} Hz"
    frames.add_row(str(node["sets"]), str(node["published"]), *map(str, node["dropped"].values()), rate)
    console.print(frames)
    latency = Table(title="latency, ms")
    columns: dict[str, float] = next(iter(node["latency_ms"].values()), {})
    for column in ("stage", *columns):
        latency.add_column(column, justify="left" if column == "stage" else "right")
    for stage, numbers in node["latency_ms"].items():
        latency.add_row(stage, *(f"{number:.1f}" for number in numbers.values()))
    console.print(latency)
    console.print(score_table(score, "published map against ground truth"))
    console.print(f"[bold green]✓[/] look at [bold]{film}[/]: the drive, and its map growing beside the true one")
    console.print(f"  and at [bold]{out / 'map.png'}[/]: a moment of it, the map in the six images and from above")
    console.print(
        f"  {out / 'drive.mcap'} and map.mcap are bags (RViz, Foxglove), report.json has the figures. Try now:"
    )
    for command, what in NEXT:
        console.print(f"    [bold]{command.format(out=out)}[/]  # {what}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main()
