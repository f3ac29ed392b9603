"""What every decoder of MapTR's line says of a query: classes and points, with the published way to begin."""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hdmap_core.model_io import VectorOutput

LOGIT_LIMIT = math.log((1 - 1e-5) / 1e-5)
"""Of a place before its sigmoid; beyond, the published inverse of the sigmoid stops as well."""
_PRIOR = 0.01


def rare(probability: float) -> float:
    """The bias of a logit that says at first that few are of a class (Lin et al. 2017, section 4.1)."""
    return -math.log((1 - probability) / probability)


def class_branch(channels: int, num_classes: int) -> nn.Sequential:
    """(..., C) -> (..., K) logits; at first one query in a hundred is of a class."""
    last = nn.Linear(channels, num_classes)
    nn.init.constant_(last.bias, rare(_PRIOR))
    hidden = [
        module
        for _ in range(2)
        for module in (nn.Linear(channels, channels), nn.LayerNorm(channels), nn.ReLU(inplace=True))
    ]
    return nn.Sequential(*hidden, last)


def point_branch(widths: list[int]) -> nn.Sequential:
    """Layers from the first width to the last. Starts as torch starts linear layers, not at zero, as published."""
    *hidden, last = (nn.Linear(low, high) for low, high in itertools.pairwise(widths))
    return nn.Sequential(*(module for linear in hidden for module in (linear, nn.ReLU(inplace=True))), last)


def start_xavier(module: nn.Module) -> None:
    """Xavier-uniform matrices and zero biases, as the published transformer starts."""
    for parameter in module.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)
        else:
            nn.init.zeros_(parameter)


def said(logits: Sequence[Tensor], points: Sequence[Tensor], queries: Tensor, count: int) -> VectorOutput:
    """What the layers of a decoder said.

    Args:
        logits: (B, Q, K) of each layer.
        points: (B, Q, P, 2) of each layer.
        queries: (B, Q, C) of the last one.
        count: of the queries that are always there; any others are `one_to_many`.
    """
    every_logit, every_point = torch.stack(list(logits)), torch.stack(list(points))
    one_to_many = None
    if every_logit.shape[2] > count:
        one_to_many = VectorOutput(every_logit[:, :, count:], every_point[:, :, count:])
    return VectorOutput(every_logit[:, :, :count], every_point[:, :, :count], one_to_many, queries[:, :count])
