"""A released file -> its tensors. What would run code is refused, not asked about."""

import hashlib
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from hdmap_core.errors import CheckpointError
from hdmap_core.file_kinds import what_it_is
from hdmap_core.models.state import listed
from hdmap_core.models.weight_files import read_weights

_WRAPPERS = ("state_dict", "model_state_dict", "model")
_PREFIX = "module."  # of nn.DataParallel
_PICKLED = ("a Python pickle", "a PyTorch file")  # how file_kinds calls what is read here alone
_ASKED_FOR = re.compile(r"(?:GLOBAL|class|function) `?([\w.]+)`?")

_DAMAGE = (
    *(UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, TypeError, AttributeError, IndexError),
    *(MemoryError, RecursionError),
)
"""What the reader raises of files that are not as they should be, according to what lies at the place."""


@dataclass(frozen=True)
class WeightFile:
    """What a released file holds.

    Attributes:
        path: the file.
        sha256: of its bytes.
        tensors: name -> tensor as the file has it, without wrapper and prefix.
        layout: how they lay in it, in words.
    """

    path: Path
    sha256: str
    tensors: dict[str, Tensor]
    layout: str


def read_weight_file(path: str | Path) -> WeightFile:
    """Reads a PyTorch file with `weights_only=True`, which makes tensors and plain containers and nothing else.

    A state dict that somebody has turned into a safetensors file is read as well.

    Raises:
        CheckpointError: if it is missing, damaged, no PyTorch file, asks for code to be run, or holds no state dict.
    """
    path = Path(path)
    content = _loaded(path)
    tensors, layout = _state_dict(path, content)
    if all(name.startswith(_PREFIX) for name in tensors):
        tensors = {name.removeprefix(_PREFIX): tensor for name, tensor in tensors.items()}
        layout += f", names with {_PREFIX!r}"
    return WeightFile(path, _sha256(path), tensors, layout)


def _loaded(path: Path) -> Any:
    try:
        kind = what_it_is(path)
        if kind is not None and not kind.startswith(_PICKLED):
            raise CheckpointError(f"{path} is {kind}; give the PyTorch file that the authors offer")
        if kind is None and _is_safetensors(path):
            metadata, tensors = read_weights(path, "give the file that the authors offer")
            if "hdmap" in metadata:
                raise CheckpointError(f"{path} is a checkpoint of hdmap_ros already; use it as it is")
            return tensors
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of ancient pickles; what matters is told as an error
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from None
    except _DAMAGE as error:
        asked = _ASKED_FOR.search(str(error)) if isinstance(error, UnpicklingError) else None
        if asked is not None:
            raise CheckpointError(
                f"{path} is refused: beside tensors it asks for {asked.group(1)}, which could run code; nothing was run"
            ) from None
        if isinstance(error, UnpicklingError):
            raise CheckpointError(
                f"{path} is refused: it holds more than tensors, or is damaged ({_one_line(error)}); nothing was run"
            ) from None
        raise CheckpointError(
            f"{path} is cut off or damaged, or no PyTorch file: {_one_line(error)}; download it again"
        ) from None


def _is_safetensors(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(9)[8:] == b"{"


def _one_line(error: Exception) -> str:
    text = str(error)
    text = (text.partition("WeightsUnpickler error:")[2] or text).partition("Check the documentation")[0]
    return " ".join(text.split())[:200] or type(error).__name__


def _state_dict(path: Path, content: Any) -> tuple[dict[str, Tensor], str]:
    if isinstance(content, Mapping):
        for wrapper in _WRAPPERS:
            if isinstance(content.get(wrapper), Mapping):
                return _tensors(path, content[wrapper]), f"state dict in {wrapper!r}"
        if content and all(isinstance(value, Tensor) for value in content.values()):
            return _tensors(path, content), "bare state dict"
        raise CheckpointError(
            f"{path} holds no state dict: its entries are {listed([str(key) for key in content]) or 'none'}"
        )
    raise CheckpointError(f"{path} holds a {type(content).__name__}, not a state dict")


def _tensors(path: Path, state: Mapping[Any, Any]) -> dict[str, Tensor]:
    others = [str(name) for name, value in state.items() if not isinstance(value, Tensor) or not isinstance(name, str)]
    if others or not state:
        raise CheckpointError(
            f"{path}: its state dict has entries that are no tensors: {listed(others) or 'none at all'}"
        )
    if odd := [name for name, value in state.items() if value.layout != torch.strided or value.is_quantized]:
        raise CheckpointError(f"{path}: sparse or quantised tensors are not read: {listed(odd)}")
    return dict(state)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while part := stream.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()
