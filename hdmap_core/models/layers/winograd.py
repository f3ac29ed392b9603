"""3x3 convolutions with a quarter of the multiplications (Lavin and Gray 2016, after Winograd): F(4 x 4, 3 x 3).

Tiles of 6 x 6 pixels are transformed, each of their 36 places is one product of matrices over the channels, and what
comes out is transformed to 4 x 4 pixels. Of the largest value the result is right to about 1e-5.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from hdmap_core.models.layers.on_cpu import only_inferred_on_cpu

_TILE, _MADE = 6, 4
_FLOATS_AT_ONCE = 3_000_000  # of transformed tiles, a few of which stay in the cache
# Cook and Toom's construction at 0, 1, -1, 2, -2 and infinity, each row of the weights' scaled to at most 1.
_OF_WEIGHT = torch.tensor(
    [[1, 0, 0], [1, 1, 1], [1, -1, 1], [0.25, 0.5, 1], [0.25, -0.5, 1], [0, 0, 1]], dtype=torch.float64
)
_OF_TILE = torch.tensor(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
    dtype=torch.float64,
)
_TO_PIXELS = torch.tensor(
    [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]], dtype=torch.float64
) / torch.tensor([4, -6, -6, 6, 6, 1], dtype=torch.float64)


def conv3x3(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """As `F.conv2d` with a padding of 1, in whichever way takes less time.

    Args:
        features: (B, C, Y, X).
        weight: (O, C, 3, 3).
        bias: (O,).

    Returns:
        (B, O, Y, X).
    """
    return winograd(features, weight, bias) if _pays(features, weight) else F.conv2d(features, weight, bias, padding=1)


def _pays(features: Tensor, weight: Tensor) -> bool:
    """Many channels in and out, over which the transforms are spread, and many pixels, over which the weights' is."""
    outgoing, incoming = weight.shape[:2]
    wide = outgoing * incoming >= 100 * (outgoing + incoming)
    return only_inferred_on_cpu(features) and wide and features.shape[2] * features.shape[3] >= 4096


def winograd(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """See `conv3x3`."""
    outgoing, incoming = weight.shape[:2]
    height, width = features.shape[-2:]
    of_weight, of_tile, to_pixels = (torch.kron(m, m).to(weight.dtype) for m in (_OF_WEIGHT, _OF_TILE, _TO_PIXELS))
    matrices = (of_weight @ weight.flatten(0, 1).flatten(1).t()).view(-1, outgoing, incoming)
    down, across = -(-height // _MADE), -(-width // _MADE)
    padded = F.pad(features, (1, _MADE * across - width + 1, 1, _MADE * down - height + 1))
    result = features.new_empty(len(features), outgoing, _MADE * down, _MADE * across)
    rows = max(1, _FLOATS_AT_ONCE // (_TILE**2 * incoming * across))
    for begin in range(0, down, rows):
        count = min(rows, down - begin)
        first = _MADE * begin
        for image, made in zip(padded, result[:, :, first : first + _MADE * count], strict=True):
            tiles = image[:, first : first + _MADE * count + 2].unfold(1, _TILE, _MADE).unfold(2, _TILE, _MADE)
            places = of_tile @ tiles.permute(3, 4, 0, 1, 2).reshape(_TILE**2, -1)
            products = torch.bmm(matrices, places.view(_TILE**2, incoming, -1))
            pixels = (to_pixels @ products.flatten(1)).view(_MADE, _MADE, outgoing, count, across)
            tiled = made.unflatten(1, (count, _MADE)).unflatten(3, (across, _MADE))
            torch.add(pixels.permute(2, 3, 0, 4, 1), bias[:, None, None, None, None], out=tiled)
    return result[..., :height, :width]
