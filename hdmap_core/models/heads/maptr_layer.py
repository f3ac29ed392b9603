"""One decoder layer of MapTR (Liao et al., ICLR 2023) or MapTRv2 (IJCV 2024, section 3.3): every point is a query."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from hdmap_core.models.heads.branches import start_xavier
from hdmap_core.models.layers.deformable_attention import DeformableAttention
from hdmap_core.models.layers.feed_forward import feed_forward

SelfAttentionKind = Literal["full", "decoupled"]


class MapTRLayer(nn.Module):
    """Points attend to points, then each looks at the BEV features; post-norm throughout.

    `full`: every point to all points. `decoupled`: to the same point of other instances, then to the other points of
    its own instance.
    """

    def __init__(
        self,
        channels: int,
        *,
        self_attention: SelfAttentionKind,
        heads: int,
        samples: int,
        feedforward: int,
        dropout: float,
    ) -> None:
        super().__init__()
        rounds = 1 if self_attention == "full" else 2
        self.attentions = nn.ModuleList(
            nn.MultiheadAttention(channels, heads, dropout=dropout, batch_first=True) for _ in range(rounds)
        )
        self.sampling = DeformableAttention(channels, heads=heads, samples=samples)
        self.output = nn.Linear(channels, channels)
        self.feed_forward = feed_forward(channels, feedforward, dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(rounds + 2))
        self.dropout = nn.Dropout(dropout)
        for module in (self.attentions, self.output, self.feed_forward):  # the sampling starts on its own
            start_xavier(module)

    def forward(
        self, queries: Tensor, position: Tensor, place: Tensor, features: Tensor, groups: Sequence[int]
    ) -> Tensor:
        """One layer.

        Args:
            queries: (B, Q, P, C), of P points of Q instances.
            position: (Q, P, C) added to queries wherever these ask or are asked.
            place: (B, Q, P, 2) float32 in [0, 1], (x, y): where the points are now.
            features: (B, C, Y, X) BEV features.
            groups: how many instances each group has, in order; one attends to its own group only.

        Returns:
            (B, Q, P, C).
        """
        *of_attention, after_sampling, after_feed_forward = self.norms
        if len(self.attentions) == 1:
            queries = of_attention[0](self._within_groups(queries, position, groups))
        else:
            across = self._within_groups(queries.transpose(1, 2), position.transpose(0, 1), groups).transpose(1, 2)
            queries = of_attention[0](across)
            queries = of_attention[1](self._attended(1, queries, position.expand_as(queries)))
        placed = (queries + position).flatten(1, 2)
        read = self.output(self.sampling(placed, place.flatten(1, 2), features)).view_as(queries)
        queries = after_sampling(queries + self.dropout(read))
        return after_feed_forward(queries + self.dropout(self.feed_forward(queries)))

    def _within_groups(self, queries: Tensor, position: Tensor, groups: Sequence[int]) -> Tensor:
        """The first attention. Full: (B, Q, P, C), over Q P; decoupled: (B, P, Q, C), over Q."""
        full = len(self.attentions) == 1
        axis = 1 if full else 2
        position = position.expand_as(queries)
        parts = []
        for part, places in zip(queries.split(list(groups), axis), position.split(list(groups), axis), strict=True):
            if full:
                flat = self._attended(0, part.flatten(1, 2)[:, None], places.flatten(1, 2)[:, None])
                parts.append(flat.view_as(part))
            else:
                parts.append(self._attended(0, part, places))
        return torch.cat(parts, dim=axis)

    def _attended(self, number: int, queries: Tensor, position: Tensor) -> Tensor:
        """(B, A, T, C) -> the same, attended over T, with the residual."""
        tokens = queries.flatten(0, 1)
        placed = tokens + position.flatten(0, 1)
        attended = self.attentions[number](placed, placed, tokens, need_weights=False)[0]
        return queries + self.dropout(attended).view_as(queries)
