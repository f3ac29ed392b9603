"""Trains the tiny recipe on noise in one of several processes; run by test_ddp.py and test_resume.py.

Batch norms are replaced by group norms: on CPUs a batch norm sees its own process's samples only, by design.
"""

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from torch import nn

from hdmap_core.config import load_config
from hdmap_core.elements import MapClass, MapElement
from hdmap_core.model_io import ModelInput
from hdmap_core.models import build_model
from hdmap_core.preprocess import ground_grid
from training.config import TrainConfig
from training.data.batches import Batch, TrainBatches
from training.data.keyframes import Keyframe
from training.distill.objective import Distillation
from training.distill.sources import load_sources
from training.fit.launch import Hardware, make_fabric, per_process
from training.fit.loop import Evaluation, Terms, fit
from training.fit.run_folder import RunFolder
from training.objectives import supervised


def frames_of(config: TrainConfig) -> list[Keyframe]:
    """Six frames of noise; the third has no element, the others one to three."""
    random = np.random.default_rng(0)
    rows, columns = ground_grid(config.model.grid).shape
    frames = []
    for number, count in enumerate((1, 3, 0, 2, 1, 3)):
        ground = random.integers(1, 255, (1, 4, rows, columns), dtype=np.uint8)
        lines = random.uniform(-4, 4, (count, 2, 2)).astype(np.float32)
        elements = [MapElement(MapClass.DIVIDER, line) for line in lines]
        frames.append(Keyframe(f"frame-{number}", ModelInput(ground=torch.from_numpy(ground)), elements, {}))
    return frames


def without_batch_norm(module: nn.Module) -> None:
    """Replaces batch norms, in place."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, nn.GroupNorm(1, child.num_features))
        else:
            without_batch_norm(child)


def train(
    config: TrainConfig,
    folder: Path,
    devices: int,
    strategy: str,
    *,
    frames: list[Keyframe] | None = None,
    die_at: int = 0,
) -> nn.Module:
    """Trains on `frames_of`, or on other frames; dies by SIGKILL in that call of the objective.

    The sources of a distillation, if the recipe has any, see the same ground pixels.
    """
    calls = 0
    fabric = make_fabric(Hardware("cpu", devices, 1, strategy), config.optim.precision)  # type: ignore[arg-type]
    fabric.launch()
    torch.manual_seed(config.seed)
    model = build_model(config.model)
    without_batch_norm(model)
    sources = load_sources(config)
    distillation = Distillation(config, sources)
    frames = [replace(frame, seen_by=dict.fromkeys(sources, frame)) for frame in frames or frames_of(config)]
    models = {name: source.config for name, source in sources.items()}
    batches = TrainBatches(frames, per_process(config, fabric.world_size), None, models)

    def objective(model: nn.Module, batch: Batch) -> Terms:
        nonlocal calls
        calls += 1
        if calls == die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return distillation(model, batch) if sources else supervised(model, batch, config)

    def evaluate(_model: nn.Module) -> Evaluation:
        return Evaluation({"mAP": 0.5})

    run, console = RunFolder(folder, config, {}, writes=fabric.is_global_zero), Console(quiet=True)
    return fit(fabric, model, objective, batches, config, run, evaluate, console, learned=distillation.learned)


def main() -> None:
    """Arguments: DEVICES CALL RUN..., a run being CONFIG:FOLDER:STRATEGY; CALL 0 is none."""
    devices, die_at = int(sys.argv[1]), int(sys.argv[2])
    for run in sys.argv[3:]:
        recipe, folder, strategy = run.split(":")
        train(load_config(TrainConfig, Path(recipe)), Path(folder), devices, strategy, die_at=die_at)


if __name__ == "__main__":
    main()
