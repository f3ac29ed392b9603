#!/usr/bin/env python3
"""How long the same keyframes take to load in each format: nuScenes folder, frames folder, Argoverse 2 logs.

benchmarks/dataset_formats.py [--towns 2] [--keyframes 10] [--rounds 3] [--long 40000]

Prints CPU milliseconds, medians. Opening is that of a process of its own, to the first keyframe's files, without the
imports; the rest is per keyframe, the first truth, which reads the map, apart. Formats take turns, so that a busy
machine slows all alike. `--long` opens a frames.jsonl of so many frames of six cameras besides.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from measuring import cpu_s
from rich.console import Console
from rich.table import Table

from hdmap_core.datasets.frames.writing import from_nuscenes
from hdmap_core.datasets.nuscenes import NuScenesDataset
from hdmap_core.datasets.opening import open_dataset, with_index
from hdmap_core.datasets.protocol import MapDataset
from hdmap_core.datasets.synthetic.argoverse_writer import write_logs
from hdmap_core.datasets.synthetic.presets import PRESETS
from hdmap_core.datasets.synthetic.writer import write_dataset

_OPEN = """
import contextlib, time, pyarrow.compute, pyarrow.feather
with contextlib.suppress(ImportError):
    import pandas  # pyarrow does where it is
import hdmap_core.datasets.argoverse, hdmap_core.datasets.nuscenes, hdmap_core.datasets.frames.dataset
from hdmap_core.datasets.opening import open_dataset
from pathlib import Path
held = lambda: int(Path("/proc/self/statm").read_text().split()[1]) / 256
before, start = held(), time.process_time()
dataset = open_dataset(Path({root!r}), cache={cache} and Path({cache}))
dataset.keyframe(dataset.tokens[0])
print(time.process_time() - start, held() - before)
"""
LOADS: dict[str, Callable[[MapDataset, str], object]] = {
    "rig and pose": lambda dataset, token: dataset.observation(token, images=False, points=False, roads=False),
    "images": lambda dataset, token: dataset.observation(token, points=False, roads=False),
    "points": lambda dataset, token: dataset.observation(token, images=False, roads=False),
    "truth": lambda dataset, token: dataset.elements(token),
}


def opening(root: Path, cache: Path | None) -> tuple[float, float]:
    """CPU seconds, and MiB that the process holds more than before."""
    code = _OPEN.format(root=str(root), cache=None if cache is None else repr(str(cache)))
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    seconds, grown = map(float, told.split())
    return seconds, grown


def write_long(frames: Path, count: int, target: Path) -> None:
    """A frames.jsonl of so many frames, made of the first of a folder; their images are not there."""
    first = json.loads((frames / "frames.json").read_text())["frames"][0]
    target.mkdir()
    with (target / "frames.jsonl").open("w") as stream:
        for number in range(count):
            stamp_ns = first["stamp_ns"] + number * 500_000_000
            frame = first | {"token": f"frame-{number}", "scene": f"scene-{number // 400}", "stamp_ns": stamp_ns}
            stream.write(json.dumps(frame) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--towns", type=int, default=2)
    parser.add_argument("--keyframes", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--long", type=int, default=0)
    options = parser.parse_args()
    change = {"towns": {"train": options.towns}, "keyframes": options.keyframes, "image_size": (450, 800)}
    config = PRESETS["tiny"].model_copy(update={**change, "lidar": "keyframes"})
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        write_dataset(place / "nuscenes", config)
        write_logs(place / "argoverse", config)
        nuscenes = NuScenesDataset(place / "nuscenes")
        from_nuscenes(nuscenes, nuscenes.scenes, place / "frames")
        with_index(nuscenes, place / "cache")
        ways = {
            "nuScenes, tables": (place / "nuscenes", None),
            "nuScenes, index": (place / "nuscenes", place / "cache"),
            "frames": (place / "frames", None),
            "Argoverse 2": (place / "argoverse", None),
        }
        columns = ("opening", "first truth", *LOADS)
        times: dict[str, dict[str, list[float]]] = {name: {column: [] for column in columns} for name in ways}
        for _ in range(options.rounds):
            for name, (root, cache) in ways.items():
                measured, dataset = times[name], open_dataset(root, cache=cache)
                tokens = dataset.tokens
                measured["opening"].append(opening(root, cache)[0])
                measured["first truth"].append(cpu_s(partial(dataset.elements, tokens[0])))
                for what, load in LOADS.items():
                    measured[what].append(sum(cpu_s(partial(load, dataset, token)) for token in tokens) / len(tokens))
        table = Table("CPU ms, median", *columns, title=f"{len(nuscenes.tokens)} keyframes")
        for name, measured in times.items():
            table.add_row(name, *(f"{1e3 * statistics.median(measured[column]):.2f}" for column in columns))
        Console(width=120).print(table)
        if options.long:
            write_long(place / "frames", options.long, place / "long")
            runs = [opening(place / "long", None) for _ in range(options.rounds)]
            seconds, grown = (statistics.median(each) for each in zip(*runs, strict=True))
            Console().print(
                f"frames.jsonl of {options.long} frames: opened in {seconds:.2f} s of CPU, {grown:.0f} MiB held"
            )


if __name__ == "__main__":
    main()
