"""Sums over all processes for objectives: a loss means the same however many devices share a batch."""

from typing import Any

import torch
from torch import Tensor, distributed


def global_sum(value: Tensor) -> Tensor:
    """The sum of `value` over all processes; with one process, `value` itself. Every process must call it.

    A loss of sums, `f(global_sum(a), global_sum(b))`, then has the value of the whole batch in every process, and the
    averaging of gradients between processes gives the gradient of that value: each process's share is multiplied by
    the number of processes on the way back. Losses that are plain means over equally many samples need none of this.

    Args:
        value: any shape, the same in every process; may need a gradient.
    """
    return _GlobalSum.apply(value) if _processes() > 1 else value


class _GlobalSum(torch.autograd.Function):
    @staticmethod
    def forward(_ctx: Any, value: Tensor) -> Tensor:
        total = value.detach().clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(_ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0] * distributed.get_world_size()


def global_mean(value: Tensor) -> Tensor:
    """The mean of `value` over all processes; gradients as those of `global_sum`."""
    return global_sum(value) / _processes() if _processes() > 1 else value


def global_mean_of(values: Tensor, valid: Tensor) -> Tensor:
    """The mean of those values, of any shape, that are valid in any process; 0 where none is."""
    count = global_sum(valid.sum().to(values.dtype)).clamp(min=1)
    return global_sum(torch.where(valid, values, 0.0).sum()) / count


def global_weighted_mean(values: Tensor, weight: Tensor) -> Tensor:
    """The mean of values over all processes, each as heavy as its weight (not negative); 0 where no weight is."""
    return global_sum((values * weight).sum()) / global_sum(weight.sum()).clamp(min=1e-6)


def _processes() -> int:
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1
