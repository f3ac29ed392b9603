"""Builds everything that a recipe names and calls the loop."""

import math
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.fabric import seed_everything
from rich.console import Console
from torch import nn

from hdmap_core.checkpoint import find_checkpoint
from hdmap_core.datasets.sensor_check import check_sensors
from hdmap_core.errors import ConfigError, DatasetError
from hdmap_core.files import make_folder
from hdmap_core.inference.known_rigs import described
from hdmap_core.models import MapModel, ModelConfig, build_model
from hdmap_core.preprocess import reads_points
from training.config import TrainConfig
from training.data.batches import Batch, TrainBatches
from training.data.joined import JoinedKeyframes
from training.data.keyframes import KeyframeList, Keyframes, load_keyframes, sweeps_for
from training.data.seen_by import taught_keyframes
from training.distill.kept_outputs import kept_outputs
from training.distill.objective import Distillation
from training.distill.sources import Source, as_provenance, load_sources
from training.evaluation.pictures import picture_predictions
from training.evaluation.quick_score import quick_score
from training.fit.initial_weights import load_initial
from training.fit.launch import ONE_DEVICE, Hardware, make_fabric, per_process
from training.fit.loop import Evaluation, Terms, fit
from training.fit.run_folder import RunFolder, state_file
from training.objectives import masked_autoencoder, supervised

_RIG_SCENES = 64
"""Scenes whose rigs a checkpoint's provenance holds."""


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
    fabric.launch()
    if not fabric.is_global_zero:
        console = Console(quiet=True)
    seed_everything(config.seed, verbose=False)
    model = build_model(config.model)
    if not state_file(folder).is_file():  # a state has the trained ones
        for report in load_initial(model, config):
            console.print(report)
    console.print(f"[bold]{config.model.name}[/]: {_count(model)} parameters, {config.optim.steps} steps → {folder}")
    for source in sources.values():
        console.print(source.report, soft_wrap=True)
    distillation = Distillation(config, {name: source.to(fabric.device) for name, source in sources.items()})
    if hardware.strategy == "fsdp" and any(True for _ in distillation.learned.parameters()):
        raise ConfigError("distillation with projections that are learnt does not go with --strategy fsdp; use ddp")
    on_model(model)
    with fabric.rank_zero_first():  # it prepares what is not there yet, the others find it
        make_folder(folder)  # what is wrong with it, or the smaller split, is better told before a long preparation
        validation = _keyframes(config, config.model, config.data.val)
        recipes = _per_folder(config)
        parts = [_keyframes(each, config.model, config.data.train) for each in recipes]
        lists = [_taught(part, each, sources) for part, each in zip(parts, recipes, strict=True)]
        distillation.kept = kept_outputs(config, sources, parts[0])
    without = validation.left_out + sum(part.left_out for part in parts)
    note = f"; {without} that cannot be used are left out" if without else ""
    console.print(f"{sum(map(len, parts))} training and {len(validation)} validation keyframes{note}")
    provenance = _provenance(config, parts) | ({"sources": as_provenance(sources, config)} if sources else {})
    run = RunFolder(folder, config, provenance, writes=fabric.is_global_zero)

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

    batches = TrainBatches(
        JoinedKeyframes(lists),
        share,
        model.backbone.feature_size if model.backbone else None,
        {name: source.config for name, source in sources.items()},
    )
    learned = distillation.learned
    fit(fabric, model, objective, batches, config, run, evaluate, console, learned=learned, until=until)
    if run.is_evaluated(config.optim.steps):
        console.print(_what_next(run), soft_wrap=True, highlight=False)  # commands to copy
    return run.best


def _what_next(run: RunFolder) -> str:
    root = run.config.data.root
    lines = [f"{run.best_in_words}: {find_checkpoint(run.path)}"]
    if run.config.model.view_transform is None:
        return f"{lines[0]}\nnext: a recipe with start.hd_refiner={run.path} takes it"
    lines += [
        f"next: hdmap evaluate {run.path} {root} --split {run.config.data.val} -o {run.path / 'evaluation'}",
        f"      hdmap predict {run.path} {root} -o map.png",
    ]
    return "\n".join(lines)


def _keyframes(config: TrainConfig, model: ModelConfig, split: str) -> Keyframes:
    data = config.data
    keyframes = load_keyframes(
        data.root,
        split,
        model,
        keep_inputs=data.keep_inputs,
        sweeps=sweeps_for(model),
        cache=data.cache,
        workers=data.workers,
        reduced=data.reduced_decoding and split == data.train,  # validation sees what the node would
        version=data.version,
    )
    check_sensors(
        keyframes.dataset, keyframes.tokens.tolist(), lidar=reads_points(model), sd_map=model.sd_prior is not None
    )
    return keyframes


def _taught(student: Keyframes, config: TrainConfig, sources: Mapping[str, Source]) -> KeyframeList:
    seen = {name: _seen_by(config, name, source.config) for name, source in sources.items()}
    return taught_keyframes(student, seen) if seen else student


def _seen_by(config: TrainConfig, name: str, source: ModelConfig) -> Keyframes:
    try:
        return _keyframes(config, source, config.data.train)
    except DatasetError as error:
        raise DatasetError(f"sources.{name}: {error}") from None


def _per_folder(config: TrainConfig) -> list[TrainConfig]:
    """The recipe once for each folder that it trains on; the folders of `data.more` keep their own caches."""
    further = [config.data.model_copy(update={"root": root, "cache": None}) for root in config.data.more]
    return [config, *(config.model_copy(update={"data": data}) for data in further)]


def _provenance(config: TrainConfig, parts: Sequence[Keyframes]) -> dict[str, Any]:
    return {
        "dataset": " + ".join(part.root.resolve().name for part in parts),
        "dataset_version": parts[0].version,
        "train_split": config.data.train,
        "train_keyframes": sum(map(len, parts)),
        "rigs": _rigs(parts),
        "seed": config.seed,
        "commit": _commit(),
    }


def _rigs(parts: Sequence[Keyframes]) -> list[list[dict[str, Any]]]:
    """The different rigs of the scenes, of at most so many of each folder."""
    seen: list[list[dict[str, Any]]] = []
    for part in parts:
        dataset = part.dataset
        first = {dataset.scene_of(token).name: token for token in reversed(part.tokens.tolist())}
        for token in list(first.values())[:_RIG_SCENES]:
            rig = described(dataset.observation(token, images=False, points=False, roads=False).rig)
            if rig not in seen:
                seen.append(rig)
    return seen


def _commit() -> str:
    """Of the checkout that this code runs from; `unknown` when it is installed, or there is no git."""
    try:
        here = Path(__file__).parent
        git = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=False)
    except OSError:
        return "unknown"
    return git.stdout.strip() or "unknown"


def _count(model: nn.Module) -> str:
    return f"{sum(parameter.numel() for parameter in model.parameters()) / 1e6:.2f} M"
