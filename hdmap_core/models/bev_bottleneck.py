"""What MapKD's student has before the BEV encoder: the teacher's width, and its bottleneck without roads.

Source: the published code of MapKD. Two convolutions bring the cameras' features to the width that cameras and LiDAR
have together in the teacher; three of stride 2 make of them what the teacher's SD fusion looks at, so that the two can
be compared (the tap `bev_small`); a bilinear enlargement leads back. Left out, as nothing reads them there: the SD
map's encoder, attention, and a random convolution that is made anew in every step.

Different from the published code, on purpose: `skip`, and grids that 8 does not divide, as in the SD fusion.
"""

from typing import Literal, NamedTuple

from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from hdmap_core.config import Config
from hdmap_core.models.layers.conv import conv_norm_act
from hdmap_core.models.layers.padding import padded_to_multiple
from hdmap_core.models.priors.sd_fusion import STRIDE, eighth


class BEVBottleneckConfig(Config):
    """MapKD's published sizes.

    Attributes:
        channels: width in the bottleneck and of what comes out; the teacher's, of cameras and LiDAR together.
        hidden: width between the two convolutions that lead there.
        skip: add the features before the bottleneck to the result. False: as published.
        aligned_corners: how the enlargement reads the small map. False: as published.
    """

    kind: Literal["bottleneck"] = "bottleneck"
    channels: PositiveInt = 192
    hidden: PositiveInt = 96
    skip: bool = False
    aligned_corners: bool = True


class BottleneckOutput(NamedTuple):
    """What the bottleneck makes.

    Attributes:
        bev: (B, C, Y, X) features.
        small: (B, C, y, x) the same at 1/8, Y / 8 and X / 8 rounded up.
    """

    bev: Tensor
    small: Tensor


class BEVBottleneck(nn.Module):
    """BEV features -> wider BEV features, through 1/8 of the resolution.

    Attributes:
        out_channels: channels C of the output.
    """

    def __init__(self, config: BEVBottleneckConfig, *, in_channels: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.config, self.size, self.out_channels = config, size, config.channels
        self.widen = nn.Sequential(
            conv_norm_act(in_channels, config.hidden), conv_norm_act(config.hidden, config.channels)
        )
        self.down = eighth(*[config.channels] * 4)

    def forward(self, bev: Tensor) -> BottleneckOutput:
        """(B, C', y, x), of the grid's cells or others -> (B, C, Y, X) of the grid's, and what lies between."""
        wide = self.widen(bev)
        padded = padded_to_multiple(wide, STRIDE)
        small = self.down(padded)
        # Other cells than the grid's lead to the grid itself: their padding is none of its.
        size = padded.shape[-2:] if tuple(wide.shape[-2:]) == self.size else self.size
        raised = F.interpolate(small, size=size, mode="bilinear", align_corners=self.config.aligned_corners)
        raised = raised[..., : self.size[0], : self.size[1]]
        return BottleneckOutput(bev=wide + raised if self.config.skip else raised, small=small)
