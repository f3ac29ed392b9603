"""Temporal self-attention of BEVFormer (ECCV 2022, section 3.4) without a past, as MapTR's line has it.

A layer reads two maps, past and present, and has offsets and weights for both; here both are the present.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from hdmap_core.geometry import BEVGrid
from hdmap_core.models.layers.deformable_attention import deformable_sample, start_on_ring, start_reading
from hdmap_core.models.layers.on_cpu import eager_on_cpu
from hdmap_core.models.layers.raster_size import size_xy

MAPS = 2


class BEVSelfAttention(nn.Module):
    """Deformable attention on two maps around each cell's own place; their mean is projected."""

    reference: Tensor

    def __init__(self, channels: int, *, grid: BEVGrid, heads: int, samples: int) -> None:
        super().__init__()
        self.shape, self.heads, self.samples = grid.shape, heads, samples
        self.register_buffer("reference", grid.normalise(grid.cell_centres()).flatten(0, 1), persistent=False)
        self.offset = nn.Linear(2 * channels, MAPS * heads * samples * 2)
        self.weight = nn.Linear(2 * channels, MAPS * heads * samples)
        self.value = nn.Linear(channels, channels)
        self.output = nn.Linear(channels, channels)
        start_on_ring(self.offset, heads, samples, MAPS)
        start_reading(self.weight, self.value, self.output)

    def forward(self, bev: Tensor, position: Tensor) -> Tensor:
        """Reads the map.

        Args:
            bev: (B, Q, C), row-major cells of the grid.
            position: (Q, C) added to the present where offsets and weights are computed.

        Returns:
            (B, Q, C).
        """
        present = self.value(bev)
        shape = *bev.shape[:2], MAPS * self.heads, self.samples
        cells = size_xy(*self.shape[::-1], bev)
        offset, logits = (_of_query(linear, bev, position) for linear in (self.offset, self.weight))
        locations = self.reference[:, None, None] + offset.float().view(*shape, 2) / cells
        weights = logits.float().view(shape).softmax(dim=-1)
        if eager_on_cpu(bev):  # of one map all that a head reads is one sum
            value = present.view(len(bev), *self.shape, self.heads, -1).permute(0, 3, 4, 1, 2)
            locations, weights = (self._by_head(each) for each in (locations, weights / MAPS))
            return self.output(deformable_sample(value, locations.transpose(1, 2), weights.transpose(1, 2)))
        maps = present[:, None].expand(-1, MAPS, -1, -1)
        value = maps.transpose(2, 3).reshape(len(bev), shape[2], -1, *self.shape)
        read = deformable_sample(value, locations.transpose(1, 2), weights.transpose(1, 2))
        return self.output(read.unflatten(-1, (MAPS, -1)).mean(dim=2))

    def _by_head(self, values: Tensor) -> Tensor:
        """(B, Q, maps M, T, ...) -> (B, Q, M, maps T, ...)."""
        return values.unflatten(2, (MAPS, self.heads)).transpose(2, 3).flatten(3, 4)


def _of_query(linear: nn.Linear, bev: Tensor, position: Tensor) -> Tensor:
    """`linear` of the past and the placed present beside each other, both of which are `bev`."""
    past, present = linear.weight.chunk(2, dim=1)
    return F.linear(bev, past + present, linear.bias) + F.linear(position, present)
