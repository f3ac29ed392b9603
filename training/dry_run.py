"""What a run would take: parameters, memory and schedule, without writing anything."""

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric
from rich.console import Console
from rich.table import Table
from rich.text import Text
from torch import Tensor, nn

from hdmap_core.checkpoint import find_checkpoint
from hdmap_core.datasets.opening import open_dataset
from hdmap_core.datasets.protocol import MapDataset, scenes_of_split
from hdmap_core.datasets.sensor_check import check_sensors
from hdmap_core.errors import CheckpointError, DatasetError
from hdmap_core.model_io import ModelInput
from hdmap_core.models import build_model
from hdmap_core.preprocess import preprocess
from training.config import DataConfig, OptimConfig, TrainConfig
from training.data.keyframes import sweeps_for
from training.distill.sources import load_sources
from training.fit.launch import Hardware, make_fabric, per_process
from training.fit.optimiser import schedule

_MIB = 2**20


def describe(config: TrainConfig, hardware: Hardware, console: Console) -> None:
    """Prints a run's parameters per slot, memory per device and schedule.

    The activations are measured: one keyframe goes forward and back on this machine, and what autograd keeps for the
    way back is counted. Everything else about memory is arithmetic; both leave out what the allocator and libraries
    take.

    Raises:
        ConfigError: if the hardware or the batch does not fit.
    """
    fabric = make_fabric(hardware, config.optim.precision)
    share = per_process(config, fabric.world_size)
    torch.manual_seed(config.seed)
    model = build_model(config.model)
    console.print(_slots(model, config.model.name))
    for line in _missing_start(config) + _missing_sources(config):
        console.print(line, soft_wrap=True)
    try:
        frames, inputs = _example(config)
        with console.status("measuring one keyframe forward and back"):
            activations: int | str = kept_for_backward(model, inputs, config.optim.precision)
    except DatasetError as error:
        frames, activations = 0, f"not measured: {error}"
    micro = share.optim.batch_size
    console.print(_memory(model, activations, micro, fabric, sharded=hardware.strategy == "fsdp"))
    console.print(_plan(config.optim, frames, fabric.world_size, micro))


def kept_for_backward(model: nn.Module, inputs: ModelInput, precision: str) -> int:
    """Bytes that autograd keeps of one forward pass, weights not counted; the model is left with no gradients."""
    weights = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    dtype = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(precision)
    device = next(model.parameters()).device.type
    model.train()
    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        torch.autocast(device, dtype, bool(dtype)),
    ):
        outputs = [tensor for tensor in _tensors(model(inputs)) if tensor.requires_grad]
    torch.stack([output.float().mean() for output in outputs]).sum().backward()
    model.zero_grad(set_to_none=True)
    return sum(kept.values())


def _missing_start(config: TrainConfig) -> list[str]:
    """A line per earlier stage that the run would start from and that is not there."""
    missing = []
    for name in type(config.start).model_fields:
        source = getattr(config.start, name)
        try:
            if source is not None:
                find_checkpoint(source)
        except CheckpointError as error:
            missing.append(f"start.{name}: {error}")
    return missing


def _missing_sources(config: TrainConfig) -> list[str]:
    """A line if a model that would teach is not there or does not fit; none to say otherwise."""
    try:
        load_sources(config)
    except CheckpointError as error:
        return [str(error)]
    return []


def _example(config: TrainConfig) -> tuple[int, ModelInput]:
    """How many keyframes there are to train on, in all folders, and the inputs of the first."""
    dataset, tokens = _keyframes(config.data, config.data.root)
    frames = len(tokens) + sum(len(_keyframes(config.data, root)[1]) for root in config.data.more)
    frames *= len(config.data.grounds)
    model = config.model
    check_sensors(dataset, tokens, lidar=model.lidar_sweeps > 0, sd_map=model.sd_prior is not None)
    if model.is_refiner:
        return frames, ModelInput(semantic=torch.zeros(1, 1 + len(model.classes), *model.grid.shape))
    sweeps = sweeps_for(model)
    return frames, preprocess(dataset.observation(tokens[0], points=sweeps > 0, sweeps=max(1, sweeps)), model)


def _keyframes(data: DataConfig, root: Path) -> tuple[MapDataset, list[str]]:
    """A folder, and the tokens that are trained on."""
    dataset = open_dataset(root, data.version, split=data.train)
    tokens = [token for scene in scenes_of_split(dataset, data.train) for token in scene.sample_tokens]
    if not tokens:
        raise DatasetError(f"split {data.train!r} of {root} has no keyframes")
    return dataset, tokens


def _slots(model: nn.Module, name: str) -> Table:
    table = Table("slot", "module", "trainable", "frozen", title=f"parameters of {name}")
    for column in table.columns[2:]:
        column.justify = "right"
    for slot, module in model.named_children():
        table.add_row(slot, type(module).__name__, *(f"{count:,}" for count in _counts(module)))
    table.add_section()
    table.add_row("all", "", *(f"{count:,}" for count in _counts(model)))
    return table


def _counts(module: nn.Module) -> tuple[int, int]:
    """Parameters that are trained, and those that are frozen."""
    parameters = list(module.parameters())
    trainable = sum(p.numel() for p in parameters if p.requires_grad)
    return trainable, sum(p.numel() for p in parameters) - trainable


def _memory(model: nn.Module, activations: int | str, micro: int, fabric: Fabric, *, sharded: bool) -> Table:
    def size(wanted: Callable[[Tensor], bool]) -> int:
        return sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()) if wanted(tensor))

    over = fabric.world_size if sharded else 1
    trainable = size(lambda tensor: tensor.requires_grad)
    everything = size(lambda tensor: True)
    parts: dict[str, int] = {
        "weights": everything // over,
        "gradients": trainable // over,
        "AdamW's two moments": 2 * trainable // over,
        "averaged weights (EMA)": everything // over + (everything if sharded else 0),
    }
    if fabric.world_size > 1 and not sharded:
        parts["DDP's buckets"] = trainable
    if isinstance(activations, int):
        parts[f"activations, {micro} samples (1 measured: {activations / _MIB:.1f} MiB)"] = activations * micro
    table = Table("part", "MiB", title=f"memory per device ({fabric.world_size} in all), an estimate")
    table.columns[1].justify = "right"
    for part, size_bytes in parts.items():
        table.add_row(part, f"{size_bytes / _MIB:,.1f}")
    measured = isinstance(activations, int)
    if not measured:
        table.add_row("activations", Text(str(activations), justify="left"))
    table.add_section()
    table.add_row("sum" if measured else "sum without activations", f"{sum(parts.values()) / _MIB:,.1f}")
    return table


def _plan(optim: OptimConfig, frames: int, processes: int, micro: int) -> Table:
    table = Table("", "", title="schedule", show_header=False)
    table.add_row("steps", f"{optim.steps:,} ({optim.warmup_steps} of warm-up, then {optim.schedule})")
    table.add_row("batch", f"{optim.batch_size} = {processes} processes x {optim.accumulate} x {micro} samples")
    epochs = f"{optim.steps * optim.batch_size / frames:,.2f} of {frames:,} keyframes" if frames else "unknown: no data"
    table.add_row("epochs", epochs)
    table.add_row("precision", optim.precision)
    for part in (0.0, 0.25, 0.5, 0.75, 1.0):
        step = min(round(part * optim.steps), optim.steps - 1)
        table.add_row(f"lr at step {step + 1:,}", f"{optim.lr * schedule(step, optim):.2e}")
    return table


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if is_dataclass(value):
        value = [getattr(value, f.name) for f in fields(value)]
    if isinstance(value, dict):
        value = list(value.values())
    return [tensor for item in value for tensor in _tensors(item)] if isinstance(value, list | tuple) else []
