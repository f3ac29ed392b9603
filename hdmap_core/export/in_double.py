"""The same network in float64, to tell rounding from mistakes."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from hdmap_core.model_io import ModelInput, ModelOutput


def in_double(model: nn.Module, inputs: ModelInput) -> ModelOutput:
    """What a model says where nothing is rounded to float32, not even what it asks to be.

    Args:
        model: in float32; it stays as it is.
        inputs: of its device.
    """
    given = {f.name: _doubled(getattr(inputs, f.name)) for f in fields(inputs)}
    network, before = deepcopy(model).double(), torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.inference_mode(), _InDouble():
            output: ModelOutput = network(ModelInput(**given))
            return output
    finally:
        torch.set_default_dtype(before)


def _doubled(value: Tensor | None) -> Tensor | None:
    return value.double() if value is not None and value.is_floating_point() else value


class _InDouble(TorchFunctionMode):
    """Whoever asks for float32 gets float64."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is Tensor.float:
            func = Tensor.double
        double = {torch.float32: torch.float64}
        named = {
            name: double.get(value, value) if isinstance(value, torch.dtype) else value
            for name, value in (kwargs or {}).items()
        }
        return func(*(double.get(each, each) if isinstance(each, torch.dtype) else each for each in args), **named)
