"""Time of making lines from dense outputs: ours against DBSCAN and the whole published procedure, on the same rasters.

Eight clean lines of three classes at 60 x 30 m in cells of 0.15 m (200 x 400), about 17 000 cells. CPU seconds of this
process. "Textbook" is DBSCAN with one search through all cells of the class for the neighbourhood of each. Chamfer and
length are those of the worst line, against the drawn one.
A second table scores both on rasters with noise: smooth in the logits and in the embeddings, five seeds, MapTR's mAP.
Run: OMP_NUM_THREADS=1 python benchmarks/dense_vectorisation.py [--repeats 3]
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import cv2
import numpy as np
from measuring import figures
from published_vectorisation import (
    Cluster,
    Rasters,
    clean_rasters,
    eight_lines,
    published_clusters,
    published_lines,
    scikit_dbscan,
    textbook_dbscan,
)
from rich.console import Console
from rich.table import Table

from hdmap_core.elements import MapClass, MapElement
from hdmap_core.geometry import BEVGrid, polyline
from hdmap_core.metrics.chamfer_ap import chamfer_ap
from hdmap_core.metrics.chamfer_distance import chamfer_distances
from hdmap_core.postprocess.clustering import cluster_embeddings
from hdmap_core.postprocess.dense import DenseDecodeConfig, class_mask, decode_dense

GRID = BEVGrid(resolution=0.15)
CLASSES = (MapClass.DIVIDER, MapClass.PED_CROSSING, MapClass.BOUNDARY)
CONFIG = DenseDecodeConfig()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="of ours and of scikit-learn's; the fastest counts")
    options = parser.parse_args()
    lines = eight_lines(GRID)
    rasters = clean_rasters(lines, GRID)
    scikit_dbscan(np.zeros((60, 2)))  # so that its import is not measured
    implementations: list[tuple[str, str, Callable[[], Any], int]] = [
        ("clustering", "ours", partial(our_clusters, rasters), options.repeats),
        ("clustering", "DBSCAN of scikit-learn", partial(their_clusters, rasters, scikit_dbscan), options.repeats),
        ("clustering", "DBSCAN, textbook", partial(their_clusters, rasters, textbook_dbscan), 1),
        ("rasters to lines", "ours", partial(our_lines, rasters), options.repeats),
        ("rasters to lines", "published, scikit-learn", partial(their_lines, rasters, scikit_dbscan), options.repeats),
        ("rasters to lines", "published, textbook", partial(their_lines, rasters, textbook_dbscan), 1),
    ]
    count = int((rasters.semantic.argmax(axis=0) > 0).sum())
    words = ("stage", "implementation")
    table = figures(
        f"{len(lines)} lines, {count:,} cells", *words, "CPU s", "ours = 1", "result", words=(*words, "result")
    )
    ours = 0.0
    for stage, name, function, repeats in implementations:
        result, seconds = timed(function, repeats)
        ours = seconds if name == "ours" else ours
        table.add_row(stage, name, f"{seconds:.3f}", f"{seconds / ours:.0f}", describe(stage, result, rasters, lines))
    Console(width=120).print(table)
    Console(width=120).print(accuracy(lines))


def accuracy(lines: list[tuple[int, np.ndarray]], seeds: int = 5) -> Table:
    """Lines per frame and mAP of both on noisy rasters."""
    frames = {str(seed): noisy_rasters(lines, seed) for seed in range(seeds)}
    truth = {token: [MapElement(CLASSES[channel - 1], points) for channel, points in lines] for token in frames}
    found = {
        "ours": {token: our_elements(rasters) for token, rasters in frames.items()},
        "published": {token: their_elements(rasters) for token, rasters in frames.items()},
    }
    title = f"with noise, {len(lines)} lines in each of {seeds} frames"
    table = figures(title, "implementation", "lines per frame", *(label.value for label in CLASSES), "mAP")
    for name, elements in found.items():
        score = chamfer_ap(elements, truth)
        per_class = [f"{score.classes[label].mean_ap:.3f}" for label in CLASSES]
        table.add_row(name, f"{np.mean([len(e) for e in elements.values()]):.1f}", *per_class, f"{score.mean_ap:.3f}")
    return table


def noisy_rasters(lines: list[tuple[int, np.ndarray]], seed: int) -> Rasters:
    """Blurred lines with smooth noise in logits and embeddings, as a network that is not sure makes them."""
    clean = clean_rasters(lines, GRID, seed, noise=0.05)
    random = np.random.default_rng(seed)

    def smooth(reach: float) -> np.ndarray:  # of standard deviation 1
        return cv2.GaussianBlur(random.normal(size=GRID.shape), (0, 0), reach) * 3.5 * reach

    logits = np.stack([cv2.GaussianBlur(np.where(layer > 0.3, 6.0, 0.0), (0, 0), 2) for layer in clean.semantic])
    logits += np.stack([1.2 * smooth(5) for _ in logits]) - np.array([1.5, 0, 0, 0])[:, None, None]
    probability = np.exp(logits) / np.exp(logits).sum(axis=0)
    embedding = np.stack([cv2.GaussianBlur(layer, (0, 0), 1.5) + 0.35 * smooth(12) for layer in clean.embedding])
    return replace(clean, semantic=probability.astype(np.float32), embedding=embedding.astype(np.float32))


def timed(function: Callable[[], Any], repeats: int) -> tuple[Any, float]:
    """The result and the CPU seconds of the fastest run."""
    taken = []
    for _ in range(repeats):
        start = time.process_time()
        result = function()
        taken.append(time.process_time() - start)
    return result, min(taken)


def our_clusters(rasters: Rasters) -> list[np.ndarray]:
    best = rasters.semantic.argmax(axis=0)
    return [
        cluster_embeddings(
            class_mask(best == channel, CONFIG),
            rasters.embedding,
            eps=CONFIG.eps,
            min_samples=CONFIG.min_samples,
            min_std=CONFIG.min_std,
        )
        for channel in (1, 2, 3)
    ]


def their_clusters(rasters: Rasters, cluster: Cluster) -> list[np.ndarray]:
    best = rasters.semantic.argmax(axis=0)
    return [published_clusters(best == channel, rasters.embedding, cluster) for channel in (1, 2, 3)]


def our_elements(rasters: Rasters) -> list[MapElement]:
    return decode_dense(rasters.semantic, rasters.embedding, rasters.direction, CONFIG, classes=CLASSES, grid=GRID)


def their_elements(rasters: Rasters, cluster: Cluster = scikit_dbscan) -> list[MapElement]:
    return [
        MapElement(CLASSES[channel - 1], GRID.to_metres(points.astype(np.float64)), score=score)
        for channel, score, points in published_lines(rasters, cluster)
        if len(points) > 1
    ]


def our_lines(rasters: Rasters) -> list[np.ndarray]:
    return [element.points for element in our_elements(rasters)]


def their_lines(rasters: Rasters, cluster: Cluster) -> list[np.ndarray]:
    return [element.points for element in their_elements(rasters, cluster)]


def describe(stage: str, result: list[np.ndarray], rasters: Rasters, lines: list[tuple[int, np.ndarray]]) -> str:
    if stage == "clustering":
        best = rasters.semantic.argmax(axis=0)
        pairs = [(labels[best == c], rasters.instance[best == c]) for c, labels in enumerate(result, start=1)]
        left_out = sum(int((labels == 0).sum()) for labels, _ in pairs)
        return f"{sum(as_drawn(*pair) for pair in pairs)} of 3 classes as drawn, {left_out} cells left out"
    nearest = [min(result, key=lambda line: chamfer(line, points)) for _, points in lines]
    worst = max(chamfer(line, points) for line, (_, points) in zip(nearest, lines, strict=True))
    longer = max(
        polyline.length(line) / polyline.length(points) for line, (_, points) in zip(nearest, lines, strict=True)
    )
    vertices = sum(map(len, result))
    return f"{len(result)} lines, {vertices} points, Chamfer <= {worst:.2f} m, length <= {longer:.2f}"


def as_drawn(labels: np.ndarray, drawn: np.ndarray) -> bool:
    """Whether clusters (N,) and lines (N,) are one to one, but for cells left out."""
    pairs = {(a, b) for a, b in zip(labels.tolist(), drawn.tolist(), strict=True) if a > 0}
    return len(pairs) == len({a for a, _ in pairs}) == len(set(drawn.tolist()))


def chamfer(line: np.ndarray, target: np.ndarray) -> float:
    lines = np.stack([polyline.resample(np.asarray(path, np.float64), 300) for path in (line, target)])
    return float(chamfer_distances(lines[:1], lines[1:])[0, 0])


if __name__ == "__main__":
    main()
