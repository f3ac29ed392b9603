"""What a checkpoint makes of weather and night: the same towns, drives and traffic in every condition.

The second edition's towns are written once for each condition. What is on the road, what stands and moves beside it,
the cameras and their faults are the same in all; so what the score loses, the weather takes. The error of a share of
the clear day's mAP is the jackknife's: what it would be without one of the scenes, for each. The published tables:
docs/results/student.md.

Run: python experiments/same_streets.py OUT [--split val] [--weights FILE] [--towns 12] [--keyframes 12] [--workers 1]
"""

import argparse
from pathlib import Path
from typing import get_args

import numpy as np
from rich.console import Console
from rich.table import Table
from scoring_sets import Elements, predicted, row

from hdmap_core.datasets.synthetic.presets import Condition, SynthConfig
from hdmap_core.datasets.synthetic.writer import write_dataset
from hdmap_core.inference import default_weights, load_predictor
from hdmap_core.metrics.chamfer_ap import CLASSES, PROTOCOLS, Matches, match_classes, pooled_score

PROTOCOL = "maptr"
ByScene = dict[str, Matches]
"""Scene -> the matches of its keyframes."""


def matched(said: Elements, true: Elements) -> ByScene:
    """What was found of every scene, by MapTR's protocol."""
    found = {}
    for scene in dict.fromkeys(scene for scene, _ in true):
        found_there, true_there = ({str(key): of[key] for key in true if key[0] == scene} for of in (said, true))
        found[scene] = match_classes(found_there, true_there, PROTOCOL)
    return found


def share(some: ByScene, clear: ByScene) -> tuple[float, float]:
    """The mAP of some predictions by that of others of the same keyframes, and its standard error over the scenes."""

    def ratio(left_out: str | None = None) -> float:
        return _mean_ap(some, left_out) / _mean_ap(clear, left_out)

    without = np.array([ratio(scene) for scene in some]) if len(some) > 1 else np.full(1, np.nan)
    return ratio(), float(np.sqrt((len(without) - 1) * np.var(without)))


def _mean_ap(matches: ByScene, left_out: str | None) -> float:
    kept = [of_scene for scene, of_scene in matches.items() if scene != left_out]
    frames = ([frame for of_scene in kept for frame in of_scene[label].values()] for label in CLASSES)
    return float(np.mean([pooled_score(of_class, PROTOCOLS[PROTOCOL]).mean_ap for of_class in frames]))


def main() -> None:
    """Writes what is not there yet, predicts, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder for the sets, one per split and condition")
    parser.add_argument("--split", choices=("val", "test"), default="val")
    parser.add_argument("--weights", type=Path, default=default_weights(), help="checkpoint; the shipped student")
    parser.add_argument("--towns", type=int, default=12)
    parser.add_argument("--keyframes", type=int, default=12, help="of each town, half a second apart")
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    predictor, console = load_predictor(options.weights), Console(width=140)
    config = SynthConfig(
        edition=2, towns={options.split: options.towns}, keyframes=options.keyframes, image_size=(450, 800),
        lidar="none",
    )  # fmt: skip
    table = Table("weather", "keyframes", "mAP", "divider", "ped crossing", "boundary", "of a clear day's", "error")
    conditions: tuple[Condition, ...] = get_args(Condition)
    clear: ByScene = {}
    for condition in conditions:
        folder = options.out / options.split / condition
        write_dataset(folder, config.model_copy(update={"weather": condition}), options.workers)
        said, true = predicted(folder, predictor)
        found = matched(said, true)
        clear = clear or found
        ratio, error = share(found, clear)
        line = (condition, *row(said, true), f"{ratio:.2f}", f"{error:.2f}")
        print(*line, flush=True)
        table.add_row(*line)
    console.print(table)


if __name__ == "__main__":
    main()
