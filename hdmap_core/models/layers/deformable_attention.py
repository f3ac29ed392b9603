"""Deformable attention (Zhu et al., ICLR 2021, section 4.1) in plain torch: `grid_sample`, no operator of our own."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hdmap_core.models.layers.raster_size import size_xy


def deformable_sample(value: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    """Weighted bilinear samples, head by head; outside of the map is zero. Computed in float32 under any autocast.

    Args:
        value: (B, M, D, h, w) features of M heads.
        locations: (B, M, Q, T, 2) where each head reads its T samples: (x, y), 0 and 1 are the map's outer edges.
        weights: (B, M, Q, T).

    Returns:
        (B, Q, M D), of the dtype of `value`.
    """
    batch, heads, depth, *size = value.shape
    queries, samples = locations.shape[2:4]
    with torch.autocast(value.device.type, enabled=False):
        grid = locations.float().reshape(batch * heads, queries, samples, 2) * 2 - 1
        read = F.grid_sample(value.float().reshape(batch * heads, depth, *size), grid, align_corners=False)
        total = (read * weights.float().reshape(batch * heads, 1, queries, samples)).sum(dim=-1)
    return total.reshape(batch, heads * depth, queries).transpose(1, 2).to(value.dtype)


class DeformableAttention(nn.Module):
    """Each query reads `samples` places per head around its reference point; no output projection.

    Offsets start on a square ring of one direction per head, sample i at i + 1 cells; weights start equal.
    """

    def __init__(self, channels: int, *, heads: int, samples: int, query_channels: int | None = None) -> None:
        super().__init__()
        self.heads, self.samples = heads, samples
        query_channels = query_channels or channels
        self.offset = nn.Linear(query_channels, heads * samples * 2)
        self.weight = nn.Linear(query_channels, heads * samples)
        self.value = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.offset.weight)
        with torch.no_grad():
            self.offset.bias.copy_(ring_offsets(heads, samples).flatten())
        nn.init.zeros_(self.weight.weight)
        nn.init.zeros_(self.weight.bias)
        nn.init.xavier_uniform_(self.value.weight.flatten(1))
        nn.init.zeros_(torch.as_tensor(self.value.bias))

    def forward(self, query: Tensor, reference: Tensor, features: Tensor) -> Tensor:
        """Reads a map.

        Args:
            query: (B, Q, C') what offsets and weights are computed from.
            reference: (B, Q, 2) in [0, 1], (x, y); float32, also under autocast.
            features: (B, C, h, w).

        Returns:
            (B, Q, C).
        """
        batch, queries = query.shape[:2]
        height, width = features.shape[-2:]
        shape = batch, queries, self.heads, self.samples
        cells = size_xy(width, height, reference)
        offset = self.offset(query).float().view(*shape, 2) / cells
        locations = (reference.float()[:, :, None, None] + offset).permute(0, 2, 1, 3, 4)
        weights = self.weight(query).float().view(shape).softmax(dim=-1).transpose(1, 2)
        value = self.value(features).view(batch, self.heads, -1, height, width)
        return deformable_sample(value, locations, weights)


def ring_offsets(heads: int, samples: int) -> Tensor:
    """(M, T, 2) in cells: head m looks in direction m of M on a unit square, sample t at t + 1 times that."""
    angle = torch.arange(heads) * (2 * math.pi / heads)
    direction = torch.stack([angle.cos(), angle.sin()], dim=-1)
    direction = direction / direction.abs().amax(dim=-1, keepdim=True)
    return direction[:, None] * torch.arange(1, samples + 1)[:, None]
