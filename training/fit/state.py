"""The state that a run goes on from, as one flat set of tensors, whatever devices it was spread over."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from training.fit.average import WeightAverage, whole


def gather_state(
    model: nn.Module, learned: nn.Module, average: WeightAverage, optimizer: torch.optim.Optimizer
) -> dict[str, Tensor]:
    """`model/NAME`, `learned/NAME` (of the objective), `average/NAME` and `optimizer/NAME/MOMENT`, whole, on the CPU.

    Every process must call it.
    """
    tensors = _weights(model, learned, average)
    for name, parameter in _parameters(model, learned):
        for moment, value in optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer/{name}/{moment}"] = value
    return {name: whole(value.detach()).cpu().contiguous() for name, value in tensors.items()}


@torch.no_grad()
def put_state(
    tensors: Mapping[str, Tensor],
    model: nn.Module,
    learned: nn.Module,
    average: WeightAverage,
    optimizer: torch.optim.Optimizer,
) -> None:
    """Puts back what `gather_state` took, in place. Every process must call it with all tensors.

    Raises:
        ValueError: if the state is not of this model.
    """
    wanted = _weights(model, learned, average)
    found = {name for name in tensors if not name.startswith("optimizer/")}
    if different := sorted(wanted.keys() ^ found):
        raise ValueError(f"it is of another model: {len(different)} tensors differ, e.g. {different[0]}")
    for name, value in wanted.items():
        if value.shape != tensors[name].shape:
            raise ValueError(f"it is of another model: {name} is {[*tensors[name].shape]}, not {[*value.shape]}")
        value.copy_(_like(value, tensors[name]))
    for name, parameter in _parameters(model, learned):
        prefix = f"optimizer/{name}/"
        moments = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        if moments:  # Adam's count of steps stays on the CPU, as torch has it
            optimizer.state[parameter] = {
                key: value.clone() if value.ndim == 0 else _like(parameter, value).clone()
                for key, value in moments.items()
            }


def _weights(model: nn.Module, learned: nn.Module, average: WeightAverage) -> dict[str, Tensor]:
    states = {"model": model.state_dict(), "learned": learned.state_dict(), "average": average.values}
    return {f"{of}/{name}": value for of, state in states.items() for name, value in state.items()}


def _parameters(model: nn.Module, learned: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    yield from model.named_parameters()
    yield from learned.named_parameters(prefix="learned")


def _like(example: Tensor, value: Tensor) -> Tensor:
    value = value.to(example.device)
    return distribute_tensor(value, example.device_mesh, example.placements) if isinstance(example, DTensor) else value
