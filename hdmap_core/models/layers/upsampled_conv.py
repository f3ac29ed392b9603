"""A 3x3 convolution of an enlarged map, computed at the map's own size.

Enlarging is linear and the same for all channels, so it may follow the convolution's matrices instead of preceding
them: every tap's matrix is applied to the small map, and enlarging, moving by the tap and adding up are one product
with a matrix along each axis. Equal to rounding, at a fraction of the multiplications.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hdmap_core.models.layers.bilinear_bags import eager_on_cpu


def upsampled_conv(
    block: nn.Module, features: Tensor, size: tuple[int, int], *, align_corners: bool, beside: Tensor | None = None
) -> Tensor:
    """`block` of the features, enlarged bilinearly, with other features before them on the channel axis.

    Args:
        block: 3x3 convolution, norm and activation, of `conv_norm_act`.
        features: (B, C, h, w).
        size: (Y, X) to enlarge them to.
        align_corners: as `F.interpolate` means it.
        beside: (B, C', Y, X), the first channels that the block sees; None: there are none.

    Returns:
        (B, O, Y, X).
    """
    conv, norm, activation = block.children()
    assert isinstance(conv, nn.Conv2d)
    if not _pays(conv, features, size):
        if tuple(features.shape[-2:]) != tuple(size):
            features = F.interpolate(features, size=size, mode="bilinear", align_corners=align_corners)
        return block(features if beside is None else torch.cat([beside, features], dim=1))
    channels = features.shape[1]
    small = torch.stack([_from_small(conv.weight[:, -channels:], each, size, align_corners) for each in features])
    if beside is not None:
        small += F.conv2d(beside, conv.weight[:, :-channels], padding=1)
    return activation(norm(small))


def _pays(conv: nn.Conv2d, features: Tensor, size: tuple[int, int]) -> bool:
    """Where a CPU computes the result alone, and this way takes at most three quarters of the multiplications."""
    autocast = torch.is_autocast_enabled("cpu")
    if torch.is_grad_enabled() or autocast or not eager_on_cpu(features) or features.dtype != torch.float32:
        return False
    (channels, rows, columns), (height, width) = features.shape[1:], size
    here = 9 * channels * rows * columns + 9 * height * rows * columns + 3 * height * width * columns
    return 4 * here <= 3 * 9 * channels * height * width


def _from_small(weight: Tensor, features: Tensor, size: tuple[int, int], align_corners: bool) -> Tensor:
    """Weight (O, C, 3, 3), features (C, h, w) -> (O, Y, X)."""
    outputs, channels = weight.shape[:2]
    _, rows, columns = features.shape
    taps = weight.permute(2, 3, 0, 1).reshape(-1, channels) @ features.flatten(1)
    taps = taps.view(3, 3 * outputs, rows, columns)
    down, across = (
        _enlarging(few, many, align_corners, features) for few, many in zip((rows, columns), size, strict=True)
    )
    tall = taps.new_zeros(3 * outputs, size[0], columns)
    for matrix, part in zip(down, taps, strict=True):
        tall.baddbmm_(matrix.t().expand(3 * outputs, -1, -1), part)
    result = taps.new_zeros(outputs * size[0], size[1])
    for matrix, part in zip(across, tall.view(3, -1, columns), strict=True):
        result.addmm_(part, matrix)
    return result.view(outputs, *size)


def _enlarging(few: int, many: int, align_corners: bool, like: Tensor) -> Tensor:
    """(3, few, many): enlarging an axis and then moving it by each tap; zeros come in at the ends."""
    unit = torch.eye(few, dtype=like.dtype, device=like.device)
    matrix = F.interpolate(unit[None], size=many, mode="linear", align_corners=align_corners)[0]
    return torch.stack([F.pad(matrix, (1, 0))[:, :-1], matrix, F.pad(matrix, (0, 1))[:, 1:]])
