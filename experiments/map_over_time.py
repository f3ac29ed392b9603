"""What the map over time is worth: steadier numbers and a better map than each instant alone, on synthetic drives.

Every firing cycle of the cameras is mapped by the shipped student. Three rows: single maps with numbers by
nearest-neighbour association of successive maps, the same maps with numbers by tracks, and the fused map cut to what
the car sees at each instant. The published tables are in docs/results/map_over_time.md.

Run: python experiments/map_over_time.py DATAROOT [--drives 6:12]
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from hdmap_core.datasets.nuscenes import CAMERAS, NuScenesDataset, Scene
from hdmap_core.datasets.nuscenes.firing_cycles import observe_cycle
from hdmap_core.datasets.nuscenes.splits import official_splits
from hdmap_core.elements import MapElement
from hdmap_core.fusion.association import Tracker
from hdmap_core.fusion.cropping import cropped
from hdmap_core.fusion.local_map import LocalMap
from hdmap_core.geometry import BEVGrid, se3
from hdmap_core.inference import Predictor, default_weights, load_predictor
from hdmap_core.metrics.chamfer_ap import CLASSES
from hdmap_core.metrics.chamfer_distance import chamfer_distances, resampled
from hdmap_core.metrics.consistency import TrackedFrame, consistency, truth_tracks

GATE_M = 1.5  # of the nearest-neighbour association, as of the tracks
REACH_M = 100.0


@dataclass(frozen=True)
class Instant:
    """One firing cycle: the car's pose, what the model says, what is true (with its tracks)."""

    stamp_ns: int
    map_from_ego: np.ndarray
    elements: list[MapElement]
    truth: list[MapElement]


def drive_of(dataset: NuScenesDataset, scene: Scene, predictor: Predictor) -> list[Instant]:
    """Every firing cycle of a scene, in the ego frame of CAM_FRONT's stamp, as in the node."""
    frames = dataset.sensor_frames(scene, CAMERAS)
    instants = []
    for anchor in (frame for frame in frames if frame.channel == "CAM_FRONT"):
        prediction = predictor.predict(observe_cycle(frames, anchor))
        truth = dataset.vector_map(scene.location).elements(anchor.map_from_ego)
        instants.append(Instant(anchor.stamp_ns, anchor.map_from_ego, prediction.elements, truth))
    tracked = truth_tracks([each.truth for each in instants], [each.map_from_ego for each in instants])
    return [replace(each, truth=truth) for each, truth in zip(instants, tracked, strict=True)]


def by_nearest(drive: Sequence[Instant]) -> list[list[MapElement]]:
    """The baseline: each element takes the number of the nearest one of the map before, the nearest pair first."""
    last: list[MapElement] = []
    number, pose, result = 0, np.eye(4), []
    for each in drive:
        moved = se3.inverse(each.map_from_ego) @ pose
        old = [resampled(e.path.astype(np.float64) @ moved[:2, :2].T + moved[:2, 3], 100) for e in last]
        new = [resampled(e.path.astype(np.float64), 100) for e in each.elements]
        distance = np.full((len(new), len(old)), np.inf)
        if new and old:
            distance = chamfer_distances(np.stack(new), np.stack(old), GATE_M)
            same = [[a.label is b.label for b in last] for a in each.elements]
            distance[~np.array(same)] = np.inf
        numbers = [0] * len(new)
        while distance.size and np.isfinite(distance.min()):
            row, column = np.unravel_index(int(distance.argmin()), distance.shape)
            numbers[row] = last[column].track_id
            distance[row], distance[:, column] = np.inf, np.inf
        for index in (index for index, given in enumerate(numbers) if not given):
            number += 1
            numbers[index] = number
        last = [replace(e, track_id=n) for e, n in zip(each.elements, numbers, strict=True)]
        pose = each.map_from_ego
        result.append(last)
    return result


def by_tracks(drive: Sequence[Instant], region: BEVGrid, spent: list[float]) -> list[list[MapElement]]:
    """Numbers by the tracker."""
    tracker, result = Tracker(), []
    for each in drive:
        begin = time.process_time()
        result.append(tracker.update(each.elements, each.map_from_ego, region))
        spent.append(time.process_time() - begin)
    return result


def fused(
    drive: Sequence[Instant], region: BEVGrid, adding: list[float], tracing: list[float]
) -> list[list[MapElement]]:
    """The fused map of all instants so far, cut to what the car sees now."""
    local_map, result = LocalMap(CLASSES, REACH_M), []
    for each in drive:
        begin = time.process_time()
        local_map.update(each.elements, each.map_from_ego, region)
        middle = time.process_time()
        known = local_map.elements()
        tracing.append(time.process_time() - middle)
        adding.append(middle - begin)
        result.append(cropped(known, se3.inverse(each.map_from_ego) @ local_map.fixed_from_map, region))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataroot", type=Path)
    parser.add_argument("--drives", default=":", help="which of the val scenes, as a slice of Python")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    first, _, last = arguments.drives.partition(":")
    dataset = NuScenesDataset(arguments.dataroot)
    splits = official_splits()
    held_out = {*splits["val"], *splits["mini_val"]}
    scenes = [scene for scene in dataset.scenes if scene.name in held_out]
    scenes = scenes[slice(int(first or 0), int(last) if last else None)]
    predictor = load_predictor(default_weights(), "cpu")
    region = predictor.info.grid
    drives = {scene.name: drive_of(dataset, scene, predictor) for scene in scenes}
    minutes = sum(drive[-1].stamp_ns - drive[0].stamp_ns for drive in drives.values()) * 1e-9 / 60
    tracking: list[float] = []
    adding: list[float] = []
    tracing: list[float] = []
    rows = {
        "single maps, nearest neighbour": {name: by_nearest(drive) for name, drive in drives.items()},
        "single maps, tracks": {name: by_tracks(drive, region, tracking) for name, drive in drives.items()},
        "fused map": {name: fused(drive, region, adding, tracing) for name, drive in drives.items()},
    }
    number = sum(map(len, drives.values()))
    columns = ("maps", "mAP", *(label.value for label in CLASSES), "C-mAP", "switches", "per minute", "matches")
    table = Table(*columns, title=f"{len(drives)} drives of {', '.join(drives)}: {number} maps, {minutes:.2f} minutes")
    for name, maps in rows.items():
        frames = {
            drive: [TrackedFrame(found, each.truth) for found, each in zip(maps[drive], drives[drive], strict=True)]
            for drive in drives
        }
        score = consistency(frames)
        classes = [f"{each.mean_ap:.3f}" for each in score.plain.classes.values()]
        switches, matches = sum(score.switches.values()), sum(score.matches.values())
        rate = f"{switches / minutes:.1f}"
        ap = f"{score.plain.mean_ap:.3f}", *classes, f"{score.consistent.mean_ap:.3f}"
        table.add_row(name, *ap, str(switches), rate, str(matches))
    Console(width=140).print(table)
    costs = {"numbering a map": tracking, "adding it to the fused map": adding, "tracing the fused map": tracing}
    for name, seconds in costs.items():
        median, late = np.percentile(seconds, [50, 95]) * 1e3
        print(f"{name}: {median:.2f} ms of CPU (p95 {late:.2f})")


if __name__ == "__main__":
    main()
