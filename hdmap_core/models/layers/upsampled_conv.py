"""A 3x3 convolution of an enlarged map, computed at the map's own size.

Enlarging is linear and the same for all channels, so it may follow the convolution's matrices instead of preceding
them: every tap's matrix is applied to the small map, and enlarging, moving by the tap and adding up are one product
with a matrix along each axis. Equal to rounding, at a fraction of the multiplications.
"""

from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hdmap_core.models.layers.folded_norm import folded
from hdmap_core.models.layers.on_cpu import only_inferred_on_cpu

PART = 64
"""Pixels of an enlarged axis that are made at a time, of the few that they look at."""


def upsampled_conv(
    block: nn.Module, features: Tensor, size: tuple[int, int], *, beside: Tensor | None = None
) -> Tensor:
    """`block` of the features, enlarged bilinearly with aligned corners, with other features before them.

    Args:
        block: 3x3 convolution, norm and activation, of `conv_norm_act`.
        features: (B, C, h, w).
        size: (Y, X) to enlarge them to.
        beside: (B, C', Y, X), the first channels that the block sees; None: there are none.

    Returns:
        (B, O, Y, X).
    """
    conv, norm, activation = cast(tuple[nn.Conv2d, nn.BatchNorm2d, nn.Module], tuple(block.children()))
    if norm.training or not _pays(conv, features, size):
        if tuple(features.shape[-2:]) != tuple(size):
            features = F.interpolate(features, size=size, mode="bilinear", align_corners=True)
        return block(features if beside is None else torch.cat([beside, features], dim=1))
    weight, bias = folded(conv, norm)
    channels = features.shape[1]
    if beside is None:
        result = bias[:, None, None].repeat(len(features), 1, *size).view(-1, len(bias), *size)
    else:
        result = F.conv2d(beside, weight[:, :-channels], bias, padding=1).contiguous()
    for each, sums in zip(features, result, strict=True):
        _add_from_small(weight[:, -channels:], each, sums)
    return activation(result)


def _pays(conv: nn.Conv2d, features: Tensor, size: tuple[int, int]) -> bool:
    """Where a CPU computes the result alone, and this way takes at most three quarters of the multiplications."""
    if not only_inferred_on_cpu(features):
        return False
    (channels, rows, columns), (height, width) = features.shape[1:], size
    tall, wide = (_looked_at(few, many) for few, many in zip((rows, columns), size, strict=True))
    here = 9 * channels * rows * columns + 9 * height * tall * columns + 3 * height * wide * width
    return 4 * here <= 3 * 9 * channels * height * width


def _looked_at(few: int, many: int) -> int:
    """How many pixels a part of the enlarged axis looks at, about."""
    return min(few, PART * few // many + 3)


def _add_from_small(weight: Tensor, features: Tensor, result: Tensor) -> None:
    """Weight (O, C, 3, 3), features (C, h, w); what they make is added to (O, Y, X)."""
    outputs, channels = weight.shape[:2]
    (_, rows, columns), size = features.shape, (result.shape[1], result.shape[2])
    taps = weight.permute(2, 3, 0, 1).reshape(-1, channels) @ features.flatten(1)
    taps = taps.view(3, 3 * outputs, rows, columns)
    down, across = (_enlarging(few, many, features) for few, many in zip((rows, columns), size, strict=True))
    tall = taps.new_zeros(3 * outputs, size[0], columns)
    for few, many in _parts(down):
        for matrix, tap in zip(down, taps, strict=True):
            tall[:, many].baddbmm_(matrix[few, many].t().expand(3 * outputs, -1, -1), tap[:, few])
    lines = result.view(outputs * size[0], size[1])
    for few, many in _parts(across):
        for matrix, tap in zip(across, tall.view(3, -1, columns), strict=True):
            lines[:, many].addmm_(tap[:, few], matrix[few, many])


def _enlarging(few: int, many: int, like: Tensor) -> Tensor:
    """(3, few, many): enlarging an axis and then moving it by each tap; zeros come in at the ends."""
    unit = torch.eye(few, dtype=like.dtype, device=like.device)
    matrix = F.interpolate(unit[None], size=many, mode="linear", align_corners=True)[0]
    return torch.stack([F.pad(matrix, (1, 0))[:, :-1], matrix, F.pad(matrix, (0, 1))[:, 1:]])


def _parts(matrices: Tensor) -> Iterator[tuple[slice, slice]]:
    """(3, few, many), near the diagonal -> parts of the many, each with the few that it looks at."""
    for begin in range(0, matrices.shape[2], PART):
        many = slice(begin, begin + PART)
        looked_at = matrices[:, :, many].any(dim=0).any(dim=1).nonzero()
        yield slice(int(looked_at[0]), int(looked_at[-1]) + 1), many
