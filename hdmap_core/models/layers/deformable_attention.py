"""Deformable attention (Zhu et al., ICLR 2021, section 4.1) in plain torch, no operator of our own."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hdmap_core.models.layers.bilinear_bags import bilinear_bags
from hdmap_core.models.layers.on_cpu import eager_on_cpu
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
    if eager_on_cpu(value):
        maps = value.permute(0, 3, 4, 1, 2)
        read = _read(maps, locations.transpose(1, 2), weights.transpose(1, 2))
        return read.flatten(2).to(value.dtype)
    with torch.autocast(value.device.type, enabled=False):
        grid = locations.float().reshape(batch * heads, queries, samples, 2) * 2 - 1
        read = F.grid_sample(value.float().reshape(batch * heads, depth, *size), grid, align_corners=False)
        total = (read * weights.float().reshape(batch * heads, 1, queries, samples)).sum(dim=-1)
    return total.reshape(batch, heads * depth, queries).transpose(1, 2).to(value.dtype)


def _read(maps: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    """Maps (B, h, w, M, D), locations (B, Q, M, T, 2), weights (B, Q, M, T) -> (B, Q, M, D) float32."""
    batch, queries = locations.shape[:2]
    with torch.autocast(maps.device.type, enabled=False):
        pixels = locations.float() * size_xy(maps.shape[2], maps.shape[1], locations) - 0.5
        sample = torch.arange(batch, device=maps.device).repeat_interleave(queries)[:, None, None]
        read = bilinear_bags(maps, sample, pixels.flatten(0, 1), weights.float().flatten(0, 1))
    return read.unflatten(0, (batch, queries))


class DeformableAttention(nn.Module):
    """Each query reads `samples` places per head around its reference point; no output projection.

    Offsets start on a square ring of one direction per head, sample i at i + 1 cells; weights start equal.
    """

    def __init__(self, channels: int, *, heads: int, samples: int) -> None:
        super().__init__()
        self.heads, self.samples = heads, samples
        self.offset = nn.Linear(channels, heads * samples * 2)
        self.weight = nn.Linear(channels, heads * samples)
        self.value = nn.Conv2d(channels, channels, 1)
        start_on_ring(self.offset, heads, samples)
        start_reading(self.weight, self.value)

    def forward(self, query: Tensor, reference: Tensor, features: Tensor) -> Tensor:
        """Reads a map.

        Args:
            query: (B, Q, C) what offsets and weights are computed from.
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
        locations = reference.float()[:, :, None, None] + offset
        weights = self.weight(query).float().view(shape).softmax(dim=-1)
        if eager_on_cpu(features) and not torch.is_autocast_enabled("cpu") and self._few(queries, height * width):
            return self._read_first(features, locations, weights)
        value = self.value(features).view(batch, self.heads, -1, height, width)
        return deformable_sample(value, locations.transpose(1, 2), weights.transpose(1, 2))

    def _few(self, queries: int, cells: int) -> bool:
        """Whether reading all channels for each head and projecting those costs less than projecting the map."""
        channels = self.value.in_channels
        return queries * (4 * self.samples * self.heads + channels) < cells * channels

    def _read_first(self, features: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
        """The same by reading the map before it is projected: both are linear. The bias counts as far as reads do."""
        batch, queries = locations.shape[:2]
        # A head is a query of its own here: each reads all channels.
        places, shares = locations.flatten(1, 2)[:, :, None], weights.flatten(1, 2)[:, :, None]
        shape = batch, queries, self.heads, -1
        maps = features.permute(0, 2, 3, 1)[..., None, :]
        read = _read(maps, places, shares).view(shape)
        inside = _read(maps.new_ones(maps.shape[:-1])[..., None], places, shares).view(shape)
        matrix = self.value.weight.view(self.heads, -1, self.value.in_channels)
        projected = torch.einsum("bqmc,mdc->bqmd", read, matrix)
        return (projected + inside * torch.as_tensor(self.value.bias).view(self.heads, -1)).flatten(2)


def start_reading(weight: nn.Linear, *projections: nn.Linear | nn.Conv2d) -> None:
    """Equal weights for all that a query reads; Xavier for the projections of what it reads and has read."""
    nn.init.zeros_(weight.weight)
    nn.init.zeros_(weight.bias)
    for projection in projections:
        nn.init.xavier_uniform_(projection.weight.flatten(1))
        nn.init.zeros_(torch.as_tensor(projection.bias))


def start_on_ring(offset: nn.Linear, heads: int, samples: int, maps: int = 1) -> None:
    """Offsets that are those of `ring_offsets` whatever the query, in each of the maps."""
    nn.init.zeros_(offset.weight)
    with torch.no_grad():
        offset.bias.copy_(ring_offsets(heads, samples).flatten().repeat(maps))


def ring_offsets(heads: int, samples: int) -> Tensor:
    """(M, T, 2) in cells: head m looks in direction m of M on a unit square, sample t at t + 1 times that."""
    angle = torch.arange(heads) * (2 * math.pi / heads)
    direction = torch.stack([angle.cos(), angle.sin()], dim=-1)
    direction = direction / direction.abs().amax(dim=-1, keepdim=True)
    return direction[:, None] * torch.arange(1, samples + 1)[:, None]
