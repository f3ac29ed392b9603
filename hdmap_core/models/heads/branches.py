"""What every decoder of MapTR's line has: its sizes, and what it says of a query, with the published way to begin."""

import itertools
import math
from collections.abc import Sequence

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from typing_extensions import Self

from hdmap_core.config import Config
from hdmap_core.model_io import VectorOutput

LOGIT_LIMIT = math.log((1 - 1e-5) / 1e-5)
"""Of a place before its sigmoid; beyond, the published inverse of the sigmoid stops as well."""
_PRIOR = 0.01


class DecoderConfig(Config):
    """Defaults are the published values.

    Attributes:
        num_queries: instances, the most elements of a frame.
        num_points: of each instance's polyline.
        channels: width of queries and BEV features; features of another width are projected.
        layers: each refines the points of the one before.
        attention_heads: of the self-attention and of the sampling.
        samples: places that each head reads around each point.
        feedforward: hidden width of the feed-forward networks.
        dropout: after attention, what is read and feed-forward.
        one_to_many: further instances for training only, as a multiple of `num_queries`; 0 for none.
    """

    num_queries: int = Field(default=50, ge=1)
    num_points: int = Field(default=20, ge=2)
    channels: int = Field(default=256, ge=4)
    layers: int = Field(default=6, ge=1)
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


def rare(probability: float) -> float:
    """The bias of a logit that says at first that few are of a class (Lin et al. 2017, section 4.1)."""
    return -math.log((1 - probability) / probability)


def class_branch(channels: int, num_classes: int) -> nn.Sequential:
    """(..., C) -> (..., K) logits; at first one query in a hundred is of a class."""
    last = nn.Linear(channels, num_classes)
    nn.init.constant_(last.bias, rare(_PRIOR))
    hidden = [
        module
        for _ in range(2)
        for module in (nn.Linear(channels, channels), nn.LayerNorm(channels), nn.ReLU(inplace=True))
    ]
    return nn.Sequential(*hidden, last)


def point_branch(widths: list[int]) -> nn.Sequential:
    """Layers from the first width to the last. Starts as torch starts linear layers, not at zero, as published."""
    *hidden, last = (nn.Linear(low, high) for low, high in itertools.pairwise(widths))
    return nn.Sequential(*(module for linear in hidden for module in (linear, nn.ReLU(inplace=True))), last)


def start_xavier(module: nn.Module) -> None:
    """Xavier-uniform matrices and zero biases, as the published transformer starts."""
    for parameter in module.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)
        else:
            nn.init.zeros_(parameter)


def said(logits: Sequence[Tensor], points: Sequence[Tensor], queries: Tensor, count: int) -> VectorOutput:
    """What the layers of a decoder said.

    Args:
        logits: (B, Q, K) of each layer.
        points: (B, Q, P, 2) of each layer.
        queries: (B, Q, C) of the last one.
        count: of the queries that are always there; any others are `one_to_many`.
    """
    every_logit, every_point = torch.stack(list(logits)), torch.stack(list(points))
    one_to_many = None
    if every_logit.shape[2] > count:
        one_to_many = VectorOutput(every_logit[:, :, count:], every_point[:, :, count:])
    return VectorOutput(every_logit[:, :, :count], every_point[:, :, :count], one_to_many, queries[:, :count])
