"""Loading speed of the formats: one synthetic drive as nuScenes folder, frames folder and Argoverse 2 logs.

    python benchmarks/dataset_formats.py --keyframes 8

Prints CPU milliseconds: opening the folder, and per keyframe the truth (the first reads the map), an observation of
images, and one of LiDAR points. Formats take turns, so that a busy machine slows all alike; the least of
the turns counts.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from hdmap_core.datasets.frames.writing import from_nuscenes
from hdmap_core.datasets.nuscenes import NuScenesDataset
from hdmap_core.datasets.opening import open_dataset
from hdmap_core.datasets.protocol import MapDataset
from hdmap_core.datasets.synthetic.argoverse_writer import write_logs
from hdmap_core.datasets.synthetic.presets import PRESETS
from hdmap_core.datasets.synthetic.writer import write_dataset


def cpu_ms(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return 1000 * (time.process_time() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keyframes", type=int, default=8)
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    update = {"towns": {"val": 1}, "keyframes": options.keyframes, "image_size": (450, 800)}
    config = PRESETS["tiny"].model_copy(update=update)
    with tempfile.TemporaryDirectory() as folder:
        roots = {name: Path(folder) / name for name in ("nuscenes", "frames", "av2")}
        write_dataset(roots["nuscenes"], config)
        write_logs(roots["av2"], config)
        written = NuScenesDataset(roots["nuscenes"])
        from_nuscenes(written, written.scenes, roots["frames"])
        for root in roots.values():
            measured(root)  # packages are imported, files are in the cache
        turns = [{name: measured(root) for name, root in roots.items()} for _ in range(options.turns)]
    print(f"{'':10}" + "".join(f"{column:>14}" for column in COLUMNS))
    for name in roots:
        least = [min(turn[name][column] for turn in turns) for column in COLUMNS]
        print(f"{name:10}" + "".join(f"{value:11.1f} ms" for value in least))


COLUMNS = ("open", "first truth", "truth", "images", "points")


def measured(root: Path) -> dict[str, float]:
    """CPU milliseconds of each column, all but the first two per keyframe."""
    found: list[MapDataset] = []
    values = {"open": cpu_ms(lambda: found.append(open_dataset(root)) or found[0].tokens)}
    dataset = found[0]
    tokens = dataset.tokens
    values["first truth"] = cpu_ms(lambda: dataset.elements(tokens[0]))
    per_keyframe: dict[str, Callable[[str], object]] = {
        "truth": dataset.elements,
        "images": lambda token: dataset.observation(token, points=False, roads=False),
        "points": lambda token: dataset.observation(token, images=False, roads=False),
    }
    for column, work in per_keyframe.items():
        values[column] = cpu_ms(lambda work=work: [work(token) for token in tokens]) / len(tokens)
    return values


if __name__ == "__main__":
    main()
