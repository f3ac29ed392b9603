"""A small student taught by a larger teacher beside ground truth, and, to compare, one by ground truth alone.

    hdmap synth data/tiny --preset tiny --towns 24 --keyframes 8 --lidar none
    python examples/distil_tiny.py data/tiny -o runs/distil

Which terms there are, and what they compare: docs/distillation.md.
"""

import argparse
from pathlib import Path

from rich.console import Console

from hdmap_core.config import load_config
from training.config import TrainConfig
from training.train import train

RECIPE = Path(__file__).resolve().parents[1] / "config" / "recipes" / "tiny" / "ground.yaml"
TEACHER = ["model.name=teacher", "model.bev_encoder={kind: unet, channels: [32, 32], blocks: [2, 2], out_channels: 32}"]
TERMS = [
    "objective=distillation",
    "distillation=[{kind: msrd, source: teacher, mask: soft, weight: 1.0},"  # the teacher's masks
    " {kind: bev_features, source: teacher, taps: [bev], weight: 0.1}]",  # and the features that its heads see
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataroot", type=Path, help="a nuScenes folder, real or synthetic")
    parser.add_argument("-o", "--out", type=Path, default=Path("runs/distil"), help="folder of three run folders")
    parser.add_argument("changes", nargs="*", help="to all three recipes: optim.steps=2000")
    arguments = parser.parse_intermixed_args()

    def trained(name: str, *changes: str) -> float:
        common = [f"data.root={arguments.dataroot}", f"model.name={name}", *changes, *arguments.changes]
        return train(load_config(TrainConfig, RECIPE, common), arguments.out / name, Console())

    scores = {
        "teacher": trained("teacher", *TEACHER),
        "alone": trained("alone"),
        # A teacher that sees the car turned would have to be turned alike; here nothing is in the way of it.
        "taught": trained("taught", *TERMS, f"sources.teacher={arguments.out / 'teacher'}"),
    }
    for name, score in scores.items():
        print(f"{name:<8} {score:.3f}")


if __name__ == "__main__":
    main()
