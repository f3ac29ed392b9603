"""The view transform of the deployed student: it looks at the ground itself.

`preprocess` resamples the cameras' pixels on the ground plane; here they become features at the BEV grid's resolution.
Nothing depends on a particular rig, so any calibration works, and the network is a plain CNN that every runtime takes.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hdmap_core.config import Config
from hdmap_core.errors import ConfigError
from hdmap_core.geometry import BEVGrid
from hdmap_core.model_io import ModelInput
from hdmap_core.models.layers.conv import ResidualBlock, conv_norm_act


class GroundPixelsConfig(Config):
    """`blocks` residual blocks at full BEV resolution are the costly part."""

    kind: Literal["ground_pixels"] = "ground_pixels"
    channels: int = 24
    blocks: int = 0


class GroundPixels(nn.Module):
    """(B, 4, 2Y, 2X) uint8 ground pixels -> (B, C, Y, X) features, with the place of each cell as further input."""

    position: Tensor

    def __init__(self, config: GroundPixelsConfig, *, grid: BEVGrid) -> None:
        super().__init__()
        self.out_channels = config.channels
        place = grid.normalise(grid.cell_centres()) * 2 - 1
        distance = torch.linalg.vector_norm(grid.cell_centres(), dim=-1, keepdim=True) / max(grid.size)
        self.register_buffer("position", torch.cat([place, distance], -1).permute(2, 0, 1)[None], persistent=False)
        self.stem = conv_norm_act(4 * 4 + 3, config.channels)
        self.blocks = nn.Sequential(*(ResidualBlock(config.channels) for _ in range(config.blocks)))

    def forward(self, features: Tensor | None, inputs: ModelInput) -> Tensor:
        """BEV features (B, C, Y, X) of `inputs.ground`; there are no image features."""
        if inputs.ground is None:
            raise ConfigError("the slot view_transform (ground_pixels) needs ModelInput.ground; preprocess makes it")
        pixels = F.pixel_unshuffle(inputs.ground.to(self.position.dtype) / 127.5 - 1.0, 2)
        position = self.position.expand(len(pixels), -1, -1, -1)
        seen = torch.cat([pixels, position], dim=1)
        if (
            self.training
        ):  # a sixth less CPU per step; what an engine runs, and what it is compared with, stays as it is
            seen = seen.contiguous(memory_format=torch.channels_last)
        return self.blocks(self.stem(seen))
