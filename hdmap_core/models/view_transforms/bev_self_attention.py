"""Temporal self-attention of BEVFormer (ECCV 2022, section 3.4): the BEV reads itself and its past.

Deliberate differences from the published code:

- The past map is warped by the whole ego motion in the plane instead of rotated about a fixed cell and shifted.
- With a batch, every sample is paired with its own past; the published code mixes the samples up.
- The map beside the past is the layer's own input in every layer, and it also stands in for the past where there is
  none: in the first frame, and in cells that the car's earlier grid did not cover.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hdmap_core.geometry import BEVGrid
from hdmap_core.models.layers.bilinear_bags import bilinear_bags
from hdmap_core.models.layers.deformable_attention import deformable_sample, ring_offsets
from hdmap_core.models.layers.on_cpu import eager_on_cpu
from hdmap_core.models.layers.raster_size import size_xy

MAPS = 2


class PastBEV(nn.Module):
    """Warps BEV features of an earlier instant into this one's ego frame."""

    centres: Tensor

    def __init__(self, grid: BEVGrid) -> None:
        super().__init__()
        self.grid = grid
        self.register_buffer("centres", grid.cell_centres(), persistent=False)

    def forward(self, previous: Tensor, ego_from_previous: Tensor) -> tuple[Tensor, Tensor]:
        """Warps by bilinear interpolation.

        Args:
            previous: (B, C, Y, X).
            ego_from_previous: (B, 4, 4) float32 rigid; the ground is taken as the plane z = 0 of this ego frame.

        Returns:
            warped (B, C, Y, X) float32, covered (B, 1, Y, X) bool: the cell lies in the earlier grid.
        """
        pose = ego_from_previous.float()[:, None, None]
        shift = F.pad(self.centres, (0, 1)) - pose[..., :3, 3]
        places = (shift[..., None] * pose[..., :3, :2]).sum(dim=-2)  # R^T (p - t), elementwise: no TF32
        places = self.grid.normalise(places)
        with torch.autocast(previous.device.type, enabled=False):
            warped = F.grid_sample(previous.float(), places * 2 - 1, padding_mode="border", align_corners=False)
        return warped, ((places >= 0) & (places <= 1)).all(dim=-1)[:, None]


class BEVSelfAttention(nn.Module):
    """Deformable attention on two maps, past and present, around each cell's own place; their mean is projected."""

    reference: Tensor

    def __init__(self, channels: int, *, grid: BEVGrid, heads: int, samples: int) -> None:
        super().__init__()
        self.shape, self.heads, self.samples = grid.shape, heads, samples
        self.register_buffer("reference", grid.normalise(grid.cell_centres()).flatten(0, 1), persistent=False)
        self.offset = nn.Linear(2 * channels, MAPS * heads * samples * 2)
        self.weight = nn.Linear(2 * channels, MAPS * heads * samples)
        self.value = nn.Linear(channels, channels)
        self.output = nn.Linear(channels, channels)
        for zero in (self.offset.weight, self.weight.weight, self.weight.bias, self.value.bias, self.output.bias):
            nn.init.zeros_(zero)
        with torch.no_grad():
            self.offset.bias.copy_(ring_offsets(heads, samples).flatten().repeat(MAPS))
        nn.init.xavier_uniform_(self.value.weight)
        nn.init.xavier_uniform_(self.output.weight)

    def forward(self, bev: Tensor, position: Tensor, past: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """Reads the past and the present map.

        Args:
            bev: (B, Q, C) the present, row-major cells of the grid.
            position: (Q, C) added to the present where offsets and weights are computed.
            past: (B, Q, C) warped into this ego frame, and (B, Q, 1) bool where it is known.

        Returns:
            (B, Q, C).
        """
        before = bev if past is None else torch.where(past[1], past[0].to(bev.dtype), bev)
        present = self.value(bev)
        maps = present[:, None] if past is None else torch.stack([self.value(before), present], dim=1)
        shape = *bev.shape[:2], MAPS * self.heads, self.samples
        cells = size_xy(*self.shape[::-1], bev)
        offset, logits = (self._of_query(linear, before, bev, position) for linear in (self.offset, self.weight))
        locations = self.reference[:, None, None] + offset.float().view(*shape, 2) / cells
        weights = logits.float().view(shape).softmax(dim=-1)
        if eager_on_cpu(bev):
            read = self._read(maps, locations, weights)
            return self.output(read.to(bev.dtype))
        value = maps.expand(-1, MAPS, -1, -1).transpose(2, 3).reshape(len(bev), shape[2], -1, *self.shape)
        read = deformable_sample(value, locations.transpose(1, 2), weights.transpose(1, 2))
        return self.output(read.unflatten(-1, (MAPS, -1)).mean(dim=2))

    @staticmethod
    def _of_query(linear: nn.Linear, before: Tensor, bev: Tensor, position: Tensor) -> Tensor:
        """`linear` of the past and the placed present beside each other; where both are one, of that one alone."""
        if before is not bev:
            return linear(torch.cat([before, bev + position], dim=-1))
        past, present = linear.weight.chunk(2, dim=1)
        return F.linear(bev, past + present, linear.bias) + F.linear(position, present)

    def _read(self, maps: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
        """(B, 1 or 2, Q, C), (B, Q, 2 M, T, 2), (B, Q, 2 M, T) -> (B, Q, C) float32: all a head reads in one sum."""
        batch, count, queries = maps.shape[:3]
        with torch.autocast(maps.device.type, enabled=False):
            pixels = locations * size_xy(*self.shape[::-1], locations) - 0.5
            pixels = pixels.view(-1, MAPS, self.heads, self.samples, 2).transpose(1, 2).flatten(2, 3)
            shares = (weights / MAPS).view(-1, MAPS, self.heads, self.samples).transpose(1, 2).flatten(2, 3)
            first = torch.arange(batch, device=maps.device).repeat_interleave(queries)[:, None, None] * count
            which = first + torch.arange(MAPS, device=maps.device).repeat_interleave(self.samples) % count
            raster = maps.reshape(batch * count, *self.shape, self.heads, -1)
            return bilinear_bags(raster, which, pixels, shares).view(batch, queries, -1)
