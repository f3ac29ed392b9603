"""Builds everything that a recipe names and calls the loop."""

import math
from collections.abc import Callable
from pathlib import Path

from lightning.fabric import seed_everything
from rich.console import Console
from torch import nn

from hdmap_core.checkpoint import find_checkpoint
from hdmap_core.errors import ConfigError
from hdmap_core.files import make_folder
from hdmap_core.models import MapModel, build_model
from training.config import TrainConfig
from training.data.batches import Batch, TrainBatches
from training.data.recipe_keyframes import recipe_keyframes
from training.distill.kept_outputs import kept_outputs
from training.distill.objective import Distillation
from training.distill.sources import load_sources
from training.evaluation.pictures import picture_predictions
from training.evaluation.quick_score import quick_score
from training.fit.initial_weights import load_initial
from training.fit.launch import ONE_DEVICE, Hardware, make_fabric, per_process
from training.fit.loop import Evaluation, Terms, fit
from training.fit.provenance import provenance_of
from training.fit.run_folder import RunFolder, state_file
from training.objectives import masked_autoencoder, supervised


def train(
    config: TrainConfig,
    folder: str | Path,
    console: Console,
    *,
    until: float = math.inf,
    on_model: Callable[[MapModel], object] = lambda model: None,
    hardware: Hardware = ONE_DEVICE,
) -> float:
    """Trains a recipe into a run folder, going on where an earlier call stopped.

    Args:
        config: the recipe.
        folder: the run folder.
        console: where to report.
        until: stop as soon as the validation's `best_by` is this good.
        on_model: called with the model before its first step.
        hardware: where to train; starts the other processes, which run this program from its beginning.

    Returns:
        The best of the validations.
    """
    folder = Path(folder)
    fabric = make_fabric(hardware, config.optim.precision)
    share = per_process(config, fabric.world_size)
    sources = load_sources(config)
    teachers = {name: source.config for name, source in sources.items()}
    fabric.launch()
    if not fabric.is_global_zero:
        console = Console(quiet=True)
    seed_everything(config.seed, verbose=False)
    model = build_model(config.model)
    if not state_file(folder).is_file():  # a state has the trained ones
        for report in load_initial(model, config):
            console.print(report)
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    console.print(f"[bold]{config.model.name}[/]: {millions:.2f} M parameters, {config.optim.steps} steps → {folder}")
    for source in sources.values():
        console.print(source.report, soft_wrap=True)
        source.model.to(fabric.device)
    distillation = Distillation(config, sources)
    if hardware.strategy == "fsdp" and any(True for _ in distillation.learned.parameters()):
        raise ConfigError("distillation with projections that are learnt does not go with --strategy fsdp; use ddp")
    on_model(model)
    with fabric.rank_zero_first():  # it prepares what is not there yet, the others find it
        make_folder(folder)  # what is wrong with it is better told before a long preparation
        parts, training, validation = recipe_keyframes(config, teachers)
        distillation.kept = kept_outputs(config, sources, parts[0])
    without = validation.left_out + sum(part.left_out for part in parts)
    note = f"; {without} that cannot be used are left out" if without else ""
    console.print(f"{sum(map(len, parts))} training and {len(validation)} validation keyframes{note}")
    run = RunFolder(folder, config, provenance_of(config, parts, sources), writes=fabric.is_global_zero)

    def objective(model: nn.Module, batch: Batch) -> Terms:
        match config.objective:
            case "masked_autoencoder":
                return masked_autoencoder(model, batch, config)
            case "distillation":
                return distillation(model, batch)
            case "supervised":
                return supervised(model, batch, config)

    def evaluate(model: nn.Module) -> Evaluation:
        pictures = picture_predictions(model, validation, config, validation.dataset)
        return Evaluation(quick_score(model, validation, config), pictures)

    batches = TrainBatches(training, share, model.backbone.feature_size if model.backbone else None, teachers)
    learned = distillation.learned
    fit(fabric, model, objective, batches, config, run, evaluate, console, learned=learned, until=until)
    if run.is_evaluated(config.optim.steps):
        console.print(_what_next(run), soft_wrap=True, highlight=False)  # commands to copy
    return run.best


def _what_next(run: RunFolder) -> str:
    root = run.config.data.root
    lines = [f"{run.best_in_words}: {find_checkpoint(run.path)}"]
    if run.config.model.is_refiner:
        return f"{lines[0]}\nnext: a recipe with start.hd_refiner={run.path} takes it"
    lines += [
        f"next: hdmap evaluate {run.path} {root} --split {run.config.data.val} -o {run.path / 'evaluation'}",
        f"      hdmap predict {run.path} {root} -o map.png",
    ]
    return "\n".join(lines)
