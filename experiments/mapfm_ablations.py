"""MapFM's ablations on synth-v1: does the ARSS head help, which features to aggregate, full or lean gather? And what
are ImageNet weights worth (`--studies pretrained_backbone`)?

    python experiments/mapfm_ablations.py DATAROOT OUT [--studies mapfm_ground] [--seeds 0 1 2]

DATAROOT is `hdmap synth DATAROOT --preset v1 --image-size 225x400 --lidar none`. Every run lands in
OUT/<study>-<variant>-<seed>; finished ones are not repeated. Each study ends with a table, on the test towns.
"""

import argparse
from pathlib import Path

import torch
from mapkd_rows import spread, test
from rich.console import Console
from rich.table import Table

from hdmap_core.config import load_config
from training.config import TrainConfig
from training.train import train

STUDIES: dict[str, dict[str, list[str]]] = {
    "mapfm_ground": {
        "base": [],
        "without ARSS": ["model.auxiliary.surface=[]"],
        "lean gather": ["model.vectors.gather=lean"],
    },
    "mapfm_images": {
        "base": [],
        "last": ["model.backbone.aggregation=last", "model.backbone.features=[2]"],
        "concat": ["model.backbone.aggregation=concat"],
    },
    "pretrained_backbone": {
        "base": [],
        "ImageNet": ["backbone_weights=efficientnet_lite0"],
    },
}
"""Recipe beside this file -> variant -> deviations. In the second, `base` is the aggregation `cnn`."""


def run(study: str, variant: str, seed: int, data: Path, out: Path, console: Console) -> dict[str, float]:
    """Trains one variant with one seed, unless that has been done, and scores it on the test towns."""
    folder = out / f"{study}-{variant.replace(' ', '-')}-{seed}"
    overrides = [f"data.root={data}", f"seed={seed}", *STUDIES[study][variant]]
    train(load_config(TrainConfig, Path(__file__).with_name(f"{study}.yaml"), overrides), folder, console)
    return test(folder, data, parts=False)


def table(study: str, scores: dict[str, list[dict[str, float]]]) -> Table:
    """One row per variant: mean and standard deviation over the seeds, and the difference to base seed by seed."""
    columns = "variant", "parameters (M)", "test mAP", "per seed", "minus base, per seed"
    result = Table(*columns, title=study)
    base = [found["mAP"] for found in scores["base"]]
    for variant, found in scores.items():
        values = [each["mAP"] for each in found]
        apart = ", ".join(f"{value - reference:+.3f}" for value, reference in zip(values, base, strict=True))
        result.add_row(variant, f"{found[0]['parameters_m']:.2f}", *spread(values), apart)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataroot", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--studies", nargs="+", default=list(STUDIES), choices=list(STUDIES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    console = Console()
    for study in arguments.studies:
        scores: dict[str, list[dict[str, float]]] = {variant: [] for variant in STUDIES[study]}
        for seed in arguments.seeds:
            for variant in STUDIES[study]:
                scores[variant].append(run(study, variant, seed, arguments.dataroot, arguments.out, console))
        console.print(table(study, scores))


if __name__ == "__main__":
    main()
