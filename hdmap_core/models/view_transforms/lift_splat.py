"""Lift-splat (Philion and Fidler 2020): every pixel guesses its depth, and features land in the cells they see.

MapKD simulates a LiDAR with it. Splatting is one `index_add_`, so nothing but torch is needed; points that fall
nowhere go to a cell that is thrown away, so all shapes depend on the sizes of the inputs only.
"""

from typing import Literal

import torch
from pydantic import PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn
from typing_extensions import Self

from hdmap_core.config import Config
from hdmap_core.geometry import BEVGrid
from hdmap_core.model_io import ModelInput
from hdmap_core.models.view_transforms.needed import FEATURES, needed

_MOST_BINS = 10_000


class LiftSplatConfig(Config):
    """Defaults: HDMapNet's and MapKD's.

    Attributes:
        channels: of the features that are splatted, and of the BEV.
        depth_range: metres; the first bin's depth, and where bins end: 4, 5, ... 44 m.
        depth_step: metres from bin to bin.
        z_range: metres in the ego frame; points above or below are dropped.
        geometry: `cells`: rays go through the centres of feature cells, and points belong to the cell that they lie in.
            `published`, for weights that were trained so: the outermost rays go through the outermost pixels, and
            numbers of cells are cut off towards zero, so that points up to one cell below x_min and y_min count in the
            first cell, and points up to the height of `z_range` below it count as well.
    """

    kind: Literal["lift_splat"] = "lift_splat"
    channels: PositiveInt = 64
    depth_range: tuple[float, float] = (4.0, 45.0)
    depth_step: PositiveFloat = 1.0
    z_range: tuple[float, float] = (-10.0, 10.0)
    geometry: Literal["cells", "published"] = "cells"

    @model_validator(mode="after")
    def _ranges_hold_something(self) -> Self:
        low, high = self.depth_range
        if low <= 0 or not 1 <= round((high - low) / self.depth_step) <= _MOST_BINS:
            raise ValueError(
                f"depth_range {self.depth_range} with depth_step {self.depth_step}: give at least one bin and at most "
                f"{_MOST_BINS}, from a positive depth on"
            )
        if self.z_range[0] >= self.z_range[1]:
            raise ValueError(f"z_range is {self.z_range}; give the lower end first")
        return self

    @property
    def depths(self) -> tuple[float, ...]:
        """Depth of every bin in metres."""
        low, high = self.depth_range
        return tuple(low + index * self.depth_step for index in range(round((high - low) / self.depth_step)))


class LiftSplat(nn.Module):
    """Camera features and calibration -> (B, C, Y, X) BEV features, for any rig of any number of cameras."""

    def __init__(self, config: LiftSplatConfig, *, grid: BEVGrid, in_channels: int) -> None:
        super().__init__()
        self.out_channels = config.channels
        self.splat = Splat(config, grid=grid)
        self.depth_and_context = nn.Conv2d(in_channels, len(config.depths) + config.channels, 1)

    def forward(self, features: Tensor | None, inputs: ModelInput) -> Tensor:
        """Builds the BEV.

        Args:
            features: (B, N, C', h, w) of `inputs.images`.
            inputs: `images` (their size only), `projection`, and `camera_mask` if cameras may be missing.

        Returns:
            (B, C, Y, X) float32; zero where no camera put anything.

        Raises:
            ConfigError: if something needed is missing.
        """
        features = needed(features, FEATURES, "lift_splat")
        projection = needed(inputs.projection, "ModelInput.projection", "lift_splat")
        lifted = self.depth_and_context(features.flatten(0, 1)).unflatten(0, features.shape[:2])
        return self.splat(lifted, projection, inputs)


class Splat(nn.Module):
    """Depth and features of every pixel -> what lands in each cell."""

    depths: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, config: LiftSplatConfig, *, grid: BEVGrid) -> None:
        super().__init__()
        self.channels, self.published = config.channels, config.geometry == "published"
        self.shape, self.resolution = grid.shape, grid.resolution
        (x_low, x_high), (y_low, y_high), (z_low, z_high) = grid.x_range, grid.y_range, config.z_range
        self.register_buffer("depths", torch.tensor(config.depths), persistent=False)
        self.register_buffer("low", torch.tensor([x_low, y_low, z_low]), persistent=False)
        self.register_buffer("high", torch.tensor([x_high, y_high, z_high]), persistent=False)

    def forward(self, lifted: Tensor, projection: Tensor, inputs: ModelInput) -> Tensor:
        """Spreads features.

        Args:
            lifted: (B, N, D + C, h, w): logits of the depth bins, then features.
            projection: (B, N, 3, 4) from the frame of the grid.
            inputs: `images` (their size only), and `camera_mask` if cameras may be missing.

        Returns:
            (B, C, Y, X) float32.
        """
        images = needed(inputs.images, "ModelInput.images", "lift_splat")
        with torch.autocast(lifted.device.type, enabled=False):
            image_size = images.shape[-2], images.shape[-1]
            points = frustum_points(
                projection.float(), self.depths, image_size, lifted.shape[-2:], corners=self.published
            )
            seen = self._inside(points).all(dim=-1)
            if inputs.camera_mask is not None:
                seen = seen & inputs.camera_mask[:, :, None, None, None]
            return self._sums(lifted.float(), points, seen)

    def _inside(self, points: Tensor) -> Tensor:
        """(..., 3) bool: whether a coordinate counts."""
        if not self.published:
            return (points >= self.low) & (points < self.high)
        cell = torch.stack([points.new_full((), self.resolution)] * 2 + [self.high[2] - self.low[2]])
        return ((points - self.low) / cell > -1) & (points < self.high)

    def _sums(self, lifted: Tensor, points: Tensor, seen: Tensor) -> Tensor:
        """(B, N, D + C, h, w), points (B, N, D, h, w, 3) and which of them count -> (B, C, Y, X)."""
        bins = len(self.depths)
        weight = lifted[:, :, :bins].softmax(dim=2)
        context = lifted[:, :, bins:].permute(0, 1, 3, 4, 2)
        values = weight[..., None] * context[:, :, None]  # (B, N, D, h, w, C)
        rows, columns = self.shape
        # A coordinate a rounding error below the end must not become the next row's first cell.
        cell = ((points[..., :2] - self.low[:2]) / self.resolution).floor().clamp(min=0)
        column, row = cell[..., 0].clamp(max=columns - 1), cell[..., 1].clamp(max=rows - 1)
        batch = len(points)
        nowhere = rows * columns
        index = torch.where(seen, row * columns + column, float(nowhere)).long()  # exact up to 2^24 cells
        first = torch.arange(batch, device=index.device).view(-1, 1, 1, 1, 1) * (nowhere + 1)
        bev = values.new_zeros(batch * (nowhere + 1), self.channels)
        bev = bev.index_add(0, (index + first).flatten(), values.flatten(0, -2))
        return bev.view(batch, nowhere + 1, -1)[:, :nowhere].transpose(1, 2).unflatten(-1, self.shape)


def frustum_points(
    projection: Tensor,
    depths: Tensor,
    image_size: tuple[int, int],
    feature_size: tuple[int, int] | torch.Size,
    *,
    corners: bool = False,
) -> Tensor:
    """Where the centres of feature cells lie in the ego frame, if they are as deep as said.

    Args:
        projection: (B, N, 3, 4) float32: homogeneous ego points -> (u z, v z, z), pixel centres at whole numbers. All
            zero for a missing camera; its points are finite and mean nothing.
        depths: (D,) metres along the optical axis.
        image_size: (H, W) of the images that `projection` speaks of.
        feature_size: (h, w) of the feature maps, which cover the whole images.
        corners: not the centres of feature cells, but places from the first pixel to the last, as published.

    Returns:
        (B, N, D, h, w, 3) metres.
    """
    (height, width), (rows, columns) = image_size, feature_size
    if corners:
        u = torch.linspace(0, width - 1, columns, device=depths.device)
        v = torch.linspace(0, height - 1, rows, device=depths.device)
    else:
        u = (torch.arange(columns, device=depths.device) + 0.5) * (width / columns) - 0.5
        v = (torch.arange(rows, device=depths.device) + 0.5) * (height / rows) - 0.5
    v, u = torch.meshgrid(v, u, indexing="ij")
    pixels = torch.stack([u, v, torch.ones_like(u)], dim=-1)  # (h, w, 3)
    inverse = _inverse(projection[..., :3])
    # Elementwise, so that TF32 leaves it alone.
    rays = (inverse[:, :, None, None] * pixels[..., None, :]).sum(dim=-1)  # (B, N, h, w, 3)
    centre = -(inverse * projection[..., None, :, 3]).sum(dim=-1)  # (B, N, 3): the camera itself
    return centre[:, :, None, None, None] + depths[:, None, None, None] * rays[:, :, None]


def _inverse(matrix: Tensor) -> Tensor:
    """(..., 3, 3) inverted by cross products, which every exporter knows; singular ones give something finite."""
    a, b, c = matrix.unbind(dim=-2)
    columns = torch.stack([torch.linalg.cross(b, c), torch.linalg.cross(c, a), torch.linalg.cross(a, b)], dim=-1)
    determinant = (a * columns[..., 0]).sum(dim=-1)[..., None, None]
    return columns / torch.where(determinant.abs() < 1e-6, 1.0, determinant)
