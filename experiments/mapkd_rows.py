"""MapKD's table on synth-v1: what LiDAR, simulated LiDAR, an SD map and the HD-map refiner each add to HDMapNet.

    python experiments/mapkd_rows.py DATAROOT OUT [--rows C C+SD] [--seeds 0 1]

DATAROOT is `hdmap synth DATAROOT --preset v1 --image-size 225x400 --lidar keyframes`. Every run lands in
OUT/<row>-<seed>, the pre-training of the refiner in OUT/refiner-<seed>; finished ones are not repeated. Every row has
the same number of steps; those with the refiner start it from its pre-training and everything else at random.
"""

import argparse
import json
import statistics
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from hdmap_core.checkpoint import load_checkpoint
from hdmap_core.config import load_config
from training.config import TrainConfig
from training.data.keyframes import load_keyframes, sweeps_for
from training.quick_score import quick_score
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
SIMULATED = [f"model.lidar={{kind: simulated, backbone: {BACKBONE}, lift_splat: {{channels: 32}}, channels: 32}}"]
NARROW = ["model.sd_prior={channels: 32, heads: 4, sd_channels: [16, 32], feedforward: 64}"]
SD = [*NARROW, "model.sd_prior.skip=true"]
REFINER = (
    "model.hd_refiner={patch: 8, width: 64, depth: 2, heads: 2, up_channels: 32, "
    "bev_encoder: {channels: [24, 32, 48], blocks: [1, 1, 1]}, "
    "dense: {channels: 32, last_channels: 16, embedding: 8, line_cells: 5}}"
)
MLP = [
    f"model.backbone={BACKBONE}",
    "model.view_transform={kind: mlp_ipm, weights: shared, focals: [0.79]}",
]
ROWS: dict[str, list[str]] = {
    "C": [],
    "C+SD": SD,
    "C+SD+HD": [*SD, REFINER],
    "C+L+SD": [*PILLARS, *SD],
    "C+L+SD+HD": [*PILLARS, *SD, REFINER],
    "C+simL+SD": [*SIMULATED, *SD],
    "C+simL+SD+HD": [*SIMULATED, *SD, REFINER],
    "C (MLP)": MLP,
    "C+SD, no skip": NARROW,
    "C+SD+HD, no skip": [*NARROW, REFINER],
    "C+L+SD, no skip": [*PILLARS, *NARROW],
}
"""Row of the table -> deviations from the recipe. All but `C (MLP)` see the cameras by inverse perspective mapping.
`no skip` is the published SD fusion, whose features all pass a bottleneck at 1/8 of the resolution."""

ALONE = [
    REFINER,
    "objective=masked_autoencoder",
    *(f"model.{slot}=null" for slot in ("view_transform", "bev_encoder", "dense")),
]
"""The refiner by itself."""


def run(name: str, deviations: list[str], seed: int, data: Path, out: Path, console: Console) -> dict[str, float]:
    """Trains one row with one seed, unless that has been done, and scores it on the test towns."""
    folder = out / f"{name}-{seed}"
    result = folder / "test.json"
    if not result.is_file():
        config = load_config(TrainConfig, RECIPE, [f"data.root={data}", f"seed={seed}", *deviations])
        train(config, folder, console)
        test = load_keyframes(data, "test", config.model, keep_inputs=True, sweeps=sweeps_for(config.model))
        model = load_checkpoint(folder / "checkpoints" / "last.safetensors").model
        scores = quick_score(model, test, config.model_copy(update={"evaluate_frames": len(test)}))
        scores["parameters_m"] = sum(parameter.numel() for parameter in model.parameters()) / 1e6
        result.write_text(json.dumps(scores))
    return json.loads(result.read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataroot", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    console = Console()
    found: dict[str, list[dict[str, float]]] = {row: [] for row in arguments.rows}
    for seed in arguments.seeds:
        for row in arguments.rows:
            deviations = ROWS[row]
            if REFINER in deviations:
                run("refiner", ALONE, seed, arguments.dataroot, arguments.out, console)
                deviations = [*deviations, f"start.hd_refiner={arguments.out / f'refiner-{seed}'}"]
            found[row].append(run(row, deviations, seed, arguments.dataroot, arguments.out, console))
    console.print(table(found))


def table(found: dict[str, list[dict[str, float]]]) -> Table:
    """One row per model: means over the seeds, each seed, and the parameters."""
    result = Table("row", "parameters (M)", "mIoU", "per seed", "mAP", "per seed", title="test towns")
    for row, runs in found.items():
        cells = [row, f"{runs[0]['parameters_m']:.2f}"]
        for key in ("mIoU", "mAP"):
            values = [scores[key] for scores in runs]
            cells += [f"{statistics.mean(values):.3f}", ", ".join(f"{value:.3f}" for value in values)]
        result.add_row(*cells)
    return result


if __name__ == "__main__":
    main()
