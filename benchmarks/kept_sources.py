"""What `data.keep_sources` saves: CPU per step of a training untaught, taught by sources that run, and by kept outputs.

Each way trains the recipe for a few steps and for more, one after the other; the difference is the steps' alone. The
first round fills the disk and does not count. One thread, no loader processes, so that all CPU is seen.

Run: python benchmarks/kept_sources.py RECIPE [--steps 40] [--rounds 3] FIELD=VALUE ...
Such as: ... config/recipes/mapkd/3_student.yaml data.root=data/synth sources.teacher=RUN sources.coach=RUN
"""

import argparse
import statistics
import tempfile
from pathlib import Path

import torch
from measuring import cpu_s, figures
from rich.console import Console

from hdmap_core.config import load_config
from training.config import TrainConfig
from training.train import train

FEW = 5
MOVES_NOTHING = ["augment.mirror=0", "augment.turn=0", "augment.rotate=0", "augment.shift=0"]
WAYS = {
    "untaught": ["objective=supervised", "distillation=[]", "sources={}"],
    "sources run": ["data.keep_sources=false"],
    "kept": ["data.keep_sources=true"],
}


def spent_s(recipe: Path, overrides: list[str], steps: int) -> float:
    """CPU seconds of a training of so many steps, its beginning and its end included."""
    length = [f"optim.steps={steps}", f"save_every={steps}", f"evaluate_every={steps}", "evaluate_frames=1"]
    config = load_config(TrainConfig, recipe, [*MOVES_NOTHING, "data.workers=0", *overrides, *length])
    with tempfile.TemporaryDirectory() as folder:
        return cpu_s(lambda: train(config, folder, Console(quiet=True)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path, help="one with objective distillation")
    parser.add_argument("overrides", nargs="*", metavar="FIELD=VALUE", help="as of `hdmap train`")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_intermixed_args()
    torch.set_num_threads(1)
    spent_ms: dict[str, list[float]] = {way: [] for way in WAYS}
    for number in range(arguments.rounds + 1):
        for way, deviations in WAYS.items():
            overrides = [*arguments.overrides, *deviations]
            few, all_s = (spent_s(arguments.recipe, overrides, steps) for steps in (FEW, FEW + arguments.steps))
            if number:
                spent_ms[way].append(1e3 * (all_s - few) / arguments.steps)
    title = f"CPU ms per step, median of {arguments.rounds} rounds of {arguments.steps} steps"
    table = figures(title, "way", "CPU ms", "least", "most", "sources run = 1")
    middle = {way: statistics.median(found) for way, found in spent_ms.items()}
    for way, found in spent_ms.items():
        share = middle[way] / middle["sources run"]
        table.add_row(way, f"{middle[way]:.0f}", f"{min(found):.0f}", f"{max(found):.0f}", f"{share:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
