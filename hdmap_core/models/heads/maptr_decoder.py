"""Vector heads of MapTR (Liao et al., ICLR 2023) and MapTRv2 (IJCV 2024): a query for every point of every instance.

Deliberate differences from the published code are those of `mapqr_decoder`: each point branch is evaluated once,
reference points, heads and sampling are float32 under any autocast, references are carried before the sigmoid.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from hdmap_core.model_io import VectorOutput
from hdmap_core.models.heads.branches import LOGIT_LIMIT, DecoderConfig, class_branch, point_branch, said, start_xavier
from hdmap_core.models.heads.maptr_layer import MapTRLayer, SelfAttentionKind


class MapTRDecoderConfig(DecoderConfig):
    """Defaults are MapTR's published values; MapTRv2 has `self_attention: decoupled, one_to_many: 6`.

    Attributes:
        self_attention: `full` over all points, or `decoupled` over instances and then over points.
    """

    kind: Literal["maptr"] = "maptr"
    self_attention: SelfAttentionKind = "full"


class MapTRDecoder(nn.Module):
    """The finest level of a BEV pyramid -> class logits and points of every layer."""

    def __init__(self, config: MapTRDecoderConfig, *, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.config = config
        channels = config.channels
        # A query is the sum of its instance's row and its point's; of each, a position part and then a content part.
        self.instances = nn.Parameter(torch.randn(config.num_queries * (1 + config.one_to_many), 2 * channels))
        self.points = nn.Parameter(torch.randn(config.num_points, 2 * channels))
        self.reference = nn.Linear(channels, 2)
        start_xavier(self.reference)
        self.project = nn.Identity() if in_channels == channels else nn.Conv2d(in_channels, channels, 1)
        self.layers = nn.ModuleList(
            MapTRLayer(
                channels,
                self_attention=config.self_attention,
                heads=config.attention_heads,
                samples=config.samples,
                feedforward=config.feedforward,
                dropout=config.dropout,
            )
            for _ in range(config.layers)
        )
        self.classify = nn.ModuleList(class_branch(channels, num_classes) for _ in range(config.layers))
        self.refine = nn.ModuleList(point_branch([channels] * 3 + [2]) for _ in range(config.layers))

    def forward(self, pyramid: Sequence[Tensor]) -> VectorOutput:
        """`pyramid[0]`: (B, C', Y, X). In training with one-to-many instances, which the other modes do not compute."""
        one, batch = self.config.num_queries, pyramid[0].shape[0]
        further = self.config.one_to_many * one if self.training else 0
        groups = [one, further] if further else [one]
        features = self.project(pyramid[0])
        position, content = (self.instances[: one + further, None] + self.points).chunk(2, dim=-1)
        queries = content.expand(batch, -1, -1, -1)
        with torch.autocast(features.device.type, enabled=False):
            points = self.reference(position).expand(batch, -1, -1, -1)  # before the sigmoid
        all_logits, all_points = [], []
        for layer, classify, refine in zip(self.layers, self.classify, self.refine, strict=True):
            queries = layer(queries, position, points.sigmoid(), features, groups)
            with torch.autocast(features.device.type, enabled=False):
                queries = queries.float()
                all_logits.append(classify(queries.mean(dim=2)))
                points = points.clamp(-LOGIT_LIMIT, LOGIT_LIMIT) + refine(queries)
                all_points.append(points.sigmoid())
            points = points.detach()
        return said(all_logits, all_points, queries.mean(dim=2), one)
