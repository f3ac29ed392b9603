"""MapKD's simulated LiDAR: a second camera branch in the place of the pillars, for a coach without a LiDAR.

Its own backbone and a lift-splat make BEV features of as many channels as those of a LiDAR. No depth and no LiDAR
ever supervises it: it learns from what flows back out of the task, and from distillation where a recipe has it.
"""

from typing import Literal

from pydantic import PositiveInt
from torch import Tensor, nn

from hdmap_core.config import Config
from hdmap_core.errors import ConfigError
from hdmap_core.geometry import BEVGrid
from hdmap_core.model_io import ModelInput
from hdmap_core.models.backbones.image_backbone import ImageBackbone, ImageBackboneConfig
from hdmap_core.models.view_transforms.lift_splat import LiftSplat, LiftSplatConfig


class SimulatedLidarConfig(Config):
    """MapKD's published sizes.

    Attributes:
        backbone: of this branch alone; it sees the same images as the model's, so `image_size` must be the same, and
            its `cameras` too or none. Beside ground pixels, these two decide what the images are.
        lift_splat: from its features to the BEV.
        channels: of the slot's output; as many as those of the pillars that it stands for.
    """

    kind: Literal["simulated"] = "simulated"
    backbone: ImageBackboneConfig = ImageBackboneConfig(
        model="tf_efficientnet_b0.aa_in1k",
        image_size=(128, 352),
        features=(-2, -1),
        aggregation="double_conv",
        frozen_batch_norm=False,
        out_channels=512,
        arguments={"drop_path_rate": 0.2},
    )
    lift_splat: LiftSplatConfig = LiftSplatConfig()
    channels: PositiveInt = 128


class SimulatedLidar(nn.Module):
    """Camera images -> BEV features (B, C, Y, X) in the place of a LiDAR's.

    Attributes:
        out_channels: channels C of the output.
        backbone: this branch's own.
    """

    backbone: ImageBackbone

    def __init__(self, config: SimulatedLidarConfig, *, grid: BEVGrid) -> None:
        super().__init__()
        self.out_channels = config.channels
        self.backbone = ImageBackbone(config.backbone)
        self.lift_splat = LiftSplat(config.lift_splat, grid=grid, in_channels=self.backbone.out_channels)
        self.expand = nn.Conv2d(self.lift_splat.out_channels, config.channels, 1)

    def forward(self, features: Tensor | None, inputs: ModelInput) -> Tensor:
        """BEV features (B, C, Y, X) of `inputs.images` and their calibration; the model's own features stay unused.

        Raises:
            ConfigError: if there are no images or no calibration.
        """
        if inputs.images is None:
            raise ConfigError("the slot lidar (simulated) needs ModelInput.images; preprocess makes them")
        return self.expand(self.lift_splat(self.backbone(inputs.images), inputs))
