"""The exponential moving average of a model's weights: what is evaluated, saved and shipped."""

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor


class WeightAverage:
    """Follows a model; `publish` puts the averaged weights into a whole model.

    Args:
        model: already on its device and, with FSDP, sharded.
        published: a copy of the model from before that, on the same device; what `publish` fills.
    """

    def __init__(self, model: nn.Module, published: nn.Module) -> None:
        self._published = published.eval().requires_grad_(False)
        state = model.state_dict()
        self._sharded = any(isinstance(value, DTensor) for value in state.values())
        self.values: dict[str, Tensor] = (
            {name: value.detach().clone() for name, value in state.items()} if self._sharded else published.state_dict()
        )
        self._frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}

    @torch.no_grad()
    def follow(self, model: nn.Module, decay: float) -> None:
        """Moves the average a step towards the model; counters and other integers are copied."""
        for name, value in model.state_dict().items():
            if name in self._frozen:
                continue
            if value.is_floating_point():
                self.values[name].lerp_(value, 1 - decay)
            else:
                self.values[name].copy_(value)

    def publish(self) -> nn.Module:
        """The averaged model, whole, in evaluation mode. With FSDP every process must call it."""
        if self._sharded:
            self._published.load_state_dict({name: whole(value) for name, value in self.values.items()})
        return self._published


def whole(value: Tensor) -> Tensor:
    """A tensor without its sharding; every process must call it."""
    return value.full_tensor() if isinstance(value, DTensor) else value
