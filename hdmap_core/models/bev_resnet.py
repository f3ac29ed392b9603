"""The BEV encoder of HDMapNet (Li et al. 2022) and P-MapNet: the first three stages of a ResNet-18."""

from typing import Literal

from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn
from typing_extensions import Self

from hdmap_core.config import Config
from hdmap_core.models.layers.folded_norm import fold_block


class ResNetEncoderConfig(Config):
    """`channels[i]` and `blocks[i]`: width and residual blocks at 1/2, 1/4, 1/8 ... of the BEV resolution."""

    kind: Literal["resnet18"] = "resnet18"
    channels: tuple[PositiveInt, ...] = Field(default=(64, 128, 256), min_length=2)
    blocks: tuple[PositiveInt, ...] = (2, 2, 2)

    @model_validator(mode="after")
    def _one_block_count_per_level(self) -> Self:
        if len(self.channels) != len(self.blocks):
            raise ValueError(f"channels has {len(self.channels)} levels, blocks {len(self.blocks)}; give both the same")
        return self


class ResNetEncoder(nn.Module):
    """A 7x7 convolution of stride 2, then residual stages; no max-pooling, so lines a few cells wide survive.

    Weights are random, as published; the last batch norm of every residual branch starts at zero, so that the
    blocks start as identities.

    Attributes:
        level_channels: channels of the two maps that leave.
    """

    level_channels: tuple[int, int]

    def __init__(self, config: ResNetEncoderConfig, *, in_channels: int) -> None:
        super().__init__()
        first = config.channels[0]
        self.level_channels = (first, config.channels[-1])
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, first, 7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(first),
            nn.ReLU(inplace=True),
        )
        widths = (first, *config.channels)
        self.stages = nn.ModuleList(
            _stage(low, high, blocks, stride=1 if index == 0 else 2)
            for index, (low, high, blocks) in enumerate(zip(widths, config.channels, config.blocks, strict=False))
        )

    def forward(self, features: Tensor) -> list[Tensor]:
        """(B, C, Y, X) -> the first stage's (B, 64, Y/2, X/2) and the last one's (B, 256, Y/8, X/8), rounded up."""
        return self.after_stem(self.stem[0](features))

    def after_stem(self, features: Tensor) -> list[Tensor]:
        """As `forward`, from what the first convolution makes, (B, 64, Y/2, X/2), rounded up."""
        _, norm, activation = self.stem
        finest = self.stages[0](activation(norm(features)))
        coarsest = finest
        for stage in list(self.stages)[1:]:
            coarsest = stage(coarsest)
        return [finest, coarsest]


def _stage(in_channels: int, channels: int, blocks: int, *, stride: int) -> nn.Sequential:
    from torchvision.models.resnet import BasicBlock  # slow to import, and models without this slot do without

    shortcut = None
    if stride != 1 or in_channels != channels:
        shortcut = nn.Sequential(
            nn.Conv2d(in_channels, channels, 1, stride, bias=False),
            nn.BatchNorm2d(channels),
        )
    stage = nn.Sequential(
        BasicBlock(in_channels, channels, stride, shortcut),
        *(BasicBlock(channels, channels) for _ in range(blocks - 1)),
    )
    for module in stage.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, BasicBlock):
            nn.init.zeros_(module.bn2.weight)
            fold_block(module)
    return stage
