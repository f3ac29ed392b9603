"""A released file -> its tensors. What would run code is refused, not asked about."""

import re
import stat
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from hdmap_core.errors import CheckpointError
from hdmap_core.files.digest import sha256_of
from hdmap_core.files.kinds import what_it_is
from hdmap_core.models.state import listed
from hdmap_core.models.weight_files import read_weights

_WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Where the state dict is looked for first; else under whatever name it lies."""
_PREFIXES = ("module.", "model.", "_orig_mod.")  # of nn.DataParallel, Lightning's modules, torch.compile
_DEEPEST = 3  # wrappers around one another
_COUNT_OF_AVERAGES = "n_averaged"  # beside the tensors of torch's AveragedModel
_MOST_BYTES = 2**32  # of all tensors; the largest model has 391 million numbers. A few bytes may stand for many
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
    tensors, prefix = _without_prefix(tensors)
    if prefix:
        layout += f", names with {prefix!r}"
    with path.open("rb") as stream:
        return WeightFile(path, sha256_of(stream), tensors, layout)


def _loaded(path: Path) -> Any:
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            raise CheckpointError(f"{path} is {'a folder' if stat.S_ISDIR(mode) else 'no file'}; give the weight file")
        kind = what_it_is(path)
        if kind is not None and not kind.startswith(_PICKLED):
            raise CheckpointError(f"{path} is {kind}; give the PyTorch file that the authors offer")
        if kind is None and _is_safetensors(path):
            metadata, tensors = read_weights(path, "give the file that the authors offer")
            if "hdmap" in metadata:
                raise CheckpointError(f"{path} is a checkpoint of hdmap_ros already; use it as it is")
            return tensors
        if zipfile.is_zipfile(path):
            _check_archive(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of ancient pickles; what matters is told as an error
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or _one_line(error)}") from None
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


def _check_archive(path: Path) -> None:
    """Refuses an archive that PyTorch did not write so: it compresses nothing, and knows the sum of every entry.

    Raises:
        CheckpointError: if entries are damaged, or would unpack to more than the file has.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
            if unpacked > path.stat().st_size:
                raise CheckpointError(
                    f"{path} is refused: its {path.stat().st_size} bytes would unpack to {unpacked}, and PyTorch "
                    "compresses nothing; give the file as its authors offer it"
                )
            damaged = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise CheckpointError(f"{path} is cut off or damaged: {_one_line(error)}; download it again") from None
    if damaged is not None:
        raise CheckpointError(f"{path} is damaged: its entry {damaged} is not what was written; download it again")


def _is_safetensors(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(9)[8:] == b"{"


def _one_line(error: Exception) -> str:
    text = str(error)
    text = (text.partition("WeightsUnpickler error:")[2] or text).partition("Check the documentation")[0]
    return " ".join(text.split())[:200] or type(error).__name__


def _state_dict(path: Path, content: Any) -> tuple[dict[str, Tensor], str]:
    """The state dict, and where it lay."""
    wrappers: list[str] = []
    for _ in range(_DEEPEST):
        if not isinstance(content, Mapping):
            raise CheckpointError(f"{path} holds a {type(content).__name__}, not a state dict")
        if _is_state(content):
            break
        inner = {str(key): value for key, value in content.items() if isinstance(value, Mapping)}
        likely = [key for key in _WRAPPERS if key in inner] or [key for key in inner if _is_state(inner[key])]
        if not likely and any(isinstance(value, Tensor) for value in content.values()):
            break  # one with something odd in it
        if not likely:
            keys = listed([str(key) for key in content]) or "none"
            raise CheckpointError(f"{path} holds no state dict: its entries are {keys}")
        if len(likely) > 1 and likely[0] not in _WRAPPERS:
            raise CheckpointError(f"{path} holds several state dicts: {listed(likely)}; keep the one that is meant")
        beside = [key for key in inner if key != likely[0] and _is_state(inner[key])]
        wrappers.append(repr(likely[0]) + (f" (not that in {listed(beside)})" if beside else ""))
        content = inner[likely[0]]
    where = "state dict in " + ", ".join(wrappers) if wrappers else "bare state dict"
    return _tensors(path, content), where


def _is_state(content: Mapping[Any, Any]) -> bool:
    return bool(content) and all(isinstance(value, Tensor) for value in content.values())


def _without_prefix(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """Names without what wrappers of modules put before all of them, and what that was."""
    found, more = "", True
    while more:
        more = False
        for prefix in _PREFIXES:
            named = {name: tensor for name, tensor in tensors.items() if name != _COUNT_OF_AVERAGES}
            if named and all(name.startswith(prefix) for name in named):
                tensors = {name.removeprefix(prefix): tensor for name, tensor in named.items()}
                found, more = found + prefix, True
    return tensors, found


def _tensors(path: Path, state: Any) -> dict[str, Tensor]:
    """The entries, if all are tensors with numbers of their own.

    Raises:
        CheckpointError: naming those that are not.
    """
    others = [str(name) for name, value in state.items() if not isinstance(value, Tensor) or not isinstance(name, str)]
    if others or not state:
        raise CheckpointError(
            f"{path}: its state dict has entries that are no tensors: {listed(others) or 'none at all'}"
        )
    if odd := [name for name, value in state.items() if not _is_plain(value)]:
        raise CheckpointError(f"{path}: only dense tensors of real numbers are read, not {listed(odd)}")
    if (size := sum(value.numel() * value.element_size() for value in state.values())) > _MOST_BYTES:
        raise CheckpointError(
            f"{path} is refused: its tensors would take {size:,} bytes, more than any model published"
        )
    return {name: value.detach() for name, value in state.items()}


def _is_plain(tensor: Tensor) -> bool:
    dense = tensor.layout == torch.strided and not tensor.is_quantized and not tensor.is_nested
    return dense and tensor.device.type == "cpu" and not tensor.is_complex()
