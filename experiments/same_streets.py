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
from scoring_sets import Elements, predicted, row, score

from hdmap_core.datasets.synthetic.presets import Condition, SynthConfig
from hdmap_core.datasets.synthetic.writer import write_dataset
from hdmap_core.inference import default_weights, load_predictor


def share(some: Elements, clear: Elements, true: Elements) -> tuple[float, float]:
    """The mAP of predictions by that of others of the same keyframes, and its standard error over the scenes."""
    scenes = {scene for scene, _ in true}

    def ratio(of: set[str]) -> float:
        return score(some, true, of).mean_ap / score(clear, true, of).mean_ap

    without = np.array([ratio(scenes - {scene}) for scene in scenes]) if len(scenes) > 1 else np.full(1, np.nan)
    error = np.sqrt((len(without) - 1) * np.var(without))
    return ratio(scenes), float(error)


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
    clear: Elements = {}
    for condition in conditions:
        folder = options.out / options.split / condition
        write_dataset(folder, config.model_copy(update={"weather": condition}), options.workers)
        said, true = predicted(folder, predictor)
        clear = clear or said
        ratio, error = share(said, clear, true)
        line = (condition, *row(said, true), f"{ratio:.2f}", f"{error:.2f}")
        print(*line, flush=True)
        table.add_row(*line)
    console.print(table)


if __name__ == "__main__":
    main()
