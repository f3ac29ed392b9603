"""The state that a run goes on from, as one flat set of tensors, whatever devices it was spread over."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from training.average import WeightAverage, whole


def gather_state(model: nn.Module, average: WeightAverage, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """`model/NAME`, `average/NAME` and `optimizer/NAME/MOMENT`, whole and on the CPU. Every process must call it."""
    tensors = {f"model/{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"average/{name}": value for name, value in average.values.items()}
    for name, parameter in model.named_parameters():
        for moment, value in optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer/{name}/{moment}"] = value
    return {name: whole(value.detach()).cpu().contiguous() for name, value in tensors.items()}


@torch.no_grad()
def put_state(
    tensors: Mapping[str, Tensor], model: nn.Module, average: WeightAverage, optimizer: torch.optim.Optimizer
) -> None:
    """Puts back what `gather_state` took, in place. Every process must call it with all tensors.

    Raises:
        ValueError: if the state is not of this model.
    """
    wanted = {f"model/{name}": value for name, value in model.state_dict().items()}
    wanted |= {f"average/{name}": value for name, value in average.values.items()}
    found = {name for name in tensors if not name.startswith("optimizer/")}
    if different := sorted(wanted.keys() ^ found):
        raise ValueError(f"it is of another model: {len(different)} tensors differ, e.g. {different[0]}")
    for name, value in wanted.items():
        if value.shape != tensors[name].shape:
            raise ValueError(f"it is of another model: {name} is {[*tensors[name].shape]}, not {[*value.shape]}")
        value.copy_(_like(value, tensors[name]))
    for name, parameter in model.named_parameters():
        prefix = f"optimizer/{name}/"
        moments = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        if moments:  # Adam's count of steps stays on the CPU, as torch has it
            optimizer.state[parameter] = {
                key: value.clone() if value.ndim == 0 else _like(parameter, value).clone()
                for key, value in moments.items()
            }


def _like(example: Tensor, value: Tensor) -> Tensor:
    value = value.to(example.device)
    return distribute_tensor(value, example.device_mesh, example.placements) if isinstance(example, DTensor) else value
