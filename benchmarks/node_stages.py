"""Milliseconds of each stage of the node on six 1600 x 900 JPEGs, with the alternatives one would reach for.

Runs the node's own functions one after the other, without a graph: no transport, no waiting. The world is a synthetic
town of four keyframes, written to a temporary folder. To compare with another commit, run it in turn with
PYTHONPATH=ANOTHER_CHECKOUT.

Run: python benchmarks/node_stages.py [--repeats 5]
"""

import argparse
import io
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from measuring import figures, town
from PIL import Image
from rclpy.serialization import serialize_message
from rich.console import Console
from rich.table import Table
from torch.nn.functional import grid_sample

from hdmap_core.datasets.nuscenes import CAMERAS
from hdmap_core.elements import MapElement
from hdmap_core.geometry import BEVGrid
from hdmap_core.inference import default_weights, load_predictor
from hdmap_core.inference.benchmark import Clock
from hdmap_core.observation import Observation
from hdmap_core.postprocess.decode import decode
from hdmap_core.preprocess import ground_grid, preprocess
from hdmap_core.running.parallel import one_thread
from hdmap_ros.message_types import graph_types
from hdmap_ros.node_config import OnlineMapConfig
from hdmap_ros.observing.images import decode_image
from hdmap_ros.output.conversions import elements_to_message
from hdmap_ros.output.markers import MarkerBuilder

MARKER_SCORE = 0.3  # the node's default for what is drawn


def table_of(clock: Clock, title: str) -> Table:
    """Stages are called `stage | way`; of an alternative its CPU is told against ours, which stands before it."""
    words = ("stage", "way")
    table = figures(title, *words, "median ms", "p95 ms", "median CPU ms", "CPU x ours", words=words)
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


def ground_by_grid_sample(observation: Observation, grid: BEVGrid) -> torch.Tensor:
    """The plane z = 0 seen by the six cameras, one bilinear sample per cell, mean of the cameras that see it."""
    fine = ground_grid(grid)
    rows, columns = fine.shape
    y = fine.y_range[0] + (torch.arange(rows) + 0.5) * fine.resolution
    x = fine.x_range[0] + (torch.arange(columns) + 0.5) * fine.resolution
    place = torch.stack([*torch.meshgrid(x, y, indexing="xy"), torch.ones(rows, columns)], dim=-1)
    pixels = torch.einsum("nij,yxj->nyxi", observation.rig.projection()[:, :, [0, 1, 3]].float(), place)
    total, cameras = torch.zeros(3, rows, columns), torch.zeros(rows, columns)
    for image, (height, width), at in zip(observation.images, observation.rig.image_sizes, pixels, strict=True):
        assert image is not None
        depth = at[..., 2:]
        where = 2 * (at[..., :2] / depth.clamp(min=1e-6) + 0.5) / torch.tensor([width, height]) - 1
        seen = ((where.abs() < 1).all(dim=-1) & (depth[..., 0] > 1.0)).float()
        stored = torch.from_numpy(image).permute(2, 0, 1)[None].float()
        total += seen * grid_sample(stored, where[None], align_corners=False)[0]
        cameras += seen
    return total / cameras.clamp(min=1)


def as_in_the_node(messages: list[Any], sizes: Sequence[tuple[int, int]]) -> list[np.ndarray]:
    """The smallest decoding that has at least these sizes."""
    return [decode_image(message, size) for message, size in zip(messages, sizes, strict=True)]


def by_opencv(messages: list[Any]) -> list[np.ndarray]:
    stored = (cv2.imdecode(np.frombuffer(message.data, np.uint8), cv2.IMREAD_COLOR) for message in messages)
    return [cv2.cvtColor(image, cv2.COLOR_BGR2RGB) for image in stored if image is not None]


def by_pillow(messages: list[Any]) -> list[np.ndarray]:
    return [np.asarray(Image.open(io.BytesIO(bytes(message.data))).convert("RGB")) for message in messages]


def measure(folder: Path, repeats: int) -> tuple[Clock, str]:
    """Every stage, for each keyframe, `repeats` times after one to warm up."""
    dataset = town(folder, keyframes=4, image_size=(900, 1600))
    predictor = load_predictor(default_weights(), "cpu")
    grid, classes, decoding = predictor.info.grid, predictor.info.classes, predictor.config.decode
    enough = predictor.info.enough_pixels
    types = graph_types()
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
            rig = seen.rig.select(CAMERAS)
            images = clock.time("decode, six images | ours", partial(as_in_the_node, messages, rig.image_sizes))
            clock.time("decode, six images | alternative: OpenCV", partial(by_opencv, messages))
            clock.time("decode, six images | alternative: Pillow", partial(by_pillow, messages))
            observation = Observation(tuple(images), rig, seen.stamp_ns, token)
            batch = clock.time("preprocess | ours", partial(preprocess, observation, predictor.config.model))
            sampled = partial(ground_by_grid_sample, observation, grid)
            other = clock.time("preprocess | alternative: torch grid_sample", sampled)
            ground = batch.ground[0].float()
            apart.append(float((ground[:3] - other).abs()[:, ground[3] > 0].mean()))
            output = clock.time("network | ours", partial(predictor.engine, batch))
            traced = partial(decode, output, decoding, classes=classes, grid=grid)
            elements = clock.time("postprocess | ours, as published", traced)

            def publish(kept: list[MapElement] = elements, stamp_ns: int = seen.stamp_ns) -> bytes:
                message = elements_to_message(
                    types, kept, stamp_ns=stamp_ns, frame_id="base_link", grid=grid, camera_mask=(True,) * 6,
                    spread_ns=0, sequence=0, model_id=predictor.info.model_id,
                )  # fmt: skip
                return serialize_message(message)

            def draw(kept: list[MapElement] = elements, stamp_ns: int = seen.stamp_ns) -> bytes:
                solid = [element for element in kept if element.score >= MARKER_SCORE]
                drawn = MarkerBuilder(types).build(solid, OnlineMapConfig(), stamp_ns=stamp_ns, frame_id="base_link")
                return serialize_message(drawn)

            clock.time("publish: message and bytes | ours", publish)
            clock.time("markers (if anyone listens) | ours", draw)
    difference = f"the two ground views differ by {np.mean(apart):.1f} of 255 on average"
    return clock, difference


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="passes over the four keyframes")
    arguments = parser.parse_args()
    one_thread()
    with tempfile.TemporaryDirectory() as folder:
        clock, notes = measure(Path(folder), arguments.repeats)
    console = Console(width=110)
    title = f"stages of the node, {4 * arguments.repeats} sets, one thread"
    console.print(table_of(clock, title))
    console.print(notes)


if __name__ == "__main__":
    main()
