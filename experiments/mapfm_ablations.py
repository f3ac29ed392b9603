"""MapFM's ablations on synth-v1: does the ARSS head help, which features to aggregate, full or lean gather?

    python experiments/mapfm_ablations.py DATAROOT OUT [--seeds 0 1 2] [--steps N] [--variants base lean]

DATAROOT is `hdmap synth DATAROOT --preset v1 --image-size 225x400 --lidar none`. Every run lands in
OUT/<variant>-<seed>; finished ones are not repeated. Ends with a table over the seeds, on the test towns.
"""

import argparse
import json
import statistics
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from hdmap_core.checkpoint import find_checkpoint, load_checkpoint
from hdmap_core.config import load_config
from training.config import TrainConfig
from training.data.keyframes import load_keyframes
from training.train import quick_score, train

RECIPE = Path(__file__).with_name("mapfm_small.yaml")
VARIANTS = {
    "base": [],
    "without ARSS": ["model.auxiliary.surface=[]"],
    "last": ["model.backbone.aggregation=last", "model.backbone.features=[2]"],
    "concat": ["model.backbone.aggregation=concat"],
    "lean": ["model.vectors.gather=lean"],
}


def run(variant: str, seed: int, data: Path, out: Path, steps: int | None, console: Console) -> dict[str, float]:
    """Trains one variant with one seed, unless that has been done, and scores it on the test towns."""
    folder = out / f"{variant.replace(' ', '-')}-{seed}"
    result = folder / "test.json"
    if not result.is_file():
        length = [] if steps is None else [f"optim.steps={steps}"]
        config = load_config(TrainConfig, RECIPE, [f"data.root={data}", f"seed={seed}", *VARIANTS[variant], *length])
        train(config, folder, console)
        test = load_keyframes(data, "test", config.model, keep_inputs=True)
        config = config.model_copy(update={"evaluate_frames": len(test)})
        checkpoint = load_checkpoint(find_checkpoint(folder / "checkpoints" / "last.safetensors"))
        scores = quick_score(checkpoint.model, test, config)
        scores["parameters_m"] = sum(p.numel() for p in checkpoint.model.parameters()) / 1e6
        result.write_text(json.dumps(scores))
    return json.loads(result.read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataroot", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--steps", type=int, help="instead of the recipe's")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    console = Console()
    table = Table("variant", "parameters (M)", "test mAP, mean ± std", "per seed", "against base, per seed")
    scores: dict[str, list[float]] = {}
    for seed in arguments.seeds:  # seed by seed, so that an early stop leaves complete rows
        for variant in arguments.variants:
            found = run(variant, seed, arguments.dataroot, arguments.out, arguments.steps, console)
            scores.setdefault(variant, []).append(found["mAP"])
            scores.setdefault(f"{variant} parameters", []).append(found["parameters_m"])
    for variant in arguments.variants:
        values = scores[variant]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        apart = [a - b for a, b in zip(values, scores.get("base", values), strict=True)]
        table.add_row(
            variant,
            f"{scores[f'{variant} parameters'][0]:.2f}",
            f"{statistics.mean(values):.3f} ± {spread:.3f}",
            ", ".join(f"{value:.3f}" for value in values),
            ", ".join(f"{value:+.3f}" for value in apart),
        )
    console.print(table)


if __name__ == "__main__":
    main()
