"""Vector heads of MapTR (Liao et al., ICLR 2023) and MapTRv2 (IJCV 2024): a query for every point of every instance.

Deliberate differences from the published code are those of `mapqr_decoder`: each point branch is evaluated once,
reference points, heads and sampling are float32 under any autocast, references are carried before the sigmoid.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from typing_extensions import Self

from hdmap_core.config import Config
from hdmap_core.model_io import VectorOutput
from hdmap_core.models.heads.branches import LOGIT_LIMIT, class_branch, point_branch, said, start_xavier
from hdmap_core.models.heads.maptr_layer import MapTRLayer, SelfAttentionKind


class MapTRDecoderConfig(Config):
    """Defaults are MapTR's published values; MapTRv2 has `self_attention: decoupled, one_to_many: 6`.

    Attributes:
        num_queries: instances, the most elements of a frame.
        num_points: of each instance's polyline.
        channels: width of queries and BEV features; features of another width are projected.
        layers: each refines the points of the one before.
        self_attention: `full` over all points, or `decoupled` over instances and then over points.
        attention_heads: of the self-attention and of the sampling.
        samples: places that each head reads around each point.
        feedforward: hidden width of the feed-forward networks.
        dropout: after attention, sampling and feed-forward.
        one_to_many: further instances for training only, as a multiple of `num_queries`; 0 for none.
    """

    kind: Literal["maptr"] = "maptr"
    num_queries: int = Field(default=50, ge=1)
    num_points: int = Field(default=20, ge=2)
    channels: int = Field(default=256, ge=4)
    layers: int = Field(default=6, ge=1)
    self_attention: SelfAttentionKind = "full"
    attention_heads: int = Field(default=8, ge=1)
    samples: int = Field(default=4, ge=1)
    feedforward: int = Field(default=512, ge=1)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    one_to_many: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _heads_divide_channels(self) -> Self:
        if self.channels % self.attention_heads:
            raise ValueError(f"channels {self.channels} must be a multiple of attention_heads {self.attention_heads}")
        return self


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
