"""Weighted bilinear reads of feature maps as sums over bags of rows: what `grid_sample` and a weighted sum say.

On a CPU this is several times as fast: a pixel's channels lie beside each other, and no read is ever stored, only the
sum. On other devices, and wherever a graph is recorded, `grid_sample` stays: every runtime knows it.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

ROWS_AT_ONCE = 2048
"""Without gradients so many rows are read at a time: their indices stay in the cache."""


def bilinear_bags(maps: Tensor, which: Tensor, pixels: Tensor, weights: Tensor) -> Tensor:
    """For every row and head the weighted sum of its bilinear reads; outside of a map is zero. float32.

    Args:
        maps: (K, h, w, M, D) features of M heads.
        which: int64, broadcastable to (R, M, T): the map that is read.
        pixels: (R, M, T, 2) places (x, y); 0 is the centre of the first pixel.
        weights: (R, M, T).

    Returns:
        (R, M, D).
    """
    maps = maps.float()
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (maps, pixels, weights)):
        return _bags(maps, which, pixels, weights)
    which = which.expand(len(pixels), *which.shape[1:])
    parts = zip(*(tensor.split(ROWS_AT_ONCE) for tensor in (which, pixels, weights)), strict=True)
    found = [_bags(maps, *part) for part in parts]
    return torch.cat(found) if found else maps.new_zeros(0, *maps.shape[-2:])


def _bags(maps: Tensor, which: Tensor, pixels: Tensor, weights: Tensor) -> Tensor:
    _, height, width, heads, depth = maps.shape
    whole = torch.int32 if maps.numel() // depth < 2**31 else torch.int64  # half the memory that goes through the cache
    (x, x_share), (y, y_share) = (
        _neighbours(pixels[..., axis], size, whole) for axis, size in ((0, width), (1, height))
    )
    head = torch.arange(heads, device=maps.device, dtype=whole)[:, None, None]
    row = (which.to(whole)[..., None] * height + y) * (width * heads) + head
    index = row[..., :, None] + (x * heads)[..., None, :]  # (R, M, T, 2, 2)
    share = (weights.float()[..., None] * y_share)[..., :, None] * x_share[..., None, :]
    size = len(pixels) * heads, -1
    if not len(pixels):
        return maps.new_zeros(0, heads, depth)
    read = F.embedding_bag(
        index.reshape(size), maps.reshape(-1, depth), mode="sum", per_sample_weights=share.reshape(size)
    )
    return read.view(-1, heads, depth)


def _neighbours(place: Tensor, size: int, whole: torch.dtype) -> tuple[Tensor, Tensor]:
    """(..., 2) the two pixels around each place of an axis, moved inside, as `whole`; and what each counts."""
    place = place.float().clamp(-1, size)  # beyond that all is zero, and whole numbers would overflow
    below = place.detach().floor()
    above = place - below
    pixel = below.to(whole)
    pixel = torch.stack([pixel, pixel + 1], dim=-1)
    share = torch.stack([1 - above, above], dim=-1) * ((pixel >= 0) & (pixel < size))
    return pixel.clamp(0, size - 1), share
