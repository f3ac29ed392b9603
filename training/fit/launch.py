"""Which devices a run uses. Processes, machines and precision are Lightning Fabric's; torchrun's word goes first."""

import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

import torch
from lightning.fabric import Fabric
from lightning.fabric.strategies import DDPStrategy, ModelParallelStrategy, Strategy
from torch import nn
from torch.distributed.device_mesh import DeviceMesh

from hdmap_core.errors import ConfigError
from training.config import TrainConfig

PATIENCE = timedelta(hours=2)
"""How long processes wait for the first one while it prepares data or evaluates."""
_SHARDED_BLOCK = 100_000
"""A block of fewer parameters is gathered with what stands around it."""


@dataclass(frozen=True)
class Hardware:
    """Where to train; not part of a recipe, so that a run may go on elsewhere.

    Attributes:
        accelerator: auto takes a GPU if there is one.
        devices: processes per machine, one device each; 0 = all GPUs.
        nodes: machines.
        strategy: ddp copies the model to every device; fsdp shards weights, gradients and optimiser over them.
    """

    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    devices: int = 1
    nodes: int = 1
    strategy: Literal["ddp", "fsdp"] = "ddp"


ONE_DEVICE = Hardware()
"""A GPU if there is one."""


def make_fabric(hardware: Hardware, precision: str) -> Fabric:
    """A Fabric that is not yet launched. Under torchrun, the numbers of processes are torchrun's.

    Raises:
        ConfigError: if the machine does not have the devices, or they do not do the precision.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    accelerator = ("cuda" if gpus else "cpu") if hardware.accelerator == "auto" else hardware.accelerator
    devices, nodes = hardware.devices or max(1, gpus), hardware.nodes
    if {"LOCAL_WORLD_SIZE", "WORLD_SIZE", "TORCHELASTIC_RUN_ID"} <= os.environ.keys():
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // devices
    if accelerator == "cuda" and devices > gpus:
        raise ConfigError(f"{devices} GPUs wanted, this machine has {gpus}; use --devices {gpus} or --accelerator cpu")
    if hardware.strategy == "fsdp" and precision == "16-mixed":
        raise ConfigError("optim.precision 16-mixed does not work with --strategy fsdp; use bf16-mixed or 32-true")
    world = devices * nodes
    strategy: Strategy | str = "auto"
    if hardware.strategy == "fsdp":
        strategy = ModelParallelStrategy(
            shard, data_parallel_size=world, tensor_parallel_size=1, save_distributed_checkpoint=False, timeout=PATIENCE
        )
    elif world > 1:
        # A head that only some batches use has no gradient in the others.
        strategy = DDPStrategy(find_unused_parameters=True, timeout=PATIENCE)
    return Fabric(accelerator=accelerator, devices=devices, num_nodes=nodes, strategy=strategy, precision=precision)  # type: ignore[arg-type]


def shard(model: nn.Module, mesh: DeviceMesh) -> nn.Module:
    """FSDP (PyTorch's `fully_shard`): large blocks of lists and sequences on their own, then the rest together."""
    from torch.distributed.fsdp import fully_shard

    data_parallel = mesh["data_parallel"]
    for module in reversed(list(model.modules())):  # children before what holds them
        for block in module if isinstance(module, nn.ModuleList | nn.Sequential) else ():
            if sum(parameter.numel() for parameter in block.parameters()) >= _SHARDED_BLOCK:
                fully_shard(block, mesh=data_parallel)
    fully_shard(model, mesh=data_parallel)
    return model


def per_process(config: TrainConfig, world_size: int) -> TrainConfig:
    """The recipe as the data of one process sees it: `batch_size` and `steps` count its micro-batches.

    Raises:
        ConfigError: if the batch cannot be split evenly.
    """
    optim = config.optim
    parts = world_size * optim.accumulate
    if optim.batch_size % parts:
        raise ConfigError(
            f"optim.batch_size {optim.batch_size} cannot be split over {world_size} processes x "
            f"{optim.accumulate} micro-batches; choose a multiple of {parts}"
        )
    shares = {"batch_size": optim.batch_size // parts, "steps": optim.steps * parts, "accumulate": 1}
    return config.model_copy(update={"optim": optim.model_copy(update=shares)})
