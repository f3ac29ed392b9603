"""From MapTR's axes (x right, y forward, around the LiDAR) to ours (x forward, y left), folded into weights exactly.

Along x nothing changes but the axis's name; along y the sense does as well: left = 1 - right over the grid.
"""

import math

import torch
from torch import Tensor

from hdmap_core.models.view_transforms.bev_self_attention import MAPS


def turned_points(weight: Tensor) -> Tensor:
    """Last layer of points or offsets, rows (..., x right, y forward) -> (..., x forward, y left); biases likewise."""
    pairs = weight.unflatten(0, (-1, 2))
    return torch.stack([pairs[:, 1], -pairs[:, 0]], dim=1).flatten(0, 1)


def turned_offsets_of_maps(weight: Tensor, *, heads: int) -> Tensor:
    """BEVFormer's self-attention: rows (heads, maps, samples, xy) -> (maps, heads, samples, turned xy)."""
    return turned_points(maps_first(weight, heads=heads))


def maps_first(weight: Tensor, *, heads: int) -> Tensor:
    """Rows (heads, maps, rows of a map) -> (maps, heads, rows of a map)."""
    return weight.unflatten(0, (heads, MAPS, -1)).transpose(0, 1).flatten(0, 2)


def kernel_rows_first(weight: Tensor, *, heads: int, kernel: tuple[int, int]) -> Tensor:
    """Rows (heads, columns of the kernel, its rows) -> (heads, rows, columns)."""
    rows, columns = kernel
    return weight.unflatten(0, (heads, columns, rows)).transpose(1, 2).flatten(0, 2)


def turned_cells(table: Tensor, size: tuple[int, int]) -> Tensor:
    """(H W, C) by forward and right -> (Y X, C) by left and forward, of a grid of `size` (H, W)."""
    return table.unflatten(0, size).flip(1).transpose(0, 1).flatten(0, 1)


def turned_kernel(weight: Tensor) -> Tensor:
    """(O, C, k forward, k right) -> (O, C, k left, k forward)."""
    return weight.flip(-1).transpose(-1, -2)


def turned_sine(weight: Tensor) -> Tensor:
    """(O, C) that reads sines and cosines of (y forward, x right) -> the same of (y left, x forward).

    The sine of 1 - y is one of sine and cosine of y, frequency by frequency.
    """
    forward, right = weight.double().chunk(2, dim=1)
    pairs = right.shape[1] // 2
    frequency = 2 * math.pi * 10_000.0 ** (-torch.arange(pairs, dtype=torch.float64) / pairs)
    sine, cosine = right.unflatten(1, (pairs, 2)).unbind(dim=2)
    new_sine = cosine * frequency.sin() - sine * frequency.cos()
    new_cosine = sine * frequency.sin() + cosine * frequency.cos()
    left = torch.stack([new_sine, new_cosine], dim=2).flatten(1)
    return torch.cat([left, forward], dim=1).float()
