"""MapTRv2's view transform (Liao et al., IJCV 2024, section 3.5): lift-splat whose depth network knows the cameras.

Features are spread over cells of half the grid's size, and three convolutions, one of stride 2, lead to the grid. They
see the plane as MapTR does, rows forward and columns to the right: a stride begins at one end of an even axis, so the
same weights mean something else on a mirrored plane.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn
from typing_extensions import Self

from hdmap_core.config import Config
from hdmap_core.geometry import BEVGrid
from hdmap_core.model_io import ModelInput
from hdmap_core.models.layers.conv import conv_norm_act
from hdmap_core.models.view_transforms.depth_net import DepthNet, camera_numbers
from hdmap_core.models.view_transforms.lift_splat import LiftSplatConfig, Splat
from hdmap_core.models.view_transforms.needed import FEATURES, needed


class DepthLiftSplatConfig(Config):
    """MapTRv2's published values.

    Attributes:
        channels: of the features that are spread, and of the BEV.
        depth_range: metres; the first bin's depth, and where bins end.
        depth_step: metres from bin to bin.
        z_range: metres in the model's frame; points from its height below it up to its end count.
        pyramid_channels: of each branch of the depth network's pyramid.
        image_scale: pixels of the network's images per pixel of the cameras that it was trained with.
    """

    kind: Literal["depth_lift_splat"] = "depth_lift_splat"
    channels: PositiveInt = 256
    depth_range: tuple[float, float] = (1.0, 35.0)
    depth_step: PositiveFloat = 0.5
    z_range: tuple[float, float] = (-10.0, 10.0)
    pyramid_channels: PositiveInt = 96
    image_scale: PositiveFloat = Field(default=0.5)

    @model_validator(mode="after")
    def _bins_fit(self) -> Self:
        _ = self.splat  # which looks at them
        return self

    @property
    def splat(self) -> LiftSplatConfig:
        """How features are spread."""
        return LiftSplatConfig(
            channels=self.channels,
            depth_range=self.depth_range,
            depth_step=self.depth_step,
            z_range=self.z_range,
            geometry="published",
        )


class DepthLiftSplat(nn.Module):
    """Camera features and calibration -> (B, C, Y, X) BEV features, for any rig of any number of cameras."""

    ego_from_model: Tensor | None

    def __init__(
        self,
        config: DepthLiftSplatConfig,
        *,
        grid: BEVGrid,
        in_channels: int,
        ego_from_model: Sequence[Sequence[float]] | None = None,
    ) -> None:
        super().__init__()
        self.image_scale, self.out_channels = config.image_scale, config.channels
        pose = None if ego_from_model is None else torch.tensor(ego_from_model, dtype=torch.float32)
        self.register_buffer("ego_from_model", pose, persistent=False)
        self.depth_net = DepthNet(
            in_channels=in_channels,
            channels=config.channels,
            bins=len(config.splat.depths),
            pyramid_channels=config.pyramid_channels,
        )
        low, high = grid.y_range
        self.splat = Splat(config.splat, grid=BEVGrid((-high, -low), grid.x_range, grid.resolution / 2))
        self.halve = nn.Sequential(
            *(conv_norm_act(config.channels, config.channels, stride=each) for each in (1, 2, 1))
        )

    def forward(
        self, features: Tensor | None, inputs: ModelInput, *, with_depth: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Builds the BEV; arguments and errors as `LiftSplat.forward` has them.

        Returns:
            (B, C, Y, X) float32; with_depth: and (B, N, D, h, w) logits of the depth bins, for a loss.
        """
        features = needed(features, FEATURES, "depth_lift_splat")
        projection = needed(inputs.projection, "ModelInput.projection", "depth_lift_splat").float()
        with torch.autocast(features.device.type, enabled=False):
            cameras = camera_numbers(projection, image_scale=self.image_scale, ego_from_model=self.ego_from_model)
        lifted = self.depth_net(features.flatten(0, 1), cameras.flatten(0, 1)).unflatten(0, features.shape[:2])
        forward, left, up, shift = projection.unbind(dim=-1)
        turned = torch.stack([-left, forward, up, shift], dim=-1)  # of points (right, forward, up)
        plane = self.halve(self.splat(lifted, turned, inputs))  # (B, C, forward, right)
        bev = plane.flip(-1).transpose(-1, -2).contiguous()
        return (bev, lifted[:, :, : len(self.splat.depths)]) if with_depth else bev
