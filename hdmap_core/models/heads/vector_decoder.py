"""Vector head: instance queries that are scattered to points, look at the BEV features there, and are gathered again.

Source: MapQR (Liu et al., ECCV 2024), sections 3.2 and 3.3: one query per instance, positional embedding of the
reference points added on scattering, points refined layer by layer. Deliberate differences: the features are read
from every level of a BEV pyramid by `grid_sample` at learned offsets (deformable attention without an own operator);
the gather is lean (a learned weighted mean over the points before one MLP) instead of one MLP over all points.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import model_validator
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import Self

from hdmap_core.config import Config
from hdmap_core.model_io import VectorOutput
from hdmap_core.models.heads.branches import rare
from hdmap_core.models.layers.raster_size import size_xy


class VectorDecoderConfig(Config):
    """Defaults: the shipped student's.

    Attributes:
        num_queries: instances, the most elements of a frame.
        num_points: of each instance's polyline.
        channels: width of queries and of what is read of the BEV features; a multiple of `attention_heads`.
        layers: each refines the points of the one before.
        attention_heads: of the self-attention.
        levels: of the BEV pyramid (0 is the finest) that each point reads.
        offsets: places that each point reads in a level.
    """

    kind: Literal["scatter_gather"] = "scatter_gather"
    num_queries: int = 40
    num_points: int = 20
    channels: int = 64
    layers: int = 3
    attention_heads: int = 4
    levels: tuple[int, ...] = (1, 2)
    offsets: int = 4

    @model_validator(mode="after")
    def _heads_divide_channels(self) -> Self:
        if self.channels % self.attention_heads:
            raise ValueError(f"channels {self.channels} must be a multiple of attention_heads {self.attention_heads}")
        return self


class VectorDecoder(nn.Module):
    """BEV pyramid -> class logits and points of every layer."""

    def __init__(self, config: VectorDecoderConfig, *, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.levels = config.levels
        self.queries = nn.Parameter(torch.randn(config.num_queries, config.channels) * 0.02)
        self.reference = nn.Parameter(_initial_reference(config.num_queries, config.num_points))
        self.values = nn.ModuleList(nn.Conv2d(in_channels, config.channels, 1) for _ in config.levels)
        self.layers = nn.ModuleList(
            DecoderLayer(config, num_classes=num_classes, levels=len(config.levels)) for _ in range(config.layers)
        )

    def forward(self, pyramid: Sequence[Tensor]) -> VectorOutput:
        """`pyramid`: (B, C, Y_l, X_l) features, finest first."""
        batch = len(pyramid[0])
        values = [project(pyramid[level]) for project, level in zip(self.values, self.levels, strict=True)]
        queries = self.queries.expand(batch, -1, -1)
        reference = self.reference.expand(batch, -1, -1, -1)
        all_logits, all_points = [], []
        for layer in self.layers:
            queries, logits, reference = layer(queries, reference, values)
            all_logits.append(logits)
            all_points.append(reference.sigmoid())
            reference = reference.detach()
        return VectorOutput(torch.stack(all_logits), torch.stack(all_points), queries=queries)


class DecoderLayer(nn.Module):
    """Self-attention between instances, scatter, sampling, gather, feed-forward, refinement."""

    def __init__(self, config: VectorDecoderConfig, *, num_classes: int, levels: int) -> None:
        super().__init__()
        channels, samples = config.channels, levels * config.offsets
        self.shape = levels, config.offsets
        self.attention = nn.MultiheadAttention(channels, config.attention_heads, batch_first=True)
        self.position = nn.Sequential(nn.Linear(4 * 8, channels), nn.ReLU(inplace=True), nn.Linear(channels, channels))
        self.offset = nn.Linear(channels, samples * 2)
        self.sample_weight = nn.Linear(channels, samples)
        self.point_mlp = nn.Sequential(nn.Linear(channels, channels), nn.ReLU(inplace=True))
        self.gather_weight = nn.Parameter(torch.ones(config.num_points, channels) / config.num_points)
        self.feed_forward = nn.Sequential(
            nn.Linear(channels, 2 * channels), nn.ReLU(inplace=True), nn.Linear(2 * channels, channels)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(4))
        self.refine = nn.Sequential(
            nn.Linear(channels, channels), nn.ReLU(inplace=True), nn.Linear(channels, channels), nn.ReLU(inplace=True)
        )
        self.delta = nn.Linear(channels, 2)
        self.classify = nn.Sequential(nn.Linear(channels, channels), nn.ReLU(inplace=True))
        self.logits = nn.Linear(channels, num_classes)
        nn.init.zeros_(self.offset.weight)
        nn.init.normal_(self.offset.bias, std=0.5)
        nn.init.zeros_(self.delta.weight)
        nn.init.zeros_(self.delta.bias)
        nn.init.constant_(self.logits.bias, rare(0.05))

    def forward(self, queries: Tensor, reference: Tensor, values: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """One refinement.

        Args:
            queries: (B, Q, C) instance queries.
            reference: (B, Q, P, 2) points before the sigmoid, from the layer before.
            values: BEV features (B, C, Y_l, X_l) per level.

        Returns:
            queries (B, Q, C), class logits (B, Q, K), points before the sigmoid (B, Q, P, 2).
        """
        attended = self.attention(queries, queries, queries, need_weights=False)[0]
        queries = self.norms[0](queries + attended)
        place = reference.sigmoid()
        points = queries[:, :, None] + self.position(_sine_embedding(place))  # scatter (B, Q, P, C)
        points = self.norms[1](points + self.point_mlp(self._sample(points, place, values)))
        queries = self.norms[2](queries + (points * self.gather_weight).sum(dim=2))  # gather
        queries = self.norms[3](queries + self.feed_forward(queries))
        refined = reference + self.delta(self.refine(points + queries[:, :, None]))
        return queries, self.logits(self.classify(queries)), refined

    def _sample(self, points: Tensor, place: Tensor, values: Sequence[Tensor]) -> Tensor:
        """Weighted features (B, Q, P, C) at learned offsets, in cells of each level, around each point's place."""
        levels, samples = self.shape
        batch, num_queries, num_points, channels = points.shape
        offset = self.offset(points).view(batch, num_queries, num_points, levels, samples, 2)
        weight = self.sample_weight(points).softmax(dim=-1).view(batch, 1, num_queries * num_points, levels, samples)
        total = points.new_zeros(batch, channels, num_queries * num_points)
        for level, value in enumerate(values):
            cells = size_xy(value.shape[-1], value.shape[-2], points, points.dtype)
            where = (place[:, :, :, None] + offset[:, :, :, level] / cells).flatten(1, 2) * 2 - 1
            read = F.grid_sample(value, where, align_corners=False, padding_mode="border")  # (B, C, Q P, samples)
            total = total + (read * weight[:, :, :, level]).sum(dim=-1)
        return total.transpose(1, 2).view(batch, num_queries, num_points, channels)


def _initial_reference(num_queries: int, num_points: int) -> Tensor:
    """(Q, P, 2) logits of short lines along the road, their middles spread over the grid (a Halton sequence)."""
    middle = torch.tensor([[_van_der_corput(i + 1, 2), _van_der_corput(i + 1, 3)] for i in range(num_queries)])
    along = torch.linspace(-0.15, 0.15, num_points)
    lines = middle[:, None] + torch.stack([along, torch.zeros_like(along)], dim=-1)
    return lines.clamp(0.02, 0.98).logit()


def _van_der_corput(index: int, base: int) -> float:
    value, scale = 0.0, 1.0
    while index:
        scale /= base
        index, digit = divmod(index, base)
        value += digit * scale
    return value


def _sine_embedding(place: Tensor) -> Tensor:
    """(..., 2) in [0, 1] -> (..., 32): sines and cosines of 8 octaves per axis."""
    frequency = 2.0 ** torch.arange(8, dtype=place.dtype, device=place.device) * math.pi
    angle = place[..., None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=-1).flatten(-2)
