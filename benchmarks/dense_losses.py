"""Time of the discriminative loss: ours against one instance and one pair at a time, as the published code does it.

Run: python benchmarks/dense_losses.py [--repeats 5] [--device cpu]
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from matching import seconds
from measuring import figures
from rich.console import Console
from torch import Tensor

from hdmap_core.elements import MapClass, MapElement
from hdmap_core.geometry import BEVGrid
from training.data.dense_targets import DenseTargets, build_dense_targets
from training.losses.dense import DenseLossConfig, discriminative_loss

BATCH, CHANNELS = 4, 16
GRID = BEVGrid(resolution=0.15)
CLASSES = (MapClass.DIVIDER, MapClass.PED_CROSSING, MapClass.BOUNDARY)
CONFIG = DenseLossConfig()


def random_frames(num_lines: int, seed: int = 0) -> list[list[MapElement]]:
    """Wavy dividers and boundaries along x, and a crossing for every four of them."""
    generator, frames = np.random.default_rng(seed), []
    for _ in range(BATCH):
        elements = []
        for index in range(num_lines):
            x = np.linspace(0, generator.uniform(10, 40), 20) + generator.uniform(-30, 10)
            y = generator.uniform(-15, 15) + np.sin(x / 5 + generator.uniform(0, 6))
            elements.append(MapElement(CLASSES[2 * (index % 2)], np.stack([x, y], axis=1)))
            if index % 4 == 0:
                corner = generator.uniform([-28, -13], [24, 5])
                outline = corner + np.array([[0, 0], [3, 0], [3, 9], [0, 9]])
                elements.append(MapElement(MapClass.PED_CROSSING, outline, closed=True))
        frames.append(elements)
    return frames


def instance_by_instance(embedding: Tensor, instance: Tensor) -> Tensor:
    """Both published terms with a Python loop over instances and over pairs."""
    variance = distance = embedding.sum() * 0
    for cells, numbers in zip(embedding, instance, strict=True):
        ids = [number for number in torch.unique(numbers).tolist() if number > 0]
        means = []
        for number in ids:
            own = cells[:, numbers == number]
            mean = own.mean(dim=1)
            spread = (torch.linalg.vector_norm(own - mean[:, None], dim=0) - CONFIG.delta_variance).clamp(min=0)
            variance = variance + spread.square().mean() / len(ids) / BATCH
            means.append(mean)
        for a, mean in enumerate(means):
            for b, other in enumerate(means):
                if a != b:
                    push = (CONFIG.delta_distance - torch.linalg.vector_norm(mean - other)).clamp(min=0).square()
                    distance = distance + push / (len(ids) * (len(ids) - 1)) / 2 / BATCH
    return variance + distance


def vectorised(embedding: Tensor, instance: Tensor) -> Tensor:
    """The same by `discriminative_loss`."""
    variance, distance = discriminative_loss(embedding, instance, CONFIG)
    return variance + distance


def measured(loss: Callable[[Tensor, Tensor], Tensor], targets: DenseTargets, repeats: int) -> tuple[float, float]:
    """The loss of random embeddings and the median time of computing it and its gradient."""
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(BATCH, CHANNELS, *GRID.shape, generator=generator).to(targets.instance.device)
    embedding = start.requires_grad_()

    def anew() -> Tensor:
        embedding.grad = None
        return loss(embedding, targets.instance)

    return seconds(anew, repeats)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    title = f"{BATCH} frames, {CHANNELS} channels, {GRID.shape[0]} x {GRID.shape[1]} cells"
    columns = ("instances per frame", "drawing, ms per frame", "implementation", "loss", "ms", "ours = 1")
    table = figures(title, *columns, words=("implementation",))
    for num_lines in (12, 60):
        frames = random_frames(num_lines)
        drawing = []
        for _ in range(arguments.repeats):
            begin = time.perf_counter()
            targets = build_dense_targets(frames, grid=GRID, classes=CLASSES)
            drawing.append((time.perf_counter() - begin) / BATCH)
        count = np.mean([len(numbers.unique()) - 1 for numbers in targets.instance])
        targets = targets.to(arguments.device)
        ours, our_time = measured(vectorised, targets, arguments.repeats)
        theirs, their_time = measured(instance_by_instance, targets, arguments.repeats)
        drawn = f"{1000 * np.median(drawing):.1f}"
        table.add_row(f"{count:.0f}", drawn, "ours, vectorised", f"{ours:.5f}", f"{1000 * our_time:.1f}", "1")
        ratio = f"{their_time / our_time:.1f}"
        table.add_row("", "", "instance by instance", f"{theirs:.5f}", f"{1000 * their_time:.1f}", ratio)
    console = Console()
    console.print(table)
    console.print(f"Forward and backward; {torch.get_num_threads()} threads, {arguments.device}")


if __name__ == "__main__":
    main()
