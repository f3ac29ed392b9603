"""The SD-map prior of P-MapNet (Jiang et al. 2024, section III-B): BEV features look at the roads of a standard map.

Different from the published code, on purpose:
- `mask_empty`: places of the SD map without a road are not looked at. Published, all of them are keys, most of them
  alike.
- `skip`: published, every BEV feature passes a bottleneck of 64 channels at 1/8 of the resolution; the option adds the
  unchanged features to what comes out of it.
- Grids that 8 does not divide are padded at the far end of each axis (BEV features with zeros, the raster with "no
  road") and the result is cropped.
"""

from typing import Literal, NamedTuple

import torch
from pydantic import Field, NonNegativeFloat, PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import Self

from hdmap_core.config import Config
from hdmap_core.errors import ConfigError
from hdmap_core.models.layers.padding import padded_to_multiple
from hdmap_core.models.priors.attention import DecoderLayer, sine_positions

STRIDE = 8  # cells of the grid per token, along each axis


class SDFusionConfig(Config):
    """P-MapNet's published sizes.

    Attributes:
        channels: width of the tokens; a multiple of 4 and of `heads`.
        sd_channels: widths of the SD raster's encoder before it reaches `channels`.
        layers: decoder layers.
        heads: attention heads.
        feedforward: hidden width of a layer's feed-forward network.
        dropout: in attention and behind it, in training.
        mask_empty: look only at tokens with a road within their own 8 x 8 cells, and at a learned token "no road"
            that is always there. False: at all of them, as published.
        skip: add the incoming BEV features to the result. False: as published.
    """

    kind: Literal["sd_cross_attention"] = "sd_cross_attention"
    channels: PositiveInt = 64
    sd_channels: tuple[PositiveInt, PositiveInt] = (32, 64)
    layers: PositiveInt = 2
    heads: PositiveInt = 8
    feedforward: PositiveInt = 192
    dropout: NonNegativeFloat = Field(default=0.1, lt=1.0)
    mask_empty: bool = True
    skip: bool = False

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.channels % self.heads or self.channels % 4:
            raise ValueError(f"channels is {self.channels}; give a multiple of 4 and of heads ({self.heads})")
        return self


class SDFusionOutput(NamedTuple):
    """What the fusion makes.

    Attributes:
        bev: (B, C, Y, X) features with the prior, of the shape of those that came in.
        small: (B, C, y, x) the BEV features at 1/8 before they saw the prior, Y / 8 and X / 8 rounded up.
        fused: (B, c, y, x) the tokens after it.
    """

    bev: Tensor
    small: Tensor
    fused: Tensor


class SDFusion(nn.Module):
    """BEV features and the SD map's raster -> BEV features.

    Attributes:
        out_channels: channels C of the BEV features, in and out.
    """

    places: Tensor

    def __init__(self, config: SDFusionConfig, *, in_channels: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.config, self.size = config, size
        self.out_channels = in_channels
        self.small_size = (-(-size[0] // STRIDE), -(-size[1] // STRIDE))
        self.down = eighth(in_channels, in_channels, in_channels, in_channels)
        self.project = nn.Conv2d(in_channels, config.channels, 1)
        self.sd_encoder = eighth(1, *config.sd_channels, config.channels)
        self.layers = nn.ModuleList(
            DecoderLayer(config.channels, heads=config.heads, feedforward=config.feedforward, dropout=config.dropout)
            for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(config.channels)
        self.up = _three(nn.ConvTranspose2d, config.channels, in_channels, in_channels, in_channels)
        self.no_road = nn.Parameter(0.02 * torch.randn(config.channels)) if config.mask_empty else None
        self.register_buffer("places", sine_positions(*self.small_size, config.channels), persistent=False)

    def forward(self, bev: Tensor, sd_raster: Tensor | None) -> SDFusionOutput:
        """The BEV features with the roads around them.

        Args:
            bev: (B, C, Y, X).
            sd_raster: (B, 1, Y, X) float32, 1 on a road and -1 elsewhere.

        Raises:
            ConfigError: if there is no raster.
        """
        if sd_raster is None:
            raise ConfigError(
                "the slot sd_prior (sd_cross_attention) needs ModelInput.sd_raster: give observations with sd_lines"
            )
        sd_raster = padded_to_multiple(sd_raster, STRIDE, value=-1.0)
        small = self.down(padded_to_multiple(bev, STRIDE))
        tokens = _tokens(self.project(small))
        memory, memory_places, allowed = self._memory(sd_raster)
        for layer in self.layers:
            tokens = layer(tokens, self.places, memory, memory_places, allowed)
        fused = self.norm(tokens).transpose(1, 2).unflatten(2, self.small_size)
        raised = self.up(fused)[..., : self.size[0], : self.size[1]]
        return SDFusionOutput(bev=bev + raised if self.config.skip else raised, small=small, fused=fused)

    def _memory(self, sd_raster: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Tokens of the SD map (B, S, c), their position code (S, c), and which may be looked at (B, S)."""
        memory = _tokens(self.sd_encoder(sd_raster))
        if self.no_road is None:
            return memory, self.places, None
        # "No road" is nowhere in particular, so it has no position; it comes last.
        memory = torch.cat([memory, self.no_road.to(memory.dtype).expand(len(memory), 1, -1)], dim=1)
        road = F.max_pool2d(sd_raster, STRIDE).flatten(1) > 0
        return memory, F.pad(self.places, (0, 0, 0, 1)), F.pad(road, (0, 1), value=True)


def _tokens(features: Tensor) -> Tensor:
    return features.flatten(2).transpose(1, 2)


def eighth(*widths: int) -> nn.Sequential:
    """Three 4x4 convolutions of stride 2, from the first of four widths on; batch norm only behind the last."""
    return _three(nn.Conv2d, *widths)


def _three(
    convolution: type[nn.Conv2d | nn.ConvTranspose2d], first: int, second: int, third: int, last: int
) -> nn.Sequential:
    return nn.Sequential(
        convolution(first, second, 4, 2, 1),
        nn.ReLU(inplace=True),
        convolution(second, third, 4, 2, 1),
        nn.ReLU(inplace=True),
        convolution(third, last, 4, 2, 1, bias=False),
        nn.BatchNorm2d(last),
        nn.ReLU(inplace=True),
    )
