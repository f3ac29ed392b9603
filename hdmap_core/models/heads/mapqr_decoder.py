"""Vector head of MapQR (Liu et al., ECCV 2024, section 3.2), which is MapFM's as well: scatter-and-gather queries.

Deliberate differences from the published code: one-to-one and one-to-many queries do not attend to each other
(MapTRv2, section 3.4; the published models let them, `separate_groups` False); each point branch is evaluated once;
reference points, heads and sampling are float32 under any autocast, and references are carried before the sigmoid.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from hdmap_core.model_io import VectorOutput
from hdmap_core.models.heads.branches import LOGIT_LIMIT, DecoderConfig, class_branch, point_branch, said, start_xavier
from hdmap_core.models.heads.mapqr_layer import GatherKind, MapQRLayer


class MapQRDecoderConfig(DecoderConfig):
    """Defaults are the published values.

    Attributes:
        separate_groups: the further queries and the others do not attend to each other. False is what the published
            models were trained with; a trained model then sees other queries in training than when it is used.
        gather: `full`, two thirds of all parameters of the published model, or `lean`.
    """

    kind: Literal["mapqr"] = "mapqr"
    num_queries: int = Field(default=100, ge=1)
    channels: int = Field(default=256, ge=4, multiple_of=4)
    one_to_many: int = Field(default=6, ge=0)
    separate_groups: bool = True
    gather: GatherKind = "full"


class MapQRDecoder(nn.Module):
    """The finest level of a BEV pyramid -> class logits and points of every layer."""

    def __init__(self, config: MapQRDecoderConfig, *, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.config = config
        channels, coordinates = config.channels, 2 * config.num_points
        # One row per query: its position part gives the first points, its content part is the first layer's query.
        self.queries = nn.Parameter(torch.randn(config.num_queries * (1 + config.one_to_many), 2 * channels))
        self.reference = nn.Sequential(
            nn.Linear(channels, channels), nn.ReLU(inplace=True), nn.Linear(channels, coordinates)
        )
        start_xavier(self.reference)
        self.project = nn.Identity() if in_channels == channels else nn.Conv2d(in_channels, channels, 1)
        self.layers = nn.ModuleList(
            MapQRLayer(
                channels,
                num_points=config.num_points,
                heads=config.attention_heads,
                samples=config.samples,
                feedforward=config.feedforward,
                dropout=config.dropout,
                gather=config.gather,
            )
            for _ in range(config.layers)
        )
        self.classify = nn.ModuleList(class_branch(channels, num_classes) for _ in range(config.layers))
        self.refine = nn.ModuleList(
            point_branch([channels, *[2 * channels] * 3, coordinates]) for _ in range(config.layers)
        )

    def forward(self, pyramid: Sequence[Tensor]) -> VectorOutput:
        """`pyramid[0]`: (B, C', Y, X). In training with one-to-many queries, which the other modes do not compute."""
        config, batch = self.config, pyramid[0].shape[0]
        further = config.one_to_many * config.num_queries if self.training else 0
        total = config.num_queries + further
        groups = [config.num_queries, further] if further and config.separate_groups else [total]
        features = self.project(pyramid[0])
        position, content = self.queries[:total].chunk(2, dim=-1)
        queries = content.expand(batch, -1, -1)
        with torch.autocast(features.device.type, enabled=False):
            start = self.reference(position).view(total, config.num_points, 2)
        points = start.expand(batch, -1, -1, -1)  # before the sigmoid
        all_logits, all_points = [], []
        for layer, classify, refine in zip(self.layers, self.classify, self.refine, strict=True):
            queries = layer(queries, points.sigmoid(), features, groups)
            with torch.autocast(features.device.type, enabled=False):  # bfloat16 costs 4 cm of 60 m, at worst 25
                queries = queries.float()
                all_logits.append(classify(queries))
                points = points.clamp(-LOGIT_LIMIT, LOGIT_LIMIT) + refine(queries).view_as(points)
                all_points.append(points.sigmoid())
            points = points.detach()
        return said(all_logits, all_points, queries, config.num_queries)
