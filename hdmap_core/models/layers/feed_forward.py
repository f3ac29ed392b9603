"""The feed-forward network of a transformer's layer (Vaswani et al. 2017, section 3.3)."""

from torch import nn


def feed_forward(channels: int, hidden: int, dropout: float) -> nn.Sequential:
    """(..., C) -> (..., C) by way of `hidden` channels, of which `dropout` are left out in training."""
    return nn.Sequential(
        nn.Linear(channels, hidden), nn.ReLU(inplace=True), nn.Dropout(dropout), nn.Linear(hidden, channels)
    )
