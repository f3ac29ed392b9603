"""Time of scoring 500 random frames: ours against one pair at a time with shapely, as the published code does it.

Run: python benchmarks/chamfer_ap.py [--frames 500]
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
from measuring import figures
from rich.console import Console
from shapely import LineString

from hdmap_core.elements import MapClass, MapElement
from hdmap_core.metrics.chamfer_ap import CLASSES, PROTOCOLS, average_precision, chamfer_ap

Frames = dict[str, list[MapElement]]


def random_frames(num_frames: int, seed: int = 0) -> tuple[Frames, Frames]:
    """Predictions and truth: per class 0..6 true lines, each found with some error, and as many false ones."""
    generator = np.random.default_rng(seed)

    def walk() -> np.ndarray:
        start = generator.uniform([-30, -15], [30, 15])
        return start + np.cumsum(generator.normal(0, 1, 2) + generator.normal(0, 0.3, (20, 2)), axis=0)

    predictions: Frames = {}
    truth: Frames = {}
    for index in range(num_frames):
        wanted = [MapElement(label, walk()) for label in CLASSES for _ in range(generator.integers(0, 7))]
        near = [(line.label, line.points + generator.normal(0, 0.5, 2), 0.3) for line in wanted]
        far = [(label, walk(), 0.0) for label in CLASSES for _ in range(6)]
        found = [MapElement(label, line, score=bonus + 0.7 * generator.random()) for label, line, bonus in near + far]
        predictions[str(index)], truth[str(index)] = found, wanted
    return predictions, truth


def pair_by_pair(
    predictions: Frames, truth: Frames, protocol: str = "maptr", classes: Sequence[MapClass] = CLASSES
) -> dict[tuple[MapClass, float], float]:
    """AP by class and threshold, with one shapely interpolation per point and one band per line.

    The tests hold ours against it.
    """
    rules = PROTOCOLS[protocol]

    def sample(shape: LineString) -> np.ndarray:
        return np.array([shape.interpolate(at).coords[0] for at in np.linspace(0, shape.length, rules.num_points)])

    result = {}
    for label in classes:
        frames = []
        for token, elements in truth.items():
            found = [line for line in predictions[token] if line.label == label]
            targets = [LineString(line.path) for line in elements if line.label == label]
            if rules.simplify_truth:
                targets = [target.simplify(rules.simplify_truth) for target in targets]
            ours, theirs = [sample(LineString(line.path)) for line in found], [sample(each) for each in targets]
            distance = np.full((len(ours), len(theirs)), 100.0)
            for row, column in pairs_in_reach(ours, theirs, rules.band_width):
                pairs = np.linalg.norm(ours[row][:, None] - theirs[column][None], axis=-1)
                distance[row, column] = (pairs.min(axis=0).mean() + pairs.min(axis=1).mean()) / 2
            frames.append((np.array([line.score for line in found]), distance))
        num_truth = sum(distance.shape[1] for _, distance in frames)
        for threshold in rules.thresholds:
            pooled = []
            for scores, distance in frames:
                taken = set()
                for row in np.argsort(-scores):
                    nearest = int(distance[row].argmin()) if distance.shape[1] else -1
                    hit = nearest >= 0 and distance[row, nearest] <= threshold and nearest not in taken
                    if hit:
                        taken.add(nearest)
                    pooled.append((scores[row], hit))
            hits = np.array([hit for _, hit in sorted(pooled, key=lambda entry: -entry[0])])
            found_so_far = np.cumsum(hits)
            recall, precision = found_so_far / max(num_truth, 1), found_so_far / np.arange(1, len(hits) + 1)
            result[label, threshold] = average_precision(recall, precision)
    return result


def pairs_in_reach(
    ours: list[np.ndarray], theirs: list[np.ndarray], band_width: float | None
) -> Iterator[tuple[int, int]]:
    """Those whose bands touch; without bands all."""
    if band_width is None:
        yield from product(range(len(ours)), range(len(theirs)))
        return
    bands, others = (
        [LineString(line).buffer(band_width, cap_style="flat", join_style="mitre") for line in lines]
        for lines in (ours, theirs)
    )
    for (row, band), (column, other) in product(enumerate(bands), enumerate(others)):
        if band.intersects(other):
            yield row, column


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=500)
    predictions, truth = random_frames(parser.parse_args().frames)
    start = time.perf_counter()
    ours = chamfer_ap(predictions, truth).mean_ap
    middle = time.perf_counter()
    theirs = float(np.mean(list(pair_by_pair(predictions, truth).values())))
    end = time.perf_counter()
    num_frames = len(truth)
    title = f"Chamfer AP, protocol maptr, {num_frames} frames, one process"
    table = figures(title, "implementation", "mAP", "seconds", "ms per frame", "ratio")
    for name, value, seconds in (("ours", ours, middle - start), ("pair by pair, shapely", theirs, end - middle)):
        milliseconds = f"{1000 * seconds / num_frames:.1f}"
        table.add_row(name, f"{value:.4f}", f"{seconds:.2f}", milliseconds, f"{seconds / (middle - start):.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
