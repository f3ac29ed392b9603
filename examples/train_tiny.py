"""A model trained from nothing in minutes on two CPU cores, then scored on towns that it has not seen.

    hdmap synth data/tiny --preset tiny --towns 24 --keyframes 8 --lidar none
    python examples/train_tiny.py data/tiny -o runs/tiny

The same on the command line: hdmap train config/recipes/tiny/ground.yaml data.root=data/tiny -o runs/tiny
"""

import argparse
from pathlib import Path

from rich.console import Console

from hdmap_core import NuScenesDataset, load_predictor
from hdmap_core.config import load_config
from hdmap_core.metrics.chamfer_ap import chamfer_ap
from training.config import TrainConfig
from training.train import train

RECIPE = Path(__file__).resolve().parents[1] / "config" / "recipes" / "tiny" / "ground.yaml"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataroot", type=Path, help="a nuScenes folder, real or synthetic")
    parser.add_argument("-o", "--out", type=Path, default=Path("runs/tiny"), help="the run folder; a run goes on")
    parser.add_argument("changes", nargs="*", help="to the recipe: optim.steps=2000 model.grid.resolution=0.3")
    arguments = parser.parse_intermixed_args()

    config = load_config(TrainConfig, RECIPE, [f"data.root={arguments.dataroot}", *arguments.changes])
    best = train(config, arguments.out, Console())
    print(f"best {config.best_by} of the validations: {best:.3f}")

    predictor = load_predictor(arguments.out)  # a run folder: its best checkpoint
    dataset, grid = NuScenesDataset(arguments.dataroot), predictor.info.grid
    unseen = dataset.tokens[-4:]  # of the last town, which is one to validate with
    predictions = {token: predictor.predict(dataset[token]).elements for token in unseen}
    truth = {token: dataset.elements(token, grid.x_range, grid.y_range) for token in unseen}
    print(f"mAP of {len(unseen)} keyframes: {chamfer_ap(predictions, truth).mean_ap:.3f} → {arguments.out}")


if __name__ == "__main__":
    main()
