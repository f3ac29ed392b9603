"""The three dense heads of HDMapNet (Li et al. 2022, section III-B): semantic, instance embedding, direction.

In the published code the direction head runs through the embedding head's first block and its own stays unused
(P-MapNet mended it); here every head has its own.
"""

from collections.abc import Sequence
from typing import Literal

from pydantic import Field, PositiveInt
from torch import Tensor, nn

from hdmap_core.config import Config
from hdmap_core.model_io import DenseOutput
from hdmap_core.models.layers.conv import conv_norm_act
from hdmap_core.models.layers.upsampled_conv import upsampled_conv


class DenseConfig(Config):
    """Sizes of the three heads.

    Attributes:
        embedding: dimensions of the instance embedding.
        directions: bins of the circle, as many as a byte numbers; "no line here" is one channel more.
        channels: width of a head at half the grid's resolution.
        last_channels: its width at full resolution.
        line_cells: how many cells wide the lines are that the heads are taught; the published 5 of OpenCV are 7.
    """

    kind: Literal["dense"] = "dense"
    embedding: PositiveInt = 16
    directions: PositiveInt = Field(default=36, le=255)
    channels: PositiveInt = 256
    last_channels: PositiveInt = 128
    line_cells: PositiveInt = 7


class DenseHeads(nn.Module):
    """The finest and the coarsest map of a BEV encoder -> rasters on the BEV grid."""

    embedding: nn.Module
    direction: nn.Module

    def __init__(
        self, config: DenseConfig, *, level_channels: Sequence[int], num_classes: int, size: tuple[int, int]
    ) -> None:
        super().__init__()
        in_channels = level_channels[0] + level_channels[-1]
        self.semantic = DenseHead(config, in_channels=in_channels, out_channels=1 + num_classes, size=size)
        self.embedding = DenseHead(config, in_channels=in_channels, out_channels=config.embedding, size=size)
        self.direction = DenseHead(config, in_channels=in_channels, out_channels=1 + config.directions, size=size)

    def only_semantic(self) -> None:
        """From now on embeddings and directions have no channels: before a refiner, only training reads them."""
        self.embedding = self.direction = _Nothing(self.semantic.size)

    def forward(self, pyramid: Sequence[Tensor]) -> DenseOutput:
        """[(B, C_0, y, x), ..., (B, C_n, y', x')], finest first -> rasters (B, ..., Y, X), exactly of `size`."""
        finest, coarsest = pyramid[0], pyramid[-1]
        return DenseOutput(
            semantic=self.semantic(finest, coarsest),
            embedding=self.embedding(finest, coarsest),
            direction=self.direction(finest, coarsest),
        )


class DenseHead(nn.Module):
    """One of them: the coarse map joins the fine one, two convolutions, then two more at the grid's resolution."""

    def __init__(self, config: DenseConfig, *, in_channels: int, out_channels: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size
        self.join = nn.Sequential(
            conv_norm_act(in_channels, config.channels), conv_norm_act(config.channels, config.channels)
        )
        self.finish = nn.Sequential(
            conv_norm_act(config.channels, config.last_channels), nn.Conv2d(config.last_channels, out_channels, 1)
        )

    def forward(self, finest: Tensor, coarsest: Tensor) -> Tensor:
        """(B, C_0, y, x), (B, C_n, y', x') -> (B, out, Y, X)."""
        size = finest.shape[-2], finest.shape[-1]
        first, second = self.join
        joined = second(upsampled_conv(first, coarsest, size, beside=finest))
        third, last = self.finish
        return last(upsampled_conv(third, joined, self.size))


class _Nothing(nn.Module):
    """In the place of a head."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def forward(self, finest: Tensor, _coarsest: Tensor) -> Tensor:
        """(B, 0, Y, X)."""
        return finest.new_zeros(len(finest), 0, *self.size)
