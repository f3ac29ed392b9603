"""What ROS costs: CPU of the node beside its pipeline's own stages, and of the plain node that one would write first.

Both hear the same bag from the player in a ROS graph of their own, their maps are recorded. The plain node is rclpy as
in a tutorial: one callback per camera, message_filters' approximate time (our rendering of it, as that package is not
among the wheels), OpenCV's decoder as in cv_bridge, static poses, PyTorch in the callback. Its ground view and tracing
are ours. A stage's CPU is its threads' own; what the process takes beside it is overhead: of the executor's thread,
of the worker (waiting, transforms, publishing) and of the threads that the DDS vendor starts.

Run: python benchmarks/ros_cost.py out/demo/drive.mcap [--turns 2]
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from measuring import figures
from node_process import graph_environment, qos_of
from rich.console import Console

from hdmap_core.datasets.nuscenes import CAMERAS
from hdmap_core.geometry import CameraRig
from hdmap_core.inference import default_weights, load_predictor
from hdmap_core.observation import Observation
from hdmap_ros.message_types import graph_types
from hdmap_ros.node_config import OnlineMapConfig
from hdmap_ros.observing.transforms import TransformBuffer
from hdmap_ros.output.conversions import elements_to_message
from hdmap_ros.stamps import stamp_to_ns

ELEMENTS = "/online_map/output/map_elements"
SLOP_MS = 50
WAYS = {"plain": "plain node", "classic": "online_map, wait sets", "ours": "online_map"}


class Meter:
    """CPU seconds of the stages, and of all threads, from the first set on."""

    def __init__(self) -> None:
        self.stages_s: defaultdict[str, float] = defaultdict(float)
        self.sets = 0
        self._lock = threading.Lock()
        self._first: dict[str, float] = {}
        self._last: dict[str, float] = {}

    def begin(self) -> None:
        """Starts the clocks at the first call; what came before was warming up."""
        with self._lock:
            if not self._first:
                self._first = self._now()
                self.stages_s.clear()
                self.sets = 0

    def stage(self, name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, its thread's CPU counted."""

        def metered(*arguments: Any) -> Any:
            begin_s = time.thread_time()
            try:
                return work(*arguments)
            finally:
                with self._lock:
                    self.stages_s[name] += time.thread_time() - begin_s

        return metered

    def end_of_set(self) -> None:
        """Reads the clocks."""
        with self._lock:
            self.sets += 1
            self._last = self._now()

    def _now(self) -> dict[str, float]:
        mine = {
            thread: time.clock_gettime(time.pthread_getcpuclockid(thread.ident))
            for thread in threading.enumerate()
            if thread.ident is not None
        }
        executor_s = mine[threading.main_thread()]
        return {
            "wall": time.monotonic(),
            "process": time.process_time(),
            "executor": executor_s,
            "worker": sum(mine.values()) - executor_s,
        }

    def report(self) -> dict[str, Any]:
        """Seconds since the first set, as JSON takes them."""
        passed = {name: self._last[name] - self._first[name] for name in self._last}
        return {"sets": self.sets, "stages": dict(self.stages_s), **passed}


class MeteredPool(ThreadPoolExecutor):
    """The node's threads for the cameras: all that they do is a stage's work."""

    def __init__(self, meter: Meter, threads: int) -> None:
        super().__init__(threads)
        self._meter = meter

    def submit(self, work: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        self._meter.begin()
        return super().submit(self._meter.stage("cameras", work), *arguments, **named)


def metered(predictor: Any, meter: Meter) -> Any:
    """The predictor with its two halves metered."""
    predictor.prepare = meter.stage("prepare", predictor.prepare)
    predictor.complete = meter.stage("network and tracing", predictor.complete)
    return predictor


def serve_ours(meter: Meter, classic: bool = False) -> None:
    """The node as it is, or on rclpy's classic executor."""
    from hdmap_ros import online_map_node, stop_signals
    from hdmap_ros.output.map_output import MapOutput
    from hdmap_ros.session_parts import load_model

    def load(config: OnlineMapConfig) -> Any:
        return metered(load_model(config), meter)

    publish = MapOutput.publish

    def counted(*arguments: Any) -> None:
        publish(*arguments)
        meter.end_of_set()

    def pool(cameras: int) -> MeteredPool:
        cv2.setNumThreads(1)
        return MeteredPool(meter, min(cameras, len(os.sched_getaffinity(0))))

    MapOutput.publish = counted  # type: ignore[method-assign,assignment]
    online_map_node.camera_pool = pool  # type: ignore[attr-defined]
    executor = "classic" if classic else "events"
    code = online_map_node.run(load, ["--ros-args", "-p", "model.threads:=1", "-p", f"executor:={executor}"])
    print(json.dumps(meter.report()), flush=True)
    stop_signals.leave(code)


def serve_plain(meter: Meter) -> None:
    """A node as in a tutorial."""
    import rclpy
    import torch
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.signals import SignalHandlerOptions
    from synchronizer import approximate

    from hdmap_ros import stop_signals

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    stopping = stop_signals.note()
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node, types, transforms = rclpy.create_node("plain"), graph_types(), TransformBuffer()
    predictor = metered(load_predictor(default_weights(), "cpu", engine="eager"), meter)
    synchronizer = approximate(SLOP_MS)
    matrices: dict[str, np.ndarray] = {}
    publisher = node.create_publisher(types.get("hdmap_ros/msg/MapElementArray"), ELEMENTS, 1)

    def decode(message: Any) -> np.ndarray:
        image = cv2.imdecode(np.frombuffer(message.data, np.uint8), cv2.IMREAD_COLOR)
        assert image is not None
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)

    decode = meter.stage("cameras", decode)

    def on_image(camera: str, message: Any) -> None:
        stamp_ns = stamp_to_ns(message.header.stamp)
        for images in synchronizer.add(camera, stamp_ns, message, time.monotonic_ns()):
            if set(matrices) == set(CAMERAS):
                on_set(images)

    def on_set(images: Any) -> None:
        meter.begin()
        pictures = tuple(decode(images.messages[camera]) for camera in CAMERAS)
        poses = [transforms.lookup("base_link", camera.lower(), None) for camera in CAMERAS]
        size = pictures[0].shape[:2]
        rig = CameraRig.from_arrays(CAMERAS, [matrices[camera] for camera in CAMERAS], poses, (size[0], size[1]))
        prepared = predictor.prepare(Observation(pictures, rig, images.stamp_ns, str(images.stamp_ns)))
        info = predictor.info
        message = elements_to_message(
            types,
            list(predictor.complete(prepared).elements),
            stamp_ns=images.stamp_ns,
            frame_id="base_link",
            grid=info.grid,
            camera_mask=(True,) * len(CAMERAS),
            spread_ns=images.spread_ns,
            sequence=meter.sets,
            model_id=info.model_id,
            frame_from_ego=None,
        )
        publisher.publish(message)
        meter.end_of_set()

    def listen(kind: str, topic: str, callback: Callable[[Any], None], qos: Any = 10) -> Any:
        return node.create_subscription(types.get(kind), topic, callback, qos)

    for camera in CAMERAS:
        name = f"/{camera.lower()}"
        listen("sensor_msgs/msg/CompressedImage", f"{name}/image_raw/compressed", partial(on_image, camera))

        def on_info(message: Any, camera: str = camera) -> None:
            matrices[camera] = np.array(message.k).reshape(3, 3)

        listen("sensor_msgs/msg/CameraInfo", f"{name}/camera_info", on_info)
    listen("tf2_msgs/msg/TFMessage", "/tf", lambda message: transforms.add(message.transforms, False), 100)
    static = "/tf_static"
    listen("tf2_msgs/msg/TFMessage", static, lambda message: transforms.add(message.transforms, True), qos_of(static))
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    while not stopping:
        executor.spin_once(timeout_sec=0.1)
    print(json.dumps(meter.report()), flush=True)
    stop_signals.leave(0)


def drive(way: str, bag: Path, turn: int) -> dict[str, Any]:
    """One play of the bag through a node; what its meter says."""
    environment = graph_environment(20 + (os.getpid() + turn) % 80)
    with tempfile.TemporaryDirectory() as folder:
        quiet: dict[str, Any] = {"env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        recorded = ["-o", f"{folder}/map.mcap", f"{ELEMENTS}:hdmap_ros/msg/MapElementArray"]
        recorder = subprocess.Popen([sys.executable, "-m", "hdmap_ros.bag.recorder", *recorded], **quiet)
        served = [sys.executable, __file__, str(bag), "--serve", way]
        node = subprocess.Popen(served, **quiet | {"stdout": subprocess.PIPE}, text=True)
        try:
            player = [sys.executable, "-m", "hdmap_ros.bag.player", str(bag), "--wait", "60", "--settle", "3"]
            subprocess.run(player, check=True, **quiet)
            time.sleep(1.0)
        finally:
            node.send_signal(signal.SIGINT)
            recorder.send_signal(signal.SIGINT)
        lines = node.communicate(timeout=30)[0].splitlines()
        recorder.wait(30)
    return json.loads(lines[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bag", type=Path, help="a recording such as make demo's drive.mcap")
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--serve", choices=WAYS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        meter = Meter()
        serve_plain(meter) if arguments.serve == "plain" else serve_ours(meter, arguments.serve == "classic")
        return
    columns = ("node", "maps", "ms per map", "of stages", "overhead, cores", "executor", "worker", "DDS threads")
    table = figures("CPU of one process; overhead is what its pipeline's stages do not take", *columns)
    for turn in range(arguments.turns):
        for way, name in WAYS.items():
            report = drive(way, arguments.bag.resolve(), turn)
            stages, wall, maps = report["stages"], report["wall"], report["sets"]
            in_stages = sum(stages.values())
            in_executor = in_stages if way == "plain" else 0.0
            parts = {
                "overhead": report["process"] - in_stages,
                "executor": report["executor"] - in_executor,
                "worker": report["worker"] - (in_stages - in_executor),
                "DDS": report["process"] - report["executor"] - report["worker"],
            }
            per_map = [f"{1e3 * seconds / maps:.1f}" for seconds in (report["process"], in_stages)]
            table.add_row(name, str(maps), *per_map, *(f"{seconds / wall:.3f}" for seconds in parts.values()))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
