"""Safetensors files of weights; anything else is named by what it is."""

from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from hdmap_core.errors import CheckpointError
from hdmap_core.files.kinds import what_it_is


def read_weights(path: Path, advice: str) -> tuple[dict[str, str], dict[str, Tensor]]:
    """The metadata and the tensors of a safetensors file.

    Args:
        path: the file.
        advice: what to give instead; ends the message.

    Raises:
        CheckpointError: saying what the file is, where it is none, or how it is damaged.
    """
    try:
        kind = what_it_is(path)
        if kind is None:
            with safe_open(path, framework="pt") as file:
                return dict(file.metadata() or {}), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise CheckpointError(f"{path}: the file does not exist; {advice}") from None
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not a readable safetensors file: {error}; copy it again") from None
    raise CheckpointError(f"{path} is {kind}; {advice}")
