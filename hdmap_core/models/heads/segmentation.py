"""BEV segmentation: one mask per class."""

from typing import Literal

import torch
from torch import Tensor, nn

from hdmap_core.config import Config
from hdmap_core.models.heads.branches import rare


class SegmentationConfig(Config):
    """`upscale`: how many times finer than the BEV grid the masks are."""

    kind: Literal["segmentation"] = "segmentation"
    upscale: int = 2


class SegmentationHead(nn.Module):
    """(B, C, Y, X) -> logits (B, K, sY, sX), s = upscale, by sub-pixel convolution (Shi et al. 2016)."""

    def __init__(self, config: SegmentationConfig, *, in_channels: int, num_classes: int) -> None:
        super().__init__()
        last = nn.Conv2d(in_channels, num_classes * config.upscale**2, 1)
        nn.init.constant_(torch.as_tensor(last.bias), rare(0.05))
        self.layers = nn.Sequential(last, nn.PixelShuffle(config.upscale))

    def forward(self, bev: Tensor) -> Tensor:
        """Logits (B, K, sY, sX)."""
        return self.layers(bev)
