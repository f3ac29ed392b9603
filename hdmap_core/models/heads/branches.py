"""What every decoder of MapTR's line says of a query: classes and points, with the published way to begin."""

import itertools
import math

from torch import nn

LOGIT_LIMIT = math.log((1 - 1e-5) / 1e-5)
"""Of a place before its sigmoid; beyond, the published inverse of the sigmoid stops as well."""
_PRIOR = 0.01


def class_branch(channels: int, num_classes: int) -> nn.Sequential:
    """Its last bias says that one query in a hundred is of a class (Lin et al. 2017, section 4.1)."""
    last = nn.Linear(channels, num_classes)
    nn.init.constant_(last.bias, -math.log((1 - _PRIOR) / _PRIOR))
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
