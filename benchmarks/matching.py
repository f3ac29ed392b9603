"""Time of matching and vector losses: ours against frame by frame and layer by layer, as the published code does it.

Run: python benchmarks/matching.py [--repeats 3] [--device cpu]
"""

import argparse
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from measuring import figures
from rich.console import Console
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from hdmap_core.elements import MapClass, MapElement
from hdmap_core.geometry import BEVGrid
from hdmap_core.model_io import VectorOutput
from training.data.point_orders import ClosedOrders
from training.data.targets import Targets, build_targets
from training.losses.matching import focal_cost
from training.losses.vector import direction_loss, focal_loss, vector_losses

BATCH, LAYERS, QUERIES, MANY_QUERIES, NUM_POINTS, REPEATS = 4, 6, 100, 600, 20, 6
CLASSES = (MapClass.DIVIDER, MapClass.PED_CROSSING, MapClass.BOUNDARY)


def random_targets(closed_orders: ClosedOrders, seed: int = 0) -> Targets:
    """About 25 elements per frame: 20 +- 3 lines and 5 +- 2 rings of 4 to 8 vertices."""
    generator, grid = np.random.default_rng(seed), BEVGrid()
    frames = []
    for _ in range(BATCH):
        lines = generator.uniform([-30, -15], [30, 15], (generator.integers(17, 24), 4, 2))
        elements = [MapElement(CLASSES[2 * (index % 2)], line) for index, line in enumerate(lines)]
        for _ in range(generator.integers(3, 8)):
            angle = np.sort(generator.uniform(0, 2 * np.pi, generator.integers(4, 9)))
            ring = generator.uniform([-25, -10], [25, 10]) + 5 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
            elements.append(MapElement(MapClass.PED_CROSSING, ring, closed=True))
        frames.append(elements)
    return build_targets(
        frames,
        grid=grid,
        mask_grid=grid,
        classes=CLASSES,
        num_points=NUM_POINTS,
        line_width=0.45,
        closed_orders=closed_orders,
    )


def random_output(targets: Targets, num_queries: int, seed: int) -> VectorOutput:
    """Every query a noisy copy of some true element, with random logits: half-trained."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.empty(LAYERS, BATCH, num_queries, NUM_POINTS, 2)
    for b in range(BATCH):
        rows = torch.randint(0, int((targets.owners[b] >= 0).sum()), (LAYERS, num_queries), generator=generator)
        points[:, b] = targets.orders[b, rows]
    points = (points + 0.03 * torch.randn(points.shape, generator=generator)).clamp(0, 1)
    logits = torch.randn(LAYERS, BATCH, num_queries, len(CLASSES), generator=generator)
    return VectorOutput(logits.requires_grad_(), points.requires_grad_())


def dense_orders(targets: Targets, num_orders: int) -> list[tuple[Tensor, Tensor]]:
    """Per frame labels (G,) and (G, O, P, 2) orders, unused ones far away: the published layout."""
    frames = []
    for labels, orders, owners in zip(targets.labels, targets.orders, targets.owners, strict=True):
        count = int((labels >= 0).sum())
        dense = orders.new_full((count, num_orders, NUM_POINTS, 2), -10000.0)
        for g in range(count):
            own = orders[owners == g]
            dense[g, : len(own)] = own
        frames.append((labels[:count], dense))
    return frames


def frame_by_frame(output: VectorOutput, frames: list[tuple[Tensor, Tensor]], extent: Tensor) -> Tensor:
    """The weighted loss with one matching, and one copy to the host, per group, layer and frame."""
    total = output.points.new_zeros(())
    for group, repeat in ((output, 1), (output.one_to_many, REPEATS)):
        if group is None:
            continue
        repeated = [(labels.repeat(repeat), orders.repeat(repeat, 1, 1, 1)) for labels, orders in frames]
        count = sum(len(labels) for labels, _ in repeated)
        for layer_logits, layer_points in zip(group.logits, group.points, strict=True):
            wanted, predicted, true = torch.zeros_like(layer_logits), [], []
            for b, (labels, orders) in enumerate(repeated):
                logits, points = layer_logits[b].detach(), layer_points[b].detach()
                distance = torch.cdist(points.flatten(1), orders.flatten(2).flatten(0, 1), p=1)
                distance, order = distance.view(len(points), *orders.shape[:2]).min(dim=-1)
                cost = 2.0 * focal_cost(logits)[:, labels] + 5.0 * distance
                query, element = map(torch.from_numpy, linear_sum_assignment(cost.cpu().numpy()))
                query, element = query.to(logits.device), element.to(logits.device)
                wanted[b, query, labels[element]] = 1.0
                predicted.append(layer_points[b, query])
                true.append(orders[element, order[query, element]])
            matched, target = torch.cat(predicted), torch.cat(true)
            total = total + 2.0 * focal_loss(layer_logits, wanted) / count
            total = total + 5.0 * (matched - target).abs().sum() / count
            total = total + 0.005 * direction_loss(matched * extent, target * extent) / count
    return total


def batched(output: VectorOutput, targets: Targets) -> Tensor:
    """The same by `vector_losses`."""
    terms = vector_losses(output, targets, class_weight=2.0, points_weight=5.0, repeats=REPEATS)
    weights = {"class": 2.0, "points": 5.0, "direction": 0.005}
    return torch.stack([weights[name.removesuffix("_many")] * value for name, value in terms.items()]).sum()


def seconds(loss: Callable[[], Tensor], repeats: int) -> tuple[float, float]:
    """The loss and the median time of computing it and its gradient."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        value = loss()
        value.backward()
        found = value.item()  # waits for the device
        times.append(time.perf_counter() - start)
    return found, float(np.median(times[1:]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    title = f"{BATCH} frames, {LAYERS} layers, {QUERIES} + {MANY_QUERIES} queries, {NUM_POINTS} points"
    words = ("orders of rings", "implementation")
    table = figures(title, *words, "loss", "ms, forward and backward", "ours = 1", words=words)
    orders: list[tuple[ClosedOrders, int]] = [("published", NUM_POINTS - 1), ("all", 2 * NUM_POINTS)]
    for closed_orders, num_orders in orders:
        targets = random_targets(closed_orders)
        output = random_output(targets, QUERIES, 1)
        output.one_to_many = random_output(targets, MANY_QUERIES, 2)
        for group in (output, output.one_to_many):
            group.logits = group.logits.detach().to(device).requires_grad_()
            group.points = group.points.detach().to(device).requires_grad_()
        targets = targets.to(device)
        frames = dense_orders(targets, num_orders)
        ours, ours_time = seconds(partial(batched, output, targets), arguments.repeats)
        theirs, their_time = seconds(partial(frame_by_frame, output, frames, targets.extent), arguments.repeats)
        table.add_row(closed_orders, "ours, batched", f"{ours:.4f}", f"{1000 * ours_time:.0f}", "1")
        ratio = f"{their_time / ours_time:.1f}"
        table.add_row(closed_orders, "frame by frame", f"{theirs:.4f}", f"{1000 * their_time:.0f}", ratio)
    console = Console()
    console.print(table)
    counts = [int((labels >= 0).sum()) for labels in targets.labels]
    console.print(f"{np.mean(counts):.1f} elements per frame; {torch.get_num_threads()} threads, {device}")


if __name__ == "__main__":
    main()
