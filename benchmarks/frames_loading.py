#!/usr/bin/env python3
"""How long the same keyframes take to load from a nuScenes folder and from a frames folder, in one run, in turns.

benchmarks/frames_loading.py [--towns 4] [--keyframes 20] [--rounds 5]
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from hdmap_core.datasets.frames.writing import from_nuscenes
from hdmap_core.datasets.nuscenes import NuScenesDataset
from hdmap_core.datasets.opening import open_dataset, with_index
from hdmap_core.datasets.protocol import MapDataset
from hdmap_core.datasets.synthetic.presets import PRESETS
from hdmap_core.datasets.synthetic.writer import write_dataset

_OPEN = (
    "from hdmap_core.datasets.opening import open_dataset; import time; s = time.perf_counter(); "
    "d = open_dataset({root!r}, cache={cache}); d.keyframe(d.tokens[0]); print(time.perf_counter() - s)"
)


def opening(root: Path, cache: Path | None) -> float:
    """Seconds in a process of its own, without the imports: nothing is in memory yet."""
    place = "None" if cache is None else f"__import__('pathlib').Path({str(cache)!r})"
    code = _OPEN.format(root=str(root), cache=place)
    return float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)


def per_keyframe(dataset: MapDataset, load: Callable[[MapDataset, str], object]) -> float:
    """CPU seconds of the process for one keyframe, on average over all."""
    started = time.process_time()
    for token in dataset.tokens:
        load(dataset, token)
    return (time.process_time() - started) / len(dataset.tokens)


LOADS: dict[str, Callable[[MapDataset, str], object]] = {
    "rig and pose": lambda dataset, token: dataset.observation(token, images=False, points=False, roads=False),
    "images, LiDAR, roads": lambda dataset, token: dataset.observation(token),
    "true elements": lambda dataset, token: dataset.elements(token),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--towns", type=int, default=4)
    parser.add_argument("--keyframes", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        root, frames, cache = Path(place) / "nuscenes", Path(place) / "frames", Path(place) / "cache"
        change = {"towns": {"train": arguments.towns}, "keyframes": arguments.keyframes, "image_size": (90, 160)}
        write_dataset(root, PRESETS["tiny"].model_copy(update={**change, "lidar": "keyframes"}))
        nuscenes = NuScenesDataset(root)
        from_nuscenes(nuscenes, nuscenes.scenes, frames)
        with_index(nuscenes, cache)
        ways = {"nuScenes, tables": (root, None), "nuScenes, index": (root, cache), "frames": (frames, None)}
        datasets = {name: open_dataset(where, cache=index) for name, (where, index) in ways.items()}
        for dataset in datasets.values():  # maps are read once
            dataset.elements(dataset.tokens[0])
        times: dict[str, dict[str, list[float]]] = {name: {"opening": [], **{w: [] for w in LOADS}} for name in ways}
        for _ in range(arguments.rounds):
            for name, (where, index) in ways.items():
                times[name]["opening"].append(opening(where, index))
                for what, load in LOADS.items():
                    times[name][what].append(per_keyframe(datasets[name], load))
        table = Table("milliseconds, median", "opening", *LOADS, title=f"{len(nuscenes.tokens)} keyframes")
        for name, measured in times.items():
            table.add_row(name, *(f"{1e3 * statistics.median(values):.2f}" for values in measured.values()))
        Console().print(table)


if __name__ == "__main__":
    main()
