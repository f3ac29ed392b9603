"""A checkpoint: one safetensors file that carries its weights, its whole config and where it came from.

The header's metadata holds one key, `hdmap`, a JSON object {format, config, provenance}. Loading is strict: every
tensor must be there with its shape, and nothing else.
"""

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import model_validator
from safetensors.torch import save
from torch import nn
from typing_extensions import Self

from hdmap_core.config import Config, parse_config
from hdmap_core.elements import MapClass
from hdmap_core.errors import CheckpointError, ConfigError
from hdmap_core.files import write_atomically
from hdmap_core.files.shipped import shipped
from hdmap_core.models import MapModel, ModelConfig, build_model
from hdmap_core.models.state import listed, misfit
from hdmap_core.models.weight_files import read_weights
from hdmap_core.postprocess import DecodeConfig, Head, no_such_head

FORMAT = 1
SUFFIX = ".safetensors"
_LARGEST_NUMBER = 20_000  # channels, layers, pixels ... of a model
_MOST_PIXELS = 120_000_000  # of all its images together; six cameras of 20 million each
_MOST_CELLS = 10_000_000  # of its grid, for which no tensor of the file stands; 120 x 60 m have 720,000 of 0.1 m


class CheckpointConfig(Config):
    """What it takes to run a model: its architecture and how its outputs become elements."""

    model: ModelConfig
    decode: DecodeConfig = DecodeConfig()

    @property
    def heads(self) -> list[Head]:
        """Those that the model has, of which `decode` publishes some."""
        model = self.model
        slots: dict[Head, object] = {"vectors": model.vectors, "masks": model.segmentation, "dense": model.dense_heads}
        return [head for head, slot in slots.items() if slot is not None]

    @model_validator(mode="after")
    def _published_head_exists(self) -> Self:
        for head in self.decode.heads_of(self.model.classes):
            if head not in self.heads:
                raise no_such_head(head, self.heads)
        if MapClass.CENTERLINE in self.model.classes and self.decode.head_of(MapClass.CENTERLINE) != "vectors":
            raise ValueError("rasters do not know a centerline's sense; set decode.by_class.centerline to 'vectors'")
        return self


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint; `model` is in evaluation mode on the CPU."""

    model: MapModel
    config: CheckpointConfig
    provenance: dict[str, Any]
    sha256: str


def save_checkpoint(path: str | Path, model: nn.Module, config: CheckpointConfig, provenance: dict[str, Any]) -> None:
    """Writes a checkpoint atomically: a full disk leaves the old file as it was.

    Args:
        path: the file; folders above it are made.
        model: whose weights are written.
        config: goes into the header.
        provenance: JSON values that say where the weights come from (data, seed, step, metrics, commit ...).

    Raises:
        OutputError: if the file cannot be written.
    """
    header = {"format": FORMAT, "config": config.model_dump(mode="json"), "provenance": provenance}
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    write_atomically(path, save(tensors, metadata={"hdmap": json.dumps(header)}))


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Reads a checkpoint and builds its model.

    Raises:
        CheckpointError: if the file is missing, damaged, not ours, of a newer format, or does not fit its config.
    """
    path = Path(path)
    header, tensors = _read(path)
    if header.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} has checkpoint format {header.get('format')!r}, this version reads {FORMAT}; "
            "use the version of hdmap_ros that wrote it, or export it again"
        )
    try:
        config = parse_config(CheckpointConfig, header.get("config"), f"{path}, config in its header")
    except ConfigError as error:
        raise CheckpointError(str(error)) from None
    model = _model_that_fits(path, config.model, tensors)
    model.load_state_dict(tensors)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Checkpoint(model.eval(), config, header.get("provenance", {}), digest)


def _model_that_fits(path: Path, config: ModelConfig, tensors: dict[str, Any]) -> MapModel:
    """Builds a model without memory first: a header may ask for one of any size, whatever the file holds."""
    check_sizes(path, config)
    try:
        with torch.device("meta"):
            problem = misfit(build_model(config).state_dict(), tensors)
    except (RuntimeError, ValueError, TypeError, ArithmeticError, AssertionError) as error:
        raise CheckpointError(f"{path}: its header asks for a model that cannot be: {error}") from None
    if problem:
        raise CheckpointError(f"{path} does not fit its own model: it {problem}")
    return build_model(config)


def check_sizes(path: Path, config: ModelConfig) -> None:
    """Raises CheckpointError if a header asks for more than memory is for, where no tensor of the file stands for it.

    Args:
        path: what the message names.
        config: as the header has it.
    """
    if (largest := _largest_number(config.model_dump())) > _LARGEST_NUMBER:
        raise CheckpointError(f"{path}: its header asks for a model with {largest:g} of something; it is damaged")
    if (cells := math.prod(config.grid.shape)) > _MOST_CELLS:
        raise CheckpointError(f"{path}: its header asks for a grid of {cells:,} cells; damaged")
    if (backbone := config.image_backbone) is not None:
        pixels = max(len(backbone.cameras), 1) * math.prod(backbone.image_size)
        if pixels > _MOST_PIXELS:
            raise CheckpointError(f"{path}: its header asks for images of {pixels:,} pixels in all; damaged")


def _largest_number(config: Any) -> float:
    if isinstance(config, dict | list | tuple):
        return max(map(_largest_number, config.values() if isinstance(config, dict) else config), default=0.0)
    return abs(config) if isinstance(config, int | float) else 0.0


def find_checkpoint(path: str | Path) -> Path:
    """The checkpoint that a user means: a file, the best (else the last) one of a run folder, one that ships with us.

    Raises:
        CheckpointError: if there is none.
    """
    path = shipped(path)
    if path.is_file():
        return path
    for name in ("best", "last"):
        candidate = path / "checkpoints" / (name + SUFFIX)
        if candidate.is_file():
            return candidate
    there = "it holds no checkpoints/" if path.is_dir() else "it does not exist"
    raise CheckpointError(f"no checkpoint at {path}: {there}; give a {SUFFIX} file or a run folder of `hdmap train`")


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}: the file does not exist")
    advice = f"a checkpoint here is a {SUFFIX} file that `hdmap train` wrote, or `hdmap import` of a released file"
    metadata, tensors = read_weights(path, advice)
    if "hdmap_state" in metadata:
        raise CheckpointError(
            f"{path} is what a training run goes on from (`hdmap train --resume`), not a model; give best{SUFFIX} or "
            f"last{SUFFIX} beside it"
        )
    if "hdmap" not in metadata:
        raise CheckpointError(
            f"{path} holds weights, but not of hdmap_ros (no 'hdmap' entry in its header): another program's "
            f"{len(tensors)} tensors, such as {listed(sorted(tensors))}"
        )
    try:
        header = json.loads(metadata["hdmap"])
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged: the 'hdmap' entry of its header is no JSON ({error})") from None
    if not isinstance(header, dict) or not isinstance(header.get("provenance", {}), dict):
        raise CheckpointError(f"{path} is damaged: the 'hdmap' entry of its header, or its provenance, is no object")
    return header, tensors
