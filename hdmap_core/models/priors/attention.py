"""A transformer decoder over two maps, with norms behind the residuals (Vaswani et al. 2017; Carion et al. 2020)."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hdmap_core.models.layers.feed_forward import feed_forward

_TEMPERATURE = 10_000.0
"""Ratio of the highest to the lowest frequency of a position code, almost."""


class Attention(nn.Module):
    """Multi-head attention in float32 under any autocast.

    Keys have no bias: it would add the same number to all logits of a query, which the softmax takes away again.
    """

    def __init__(self, channels: int, *, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query = nn.Linear(channels, channels)
        self.key = nn.Linear(channels, channels, bias=False)
        self.value = nn.Linear(channels, channels)
        self.output = nn.Linear(channels, channels)
        for linear in (self.query, self.key, self.value):
            nn.init.xavier_uniform_(linear.weight)
        for linear in (self.query, self.value, self.output):
            nn.init.zeros_(linear.bias)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, allowed: Tensor | None = None) -> Tensor:
        """(B, T, C) attended values.

        Args:
            query: (B, T, C).
            key: (B, S, C).
            value: (B, S, C).
            allowed: (B, S) bool: the keys that may be looked at, at least one of each sample; None: all.
        """
        q, k, v = (
            projection(tokens).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for projection, tokens in ((self.query, query), (self.key, key), (self.value, value))
        )
        mask = None if allowed is None else allowed[:, None, None].expand(-1, -1, q.shape[2], -1)
        dropout = self.dropout if self.training else 0.0
        with torch.autocast(q.device.type, enabled=False):
            attended = F.scaled_dot_product_attention(
                q.float(), k.float(), v.float(), attn_mask=mask, dropout_p=dropout
            )
        return self.output(attended.transpose(1, 2).flatten(2).to(v.dtype))


class DecoderLayer(nn.Module):
    """Self-attention, cross-attention and a feed-forward network, each added and then normalised.

    Position codes are added to queries and keys, not to values.
    """

    def __init__(self, channels: int, *, heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.self_attention = Attention(channels, heads=heads, dropout=dropout)
        self.cross_attention = Attention(channels, heads=heads, dropout=dropout)
        self.feedforward = feed_forward(channels, feedforward, dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(3))
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, tokens: Tensor, place: Tensor, memory: Tensor, memory_place: Tensor, allowed: Tensor | None
    ) -> Tensor:
        """New tokens (B, T, C).

        Args:
            tokens: (B, T, C), what asks.
            place: (T, C), their position code.
            memory: (B, S, C), what is asked.
            memory_place: (S, C), its position code.
            allowed: (B, S) bool, see `Attention`.
        """
        placed = tokens + place
        tokens = self.norms[0](tokens + self.dropout(self.self_attention(placed, placed, tokens)))
        asked = self.cross_attention(tokens + place, memory + memory_place, memory, allowed)
        tokens = self.norms[1](tokens + self.dropout(asked))
        return self.norms[2](tokens + self.dropout(self.feedforward(tokens)))


def sine_positions(rows: int, columns: int, channels: int) -> Tensor:
    """(rows columns, channels) float32 position code of a map's cells, row by row (Carion et al. 2020, normalised).

    The first half of the channels codes the row, the second the column: (i + 1) / n of a full turn, at channels / 4
    frequencies, sine and cosine alternating.

    Args:
        rows: cells along y.
        columns: cells along x.
        channels: a multiple of 4.
    """
    half = channels // 2
    frequency = _TEMPERATURE ** (-2 * torch.arange(half // 2) / half)

    def along(count: int) -> Tensor:
        angle = (torch.arange(count) + 1)[:, None] * (2 * math.pi / count) * frequency
        return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)

    by_row = along(rows)[:, None].expand(-1, columns, -1)
    by_column = along(columns)[None].expand(rows, -1, -1)
    return torch.cat([by_row, by_column], dim=-1).flatten(0, 1)
