"""Batch norm over rows of which some are padding."""

import torch
from torch import Tensor, nn


class MaskedBatchNorm(nn.Module):
    """Batch norm of (M, C) rows whose statistics see the valid rows only.

    With every row valid it is `nn.BatchNorm1d`. A batch without any valid row leaves the running statistics as they
    are. Not derived from torch's batch norms on purpose: what replaces those (synchronised batch norm, fusing) would
    lose the mask. So every device of a distributed training takes its own statistics, of some 10 000 points or more.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, *, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, rows: Tensor, valid: Tensor) -> Tensor:
        """Normalised rows; what invalid ones become means nothing.

        Args:
            rows: (M, C) float32, finite in every row.
            valid: (M,) bool.
        """
        if self.training:
            mean, var = self._statistics(rows, valid)
        else:
            mean, var = self.running_mean, self.running_var
        return (rows - mean) * (torch.rsqrt(var + self.eps) * self.weight) + self.bias

    def _statistics(self, rows: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and biased variance (C,) of the valid rows; running statistics take the unbiased one, as torch's do."""
        weight = valid.to(rows.dtype)[:, None]
        count = weight.sum()
        mean = (rows * weight).sum(0) / count.clamp(min=1)
        squares = ((rows - mean).square() * weight).sum(0)
        with torch.no_grad():
            momentum = self.momentum * (count > 0)
            self.running_mean += momentum * (mean - self.running_mean)
            self.running_var += momentum * (squares / (count - 1).clamp(min=1) - self.running_var)
        return mean, squares / count.clamp(min=1)
