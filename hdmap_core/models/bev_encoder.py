"""BEV encoders: BEV features -> a pyramid of them, finest first."""

from collections.abc import Sequence
from typing import Literal

from pydantic import model_validator
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import Self

from hdmap_core.config import Config
from hdmap_core.models.layers.conv import ResidualBlock, conv_norm_act


class BEVEncoderConfig(Config):
    """`channels[i]` and `blocks[i]`: width and residual blocks at 1/2, 1/4, 1/8 ... of the BEV resolution."""

    kind: Literal["unet"] = "unet"
    channels: tuple[int, ...] = (48, 80, 112)
    blocks: tuple[int, ...] = (2, 2, 2)
    out_channels: int = 32

    @model_validator(mode="after")
    def _one_block_count_per_level(self) -> Self:
        if len(self.channels) != len(self.blocks):
            raise ValueError(f"channels has {len(self.channels)} levels, blocks {len(self.blocks)}; give both the same")
        return self


class BEVUNet(nn.Module):
    """A residual U-net with additive laterals; the coarsest level sees the whole grid, which tells the car's tilt."""

    def __init__(self, config: BEVEncoderConfig, *, in_channels: int) -> None:
        super().__init__()
        self.out_channels = config.out_channels
        widths = (in_channels, *config.channels)
        self.down = nn.ModuleList(
            nn.Sequential(conv_norm_act(low, high, stride=2), *(ResidualBlock(high) for _ in range(blocks)))
            for low, high, blocks in zip(widths, config.channels, config.blocks, strict=False)
        )
        self.lateral = nn.ModuleList(nn.Conv2d(width, config.out_channels, 1) for width in widths)
        self.smooth = nn.ModuleList(conv_norm_act(config.out_channels, config.out_channels) for _ in widths)

    def forward(self, features: Tensor) -> Sequence[Tensor]:
        """(B, C, Y, X) -> [(B, C', Y, X), (B, C', Y/2, X/2), ...]."""
        levels = [features]
        for down in self.down:
            levels.append(down(levels[-1]))
        top = self.smooth[-1](self.lateral[-1](levels[-1]))
        pyramid = [top]
        for level, lateral, smooth in zip(levels[-2::-1], self.lateral[-2::-1], self.smooth[-2::-1], strict=False):
            top = smooth(lateral(level) + F.interpolate(top, size=level.shape[-2:], mode="bilinear"))
            pyramid.append(top)
        return pyramid[::-1]
