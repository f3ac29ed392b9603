"""MapKD's table on synth-v1: what LiDAR, simulated LiDAR, an SD map and the HD-map refiner each add to HDMapNet.

    python experiments/mapkd_rows.py DATAROOT OUT [--rows C C+SD] [--seeds 0 1]

DATAROOT is `hdmap synth DATAROOT --preset v1 --image-size 225x400 --lidar keyframes`. Every run lands in a
folder of OUT; finished ones are not repeated.

Every row is trained in two stages of the same lengths, in P-MapNet's order: first without the refiner, then on from
there, with the refiner (from its pre-training on true maps) in the rows that have it, without it in the others.
"""

import argparse
import json
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from hdmap_core.checkpoint import load_checkpoint
from hdmap_core.config import load_config
from hdmap_core.models import MapModel
from training.config import TrainConfig
from training.data.keyframes import load_keyframes, sweeps_for
from training.evaluation.quick_score import quick_score
from training.train import train

RECIPE = Path(__file__).with_suffix(".yaml")
PILLARS = [
    "model.lidar={kind: pillars, sweeps: 1, point_channels: 16, channels: [16, 24, 32], convolutions: [1, 1, 1], "
    "fusion_channels: 32, out_channels: 32}"
]
BACKBONE = (
    "{model: resnet18.tv_in1k, image_size: [96, 160], features: [3, 4], aggregation: double_conv, "
    "frozen_batch_norm: false, out_channels: 48, arguments: {layers: [1, 1, 1, 1], channels: [16, 24, 32, 48]}}"
)
FINER = BACKBONE.replace("[3, 4]", "[2, 3]")
SIMULATED = "model.lidar={{kind: simulated, backbone: {}, lift_splat: {{channels: 32}}, channels: 32}}"
BRANCH = [
    f"model.backbone={FINER}",
    "model.view_transform={kind: lift_splat, channels: 32}",
    *("optim.steps=800", "save_every=800", "evaluate_every=800"),
]
"""What becomes the simulated LiDAR that has learnt: a camera model that sees by lift-splat alone."""
NARROW = ["model.sd_prior={channels: 32, heads: 4, sd_channels: [16, 32], feedforward: 64}"]
SD = [*NARROW, "model.sd_prior.skip=true"]
REFINER = (
    "model.hd_refiner={patch: 4, width: 64, depth: 2, heads: 2, up_channels: 32, "
    "bev_encoder: {channels: [24, 32, 48], blocks: [1, 1, 1]}, "
    "dense: {channels: 32, last_channels: 16, embedding: 8, line_cells: 5}}"
)
MLP = [
    f"model.backbone={BACKBONE}",
    "model.view_transform={kind: mlp_ipm, weights: shared, focals: [0.79]}",
]
BASES: dict[str, list[str]] = {
    "C": [],
    "C+SD": SD,
    "C+L+SD": [*PILLARS, *SD],
    "C+simL+SD": [SIMULATED.format(BACKBONE), *SD],
    "C+simL+SD, learnt": [SIMULATED.format(FINER), *SD],
    "C+SD, longer": [*SD, *("optim.steps=1400", "save_every=1400", "evaluate_every=1400")],
    "C+SD, no skip": NARROW,
    "C+L+SD, no skip": [*PILLARS, *NARROW],
    "C (MLP)": MLP,
}
"""First stages -> deviations from the recipe. All but `C (MLP)` see the cameras by inverse perspective mapping.
`learnt` starts its simulated LiDAR from `BRANCH`, `longer` trains for as many steps as these two together, `no skip`
is the published SD fusion, whose features all pass a bottleneck at 1/8 of the resolution."""

ROWS: dict[str, tuple[str, bool]] = {
    "C": ("C", False),
    "C+SD": ("C+SD", False),
    "C+SD+HD": ("C+SD", True),
    "C+L+SD": ("C+L+SD", False),
    "C+L+SD+HD": ("C+L+SD", True),
    "C+simL+SD": ("C+simL+SD", False),
    "C+simL+SD+HD": ("C+simL+SD", True),
    "C+simL+SD, learnt": ("C+simL+SD, learnt", False),
    "C+SD, longer": ("C+SD, longer", False),
    "C+SD, no skip": ("C+SD, no skip", False),
    "C+L+SD, no skip": ("C+L+SD, no skip", False),
    "C (MLP)": ("C (MLP)", False),
}
"""Row of the table -> the first stage it goes on from, and whether the second stage adds the refiner."""

SECOND = ["optim.steps=300", "save_every=300", "evaluate_every=300", "optim.lr=1.0e-3"]
"""The second stage, the same for every row."""

ALONE = [
    REFINER,
    "objective=masked_autoencoder",
    *("optim.steps=2400", "save_every=2400", "evaluate_every=2400"),
    *(f"model.{slot}=null" for slot in ("view_transform", "bev_encoder", "dense")),
]
"""The refiner by itself. It learns longer than a model: with 600 steps it gives back less than it is shown."""


def run(
    name: str,
    deviations: list[str],
    seed: int,
    arguments: argparse.Namespace,
    console: Console,
    on_model: Callable[[MapModel], object] = lambda model: None,
) -> Path:
    """Trains a stage with one seed, unless that has been done; `on_model` is called before its first step.

    Returns:
        Its run folder.
    """
    folder = arguments.out / f"{name}-{seed}"
    config = load_config(TrainConfig, RECIPE, [f"data.root={arguments.dataroot}", f"seed={seed}", *deviations])
    train(config, folder, console, on_model=on_model)
    return folder


def test(folder: Path, data: Path, frames: int | None = None, *, parts: bool = True) -> dict[str, float]:
    """Scores a finished run on the test towns, unless that has been done with these weights.

    Beside the model's own scores: those of what its heads say before the refiner (`unrefined`), and those with the
    features of its LiDAR branch set to zero (`no_lidar`), which say how much it relies on them.

    Args:
        folder: of the run.
        data: the nuScenes folder.
        frames: how many keyframes, evenly spread; all if None.
        parts: False: the model's own scores only.
    """
    result = folder / "test.json"
    checkpoint = load_checkpoint(folder / "checkpoints" / "last.safetensors")
    if not result.is_file() or json.loads(result.read_text()).get("checkpoint") != checkpoint.sha256:
        model = checkpoint.model
        config = load_config(TrainConfig, folder / "config.yaml", [])
        sweeps, workers = sweeps_for(config.model), config.data.workers
        keyframes = load_keyframes(data, "test", config.model, keep_inputs=True, sweeps=sweeps, workers=workers)
        config = config.model_copy(update={"evaluate_frames": frames or len(keyframes)})
        scores = quick_score(model, keyframes, config)
        scores["parameters_m"] = sum(parameter.numel() for parameter in model.parameters()) / 1e6
        if parts and model.hd_refiner is not None and model.dense_heads is not None:
            hook = model.register_forward_hook(lambda _model, _inputs, output: replace(output, dense=output.unrefined))
            scores |= {f"{name}_unrefined": value for name, value in quick_score(model, keyframes, config).items()}
            hook.remove()
        if parts and model.lidar is not None:
            model.lidar.register_forward_hook(lambda _module, _inputs, features: torch.zeros_like(features))
            scores |= {f"{name}_no_lidar": value for name, value in quick_score(model, keyframes, config).items()}
        result.write_text(json.dumps({**scores, "checkpoint": checkpoint.sha256}))
    return json.loads(result.read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataroot", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    console = Console()
    found: dict[str, list[dict[str, float]]] = {row: [] for row in arguments.rows}
    for seed in arguments.seeds:
        for row in arguments.rows:
            base, refined = ROWS[row]
            deviations = BASES[base]
            if base.endswith("learnt"):
                deviations = [*deviations, f"start.lidar={run('branch', BRANCH, seed, arguments, console)}"]
            start = run(f"first {base}", deviations, seed, arguments, console)
            # another seed, or the second stage would see the first one's keyframes again in the same order
            deviations = [*BASES[base], *SECOND, f"seed={100 + seed}", f"start.model={start}"]
            if refined:
                refiner = run("refiner", ALONE, seed, arguments, console)
                test(refiner, arguments.dataroot)
                deviations += [REFINER, f"start.hd_refiner={refiner}"]
            found[row].append(test(run(row, deviations, seed, arguments, console), arguments.dataroot))
    console.print(table(found))


def spread(values: list[float], form: str = ".3f") -> list[str]:
    """Mean ± standard deviation over the seeds, and each."""
    if not values:
        return ["–", "–"]
    apart = f" ± {statistics.stdev(values):{form}}" if len(values) > 1 else ""
    return [f"{statistics.mean(values):{form}}{apart}", ", ".join(f"{value:{form}}" for value in values)]


def table(found: dict[str, list[dict[str, float]]]) -> Table:
    """One row per model: means over the seeds, each seed, and the parameters."""
    iou = [f"IoU_{name}" for name in ("divider", "ped_crossing", "boundary")]
    result = Table("row", "parameters (M)", "mIoU", "per seed", *iou, "mAP", "per seed", title="test towns")
    for row, runs in found.items():
        cells = [row, f"{runs[0]['parameters_m']:.2f}"]
        for key in ("mIoU", *iou, "mAP"):
            values = [scores[key] for scores in runs]
            cells.append(f"{statistics.mean(values):.3f}")
            cells += [", ".join(f"{value:.3f}" for value in values)] if key in ("mIoU", "mAP") else []
        result.add_row(*cells)
    return result


if __name__ == "__main__":
    main()
