"""Milliseconds of each stage of the node on six 1600 x 900 JPEGs, with the alternatives one would reach for.

Runs the node's own functions one after the other, without a graph: no transport, no waiting. The world is a synthetic
town of four keyframes, written to a temporary folder. To compare with another commit, run it in turn with
PYTHONPATH=ANOTHER_CHECKOUT.

Run: python benchmarks/node_stages.py [--repeats 5] [--threads 1]
"""

import argparse
import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch.nn.functional import grid_sample

from hdmap_core.checkpoint import CheckpointConfig, save_checkpoint
from hdmap_core.datasets.nuscenes import CAMERAS, NuScenesDataset
from hdmap_core.datasets.synthetic.presets import PRESETS
from hdmap_core.datasets.synthetic.writer import write_dataset
from hdmap_core.errors import CheckpointError
from hdmap_core.geometry import BEVGrid
from hdmap_core.inference import default_weights, load_predictor
from hdmap_core.inference.benchmark import Clock
from hdmap_core.models import ModelConfig, build_model
from hdmap_core.observation import Observation
from hdmap_core.postprocess.decode import decode
from hdmap_core.preprocess import ground_grid, preprocess
from hdmap_ros.message_types import MessageTypes, bag_types, graph_types
from hdmap_ros.node_config import OnlineMapConfig
from hdmap_ros.observing.images import decode_image
from hdmap_ros.output.conversions import elements_to_message
from hdmap_ros.output.markers import MarkerBuilder

ELEMENTS, MARKERS = "hdmap_ros/msg/MapElementArray", "visualization_msgs/msg/MarkerArray"
MARKER_SCORE = 0.3  # the node's default for what is drawn


def table_of(clock: Clock, title: str) -> Table:
    """Stages are called `stage | way`; of an alternative its CPU is told against ours, which stands before it."""
    table = Table(title=title)
    for column in ("stage", "way", "median ms", "p95 ms", "median CPU ms", "CPU x ours"):
        table.add_column(column, justify="left" if column in ("stage", "way") else "right")
    ours, total = 1.0, np.zeros(2)
    for name, samples in clock.samples_ms.items():
        stage, way = name.split(" | ")
        median, cpu = np.median(samples, axis=0)
        p95 = np.percentile([wall for wall, _ in samples], 95)
        if not way.startswith("alternative"):
            ours = float(cpu)
            total += median, cpu
        table.add_row(stage, way, f"{median:.2f}", f"{p95:.2f}", f"{cpu:.2f}", f"{cpu / ours:.2g}")
    table.add_section()
    table.add_row("sum of medians", "ours", f"{total[0]:.2f}", "", f"{total[1]:.2f}", "")
    return table


def weights(folder: Path) -> tuple[Path, str]:
    """The shipped student, or a fresh model of its architecture: as fast, but it has learned nothing."""
    try:
        return default_weights(), "the shipped student"
    except CheckpointError:
        path = folder / "fresh.safetensors"
        config = CheckpointConfig(model=ModelConfig(name="fresh"))
        save_checkpoint(path, build_model(config.model), config, {})
        return path, "a fresh model (no shipped student found): postprocessing sees noise"


def ground_by_grid_sample(observation: Observation, grid: BEVGrid) -> torch.Tensor:
    """The plane z = 0 seen by the six cameras, one bilinear sample per cell, mean of the cameras that see it."""
    fine = ground_grid(grid)
    rows, columns = fine.shape
    y = fine.y_range[0] + (torch.arange(rows) + 0.5) * fine.resolution
    x = fine.x_range[0] + (torch.arange(columns) + 0.5) * fine.resolution
    place = torch.stack([*torch.meshgrid(x, y, indexing="xy"), torch.ones(rows, columns)], dim=-1)
    pixels = torch.einsum("nij,yxj->nyxi", observation.rig.projection()[:, :, [0, 1, 3]].float(), place)
    depth = pixels[..., 2:]
    height, width = observation.rig.image_size
    where = 2 * (pixels[..., :2] / depth.clamp(min=1e-6) + 0.5) / torch.tensor([width, height]) - 1
    seen = ((where.abs() < 1).all(dim=-1) & (depth[..., 0] > 1.0)).float()
    images = torch.from_numpy(np.stack([image for image in observation.images if image is not None]))
    sampled = grid_sample(images.permute(0, 3, 1, 2).float(), where, align_corners=False)
    return (sampled * seen[:, None]).sum(dim=0) / seen.sum(dim=0).clamp(min=1)


def publishing() -> tuple[MessageTypes, Callable[[Any, str], bytes], str]:
    """Message classes and serialisation of the node (rclpy), or rosbags' where there is no ROS."""
    try:
        from rclpy.serialization import serialize_message
    except ImportError:
        types, store = bag_types()
        return types, lambda message, kind: bytes(store.serialize_cdr(message, kind)), "rosbags"
    return graph_types(), lambda message, kind: serialize_message(message), "rclpy"


def by_opencv(messages: list[Any]) -> list[np.ndarray]:
    stored = (cv2.imdecode(np.frombuffer(message.data, np.uint8), cv2.IMREAD_COLOR) for message in messages)
    return [cv2.cvtColor(image, cv2.COLOR_BGR2RGB) for image in stored]


def by_pillow(messages: list[Any]) -> list[np.ndarray]:
    return [np.asarray(Image.open(io.BytesIO(bytes(message.data))).convert("RGB")) for message in messages]


def measure(folder: Path, repeats: int) -> tuple[Clock, str]:
    """Every stage, for each keyframe, `repeats` times after one to warm up."""
    change = {"towns": {"val": 1}, "keyframes": 4, "image_size": (900, 1600), "lidar": "none"}
    write_dataset(folder / "world", PRESETS["tiny"].model_copy(update=change))
    dataset = NuScenesDataset(folder / "world")
    path, name = weights(folder)
    predictor = load_predictor(path, "cpu")
    grid, classes, decoding = predictor.info.grid, predictor.info.classes, predictor.config.decode
    enough = predictor.info.enough_pixels
    types, to_bytes, library = publishing()
    clock = Clock()
    apart: list[float] = []
    for number in range(repeats + 1):
        if number == 1:
            clock = Clock()  # forget the warm-up
        for token in dataset.tokens:
            frames = dataset.tables.keyframe(token)
            compressed = types.get("sensor_msgs/msg/CompressedImage")
            messages = [
                compressed(
                    header=types.header(0, camera),
                    format="jpeg",
                    data=types.octets(frames[camera].path.read_bytes()),
                )
                for camera in CAMERAS
            ]
            seen = dataset.observation(token, images=False, points=False, at_least=enough)
            wanted = seen.rig.select(CAMERAS).image_sizes  # the smallest that will do
            images = clock.time(
                "decode, six images | ours",
                lambda m=messages, w=wanted: [decode_image(each, size) for each, size in zip(m, w, strict=True)],
            )
            clock.time("decode, six images | alternative: OpenCV", lambda m=messages: by_opencv(m))
            clock.time("decode, six images | alternative: Pillow", lambda m=messages: by_pillow(m))
            observation = Observation(tuple(images), seen.rig.select(CAMERAS), seen.stamp_ns, token)
            batch = clock.time("preprocess | ours", lambda o=observation: preprocess(o, predictor.config.model))
            other = clock.time(
                "preprocess | alternative: torch grid_sample", lambda o=observation: ground_by_grid_sample(o, grid)
            )
            ground = batch.ground[0].float()
            apart.append(float((ground[:3] - other).abs()[:, ground[3] > 0].mean()))
            output = clock.time("network | ours", lambda b=batch: predictor.engine(b))
            elements = clock.time(
                "postprocess | ours, as published", lambda o=output: decode(o, decoding, classes=classes, grid=grid)
            )

            def publish(kept: list = elements, stamp_ns: int = seen.stamp_ns) -> bytes:
                message = elements_to_message(
                    types, kept, stamp_ns=stamp_ns, frame_id="base_link", grid=grid, camera_mask=(True,) * 6,
                    spread_ns=0, sequence=0, model_id=predictor.info.model_id,
                )  # fmt: skip
                return to_bytes(message, ELEMENTS)

            def draw(kept: list = elements, stamp_ns: int = seen.stamp_ns) -> bytes:
                solid = [element for element in kept if element.score >= MARKER_SCORE]
                drawn = MarkerBuilder(types).build(solid, OnlineMapConfig(), stamp_ns=stamp_ns, frame_id="base_link")
                return to_bytes(drawn, MARKERS)

            clock.time("publish: message and bytes | ours", publish)
            clock.time("markers (if anyone listens) | ours", draw)
    difference = f"the two ground views differ by {np.mean(apart):.1f} of 255 on average"
    notes = f"weights: {name}; bytes by {library}; {difference}"
    return clock, notes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="passes over the four keyframes")
    parser.add_argument("--threads", type=int, default=1, help="of torch and OpenCV")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    cv2.setNumThreads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        clock, notes = measure(Path(folder), arguments.repeats)
    console = Console(width=110)
    title = f"stages of the node, {4 * arguments.repeats} sets, {arguments.threads} thread(s)"
    console.print(table_of(clock, title))
    console.print(notes)


if __name__ == "__main__":
    main()
