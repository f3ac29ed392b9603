"""BEV cells read the cameras: MapQR's height kernels and BEVFormer's deformable cross-attention.

Sources: MapQR (ECCV 2024), "GKT-h"; BEVFormer (ECCV 2022), section 3.3. Deliberate differences from their code:

- Which camera sees a cell is found per sample, not from the first one of the batch.
- On a CPU, as there, only the cameras are read that see a cell (`PairViews`). For exports and GPUs there are no
  data-dependent index lists: a cell reads V cameras (all of them, or its best few), unseen ones with weight zero.
- A cell that no camera sees gets nothing at all, not even the bias of the output layer (`unseen_bias`: that).

MapTR's own kernel (`nearest`) reads whole pixels: the nearest of each tap, and at the border for what lies beyond.

As there, a visible cell's taps read whatever lies inside the image, even if their own anchor is just beyond its edge.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hdmap_core.models.layers.bilinear_bags import ROWS_AT_ONCE, bilinear_bags
from hdmap_core.models.layers.deformable_attention import deformable_sample, start_on_ring, start_reading
from hdmap_core.models.layers.raster_size import size_xy
from hdmap_core.models.view_transforms.pillar_projection import PairViews, PillarViews, with_points


class HeightKernelAttention(nn.Module):
    """Head m reads a kernel of feature pixels around anchor m, with learned weights; the anchors come from outside."""

    taps: Tensor

    def __init__(
        self,
        channels: int,
        *,
        in_channels: int,
        heads: int,
        kernel_size: tuple[int, int],
        unseen_bias: bool = False,
        nearest: bool = False,
    ) -> None:
        super().__init__()
        self.heads, self.unseen_bias, self.nearest = heads, unseen_bias, nearest
        self.register_buffer("taps", kernel_taps(kernel_size), persistent=False)
        self.weight = nn.Linear(channels, heads * len(self.taps))
        self.value = nn.Conv2d(in_channels, channels, 1)
        self.output = nn.Linear(channels, channels)
        start_reading(self.weight, self.value, self.output)

    def forward(self, query: Tensor, features: Tensor, views: PillarViews | PairViews) -> Tensor:
        """Reads the cameras.

        Args:
            query: (B, Q, C).
            features: (B, N, C', h, w).
            views: of pillars with one anchor per head.

        Returns:
            (B, Q, C), zero where no camera sees the pillar, or the bias.
        """
        weights = self.weight(query).float().unflatten(-1, (self.heads, -1)).softmax(dim=-1)
        value = self.value(features.flatten(0, 1)).unflatten(0, features.shape[:2])
        views = with_points(views, views.points[..., None, :])
        read = _read(value, views, self.taps, weights, nearest=self.nearest)
        return _where_seen(self.output(read), views, self.unseen_bias)


class SpatialCrossAttention(nn.Module):
    """Every head reads `samples` places, dealt out to the anchors in turn, at learned offsets from them."""

    def __init__(self, channels: int, *, in_channels: int, heads: int, samples: int, unseen_bias: bool = False) -> None:
        super().__init__()
        self.heads, self.samples, self.unseen_bias = heads, samples, unseen_bias
        self.offset = nn.Linear(channels, heads * samples * 2)
        self.weight = nn.Linear(channels, heads * samples)
        self.value = nn.Conv2d(in_channels, channels, 1)
        self.output = nn.Linear(channels, channels)
        start_reading(self.weight, self.value, self.output)
        start_on_ring(self.offset, heads, samples)

    def forward(self, query: Tensor, features: Tensor, views: PillarViews | PairViews) -> Tensor:
        """As `HeightKernelAttention.forward`; `samples` is a multiple of the number of anchors."""
        shape = *query.shape[:2], self.heads, self.samples
        offsets = self.offset(query).float().view(*shape, 2)
        weights = self.weight(query).float().view(shape).softmax(dim=-1)
        value = self.value(features.flatten(0, 1)).unflatten(0, features.shape[:2])
        turns = self.samples // views.points.shape[-2]
        views = with_points(views, torch.cat([views.points] * turns, dim=-2)[..., None, :, :])
        return _where_seen(self.output(_read(value, views, offsets, weights)), views, self.unseen_bias)


def _read(
    value: Tensor, views: PillarViews | PairViews, offsets: Tensor, weights: Tensor, *, nearest: bool = False
) -> Tensor:
    if isinstance(views, PairViews):
        return read_pairs(value, views, offsets, weights, nearest=nearest)
    return read_views(value, views, offsets, weights, nearest=nearest)


def _nearest_pixels(places: Tensor, size: Tensor) -> Tensor:
    """(..., 2) in pixels from the map's corner -> numbers of pixels in it."""
    return torch.minimum(places.round().clamp(min=0), size - 1)


def _where_seen(result: Tensor, views: PillarViews | PairViews, unseen_bias: bool) -> Tensor:
    """(B, Q, C): as it is where a camera sees the pillar; elsewhere zero, or what the output layer makes of nothing."""
    if unseen_bias:
        return result
    return result * (views.seen if isinstance(views, PairViews) else views.seen.any(dim=1))[..., None]


def read_pairs(value: Tensor, views: PairViews, offsets: Tensor, weights: Tensor, *, nearest: bool = False) -> Tensor:
    """As `read_views`, of the pairs of pillar and camera that there are.

    Args:
        value: (B, N, C, h, w); channels are split into M heads.
        views: with `points` (P, M or 1, T or 1, 2).
        offsets: (T, 2), or (B, Q, M, T, 2), in feature pixels.
        weights: (B, Q, M, T).
        nearest: read whole pixels.

    Returns:
        (B, Q, C) float32.
    """
    batch, queries, heads, samples = weights.shape
    height, width = value.shape[-2:]
    with torch.autocast(value.device.type, enabled=False):
        maps = value.float().flatten(0, 1).permute(0, 2, 3, 1).unflatten(-1, (heads, -1)).contiguous()
        size = size_xy(width, height, value)
        total = maps.new_zeros(batch * queries, value.shape[2])
        at_once = max(1, len(views.pillar)) if torch.is_grad_enabled() else ROWS_AT_ONCE
        for part in torch.arange(len(views.pillar), device=value.device).split(at_once):
            pillar = views.pillar[part]
            moved = offsets if offsets.dim() == 2 else offsets.flatten(0, 1)[pillar]
            if nearest:
                pixels = _nearest_pixels(views.points[part] * size + moved, size).expand(-1, heads, samples, -1)
            else:
                pixels = (views.points[part] * size + (moved - 0.5)).expand(-1, heads, samples, -1)
            shares = weights.flatten(0, 1)[pillar] * views.share[part, None, None]
            read = bilinear_bags(maps, views.camera[part, None, None], pixels, shares)
            total = total.index_add(0, pillar, read.flatten(1))
    return total.view(batch, queries, -1)


def read_views(value: Tensor, views: PillarViews, offsets: Tensor, weights: Tensor, *, nearest: bool = False) -> Tensor:
    """Weighted samples of every camera that sees a pillar, averaged over these cameras.

    The maps of all cameras are laid below each other, each between two rows of zeros, so that one sampler reads a
    different camera for every pillar; places outside of a map are moved onto the zeros around it.

    Args:
        value: (B, N, C, h, w); channels are split into M heads.
        views: with `points` (B, V, Q, M or 1, T or 1, 2).
        offsets: broadcastable to (B, Q, M, T, 2), in feature pixels.
        weights: (B, Q, M, T).
        nearest: read whole pixels.

    Returns:
        (B, Q, C) float32.
    """
    batch, cameras, _, height, width = value.shape
    heads = weights.shape[2]
    rows = height + 2
    tower = F.pad(value.float(), (0, 0, 1, 1)).transpose(1, 2).reshape(batch, heads, -1, cameras * rows, width)
    size, tower_size = size_xy(width, height, value), size_xy(width, cameras * rows, value)
    share = views.seen / views.seen.sum(dim=1, keepdim=True).clamp(min=1)
    total = tower.new_zeros(())
    for camera, points, part in zip(views.camera.unbind(1), views.points.unbind(1), share.unbind(1), strict=True):
        pixels = points * size + offsets  # of the map's corner, so that its first pixel's centre is at 0.5
        if nearest:
            pixels = _nearest_pixels(pixels, size) + 0.5
        x = pixels[..., 0].clamp(-0.5, width + 0.5)
        y = pixels[..., 1].clamp(-0.5, height + 0.5) + (camera * rows + 1)[..., None, None]
        locations = (torch.stack([x, y], dim=-1) / tower_size).transpose(1, 2)
        total = total + deformable_sample(tower, locations, (weights * part[..., None, None]).transpose(1, 2))
    return total


def kernel_taps(kernel_size: tuple[int, int]) -> Tensor:
    """(T, 2) float32: (dx, dy) in pixels of a (rows, columns) kernel; an even size reaches further left and up."""
    rows, columns = (torch.arange(size) - size // 2 for size in kernel_size)
    dy, dx = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack([dx, dy], dim=-1).flatten(0, 1).float()
