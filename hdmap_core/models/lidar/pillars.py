"""PointPillars with dynamic voxelisation (Lang et al. 2019; Zhou et al. 2020), as HDMapNet's LiDAR branch.

Plain torch: any number of points, no cut at a maximum of points or pillars, no custom operation. Different from the
published code, on purpose:
- Points outside of the grid and padding influence nothing. There they all fall into cell 0, whose mean they dilute,
  and their zeros enter the statistics of the batch norm.
- Frames are cut at 81 920 points there, so that most of the third sweep never arrives; here every point counts.
- The car's own returns are found by a box of the ego frame; there it is a square around the sensor.
"""

from typing import Literal

import torch
from pydantic import PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import Self

from hdmap_core.config import Config
from hdmap_core.errors import ConfigError
from hdmap_core.geometry import BEVGrid
from hdmap_core.model_io import ModelInput
from hdmap_core.models.layers.conv import conv_norm_act
from hdmap_core.models.layers.upsampled_conv import upsampled_conv
from hdmap_core.models.lidar.masked_norm import MaskedBatchNorm

RAW = 5  # x, y, z, intensity, age
FEATURES = RAW + 1 + 3 + 3 + 3


class PillarsConfig(Config):
    """HDMapNet's published sizes.

    Attributes:
        sweeps: the key frame's and how many before it, together; whoever loads the points reads it.
        z_range: points at this height or outside of it are left out [m, ego frame].
        own_vehicle_x: with `own_vehicle_y` the box, at any height, whose points are the car itself [m, ego frame].
            The default is the published 4.4 m square around nuScenes' LiDAR, which sits 0.94 m before the ego origin.
            Sweeps before the key frame come without the points of that square around the sensor, whatever stands
            here, since the car has moved on: see `NuScenesDataset.observation`.
        own_vehicle_y: see `own_vehicle_x`.
        point_channels: width of the layer that sees single points.
        channels: width of each block of convolutions, at 1/1, 1/2, 1/4 ... of the grid's resolution.
        convolutions: how many each block has.
        fusion_channels: width of the first layer that sees all blocks.
        out_channels: channels of the slot's output.
        cells: `floor`: as told above. `published`, for weights that were trained so: numbers of cells are cut off
            towards zero, so that points up to one cell below the lower ends of the grid, and up to the height of
            `z_range` below it, count in the first cell; padding and other points outside count, with features of zero,
            in the mean and the centroid of cell 0.
    """

    kind: Literal["pillars"] = "pillars"
    sweeps: PositiveInt = 3
    z_range: tuple[float, float] = (-10.0, 10.0)
    own_vehicle_x: tuple[float, float] = (-1.26, 3.14)
    own_vehicle_y: tuple[float, float] = (-2.2, 2.2)
    point_channels: PositiveInt = 64
    channels: tuple[PositiveInt, ...] = (64, 128, 256)
    convolutions: tuple[PositiveInt, ...] = (2, 3, 3)
    fusion_channels: PositiveInt = 256
    out_channels: PositiveInt = 128
    cells: Literal["floor", "published"] = "floor"

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if len(self.channels) != len(self.convolutions) or not self.channels:
            raise ValueError(
                f"channels has {len(self.channels)} blocks, convolutions {len(self.convolutions)}; give both the same"
            )
        for name in ("z_range", "own_vehicle_x", "own_vehicle_y"):
            low, high = getattr(self, name)
            if low > high or (name == "z_range" and low == high):
                raise ValueError(f"{name} is [{low}, {high}]; give the smaller bound first")
        return self


class Pillars(nn.Module):
    """LiDAR points -> BEV features (B, C, Y, X).

    Attributes:
        out_channels: channels C of the output.
    """

    def __init__(self, config: PillarsConfig, *, grid: BEVGrid) -> None:
        super().__init__()
        self.config, self.grid = config, grid
        self.out_channels = config.out_channels
        self.linear = nn.Linear(FEATURES, config.point_channels, bias=False)
        self.norm = MaskedBatchNorm(config.point_channels)
        widths = (config.point_channels, *config.channels)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                conv_norm_act(low, high, stride=1 if index == 0 else 2),
                *(conv_norm_act(high, high) for _ in range(count - 1)),
            )
            for index, (low, high, count) in enumerate(zip(widths, config.channels, config.convolutions, strict=False))
        )
        self.branches = nn.ModuleList(conv_norm_act(width, width) for width in config.channels)
        self.fusion = nn.Sequential(
            conv_norm_act(sum(config.channels), config.fusion_channels),
            conv_norm_act(config.fusion_channels, config.out_channels),
            nn.Conv2d(config.out_channels, config.out_channels, 1),
        )

    def forward(self, features: Tensor | None, inputs: ModelInput) -> Tensor:
        """BEV features (B, C, Y, X) of `inputs.points`; image features are not looked at.

        Raises:
            ConfigError: if there are no points.
        """
        if inputs.points is None or inputs.point_count is None:
            raise ConfigError(
                "the slot lidar (pillars) needs ModelInput.points and point_count: give observations with LiDAR points"
            )
        # Sums over points lose too much in half precision, and the layer is small.
        with torch.autocast(inputs.points.device.type, enabled=False):
            bev = self.pillars(inputs.points.float(), inputs.point_count)
        branches = []
        for block, branch in zip(self.blocks, self.branches, strict=True):
            bev = block(bev)
            # First up, then the convolution, as published; where it costs less, the convolution is computed before.
            branches.append(upsampled_conv(branch, bev, self.grid.shape))
        return self.fusion(torch.cat(branches, dim=1))

    def pillars(self, points: Tensor, point_count: Tensor) -> Tensor:
        """The mean over every cell's points of what one layer makes of each; cells without points are 0.

        Args:
            points: (B, P, 5) float32 as in `ModelInput`.
            point_count: (B,) how many of them are points.

        Returns:
            (B, C, Y, X) float32.
        """
        batch, most = points.shape[:2]
        (height, width), device = self.grid.shape, points.device
        published = self.config.cells == "published"
        places = self.grid.to_cells(points[..., :2]) + 0.5
        column_row = places.trunc() if published else places.floor()
        given = torch.arange(most, device=device) < point_count[:, None]
        valid = given & points.isfinite().all(-1) & self._inside(points, column_row)
        if published:  # the car itself is left out before, as `preprocess` does
            counted = points.isfinite().all(-1)
        else:
            valid = counted = valid & ~self._own_vehicle(points)
        # What does not count may be anything, also not finite; it goes to a cell behind the last one.
        column_row = torch.where(valid[..., None], column_row, 0.0)
        points = torch.where(counted[..., None], points, 0.0).flatten(0, 1)
        column, row = column_row.long().unbind(-1)
        sample = torch.arange(batch, device=device)[:, None]
        cells = batch * height * width
        index = torch.where(counted, (sample * height + row) * width + column, cells).flatten()
        valid = valid.flatten()

        ones = valid.to(points.dtype)[:, None]
        count = _sums(ones, index, cells).clamp(min=1)
        of_all = _sums(counted.flatten().to(ones)[:, None], index, cells).clamp(min=1) if published else count
        offset = self._from_cell_centre(points, column_row.flatten(0, 1))
        # Means are taken of offsets within the cell: coordinates of 100 m would leave few digits.
        from_mean = offset - (_sums(offset, index, cells) / of_all)[index]
        described = torch.cat([points, count[index], from_mean, points[:, :3] - from_mean, offset], dim=1)
        encoded = F.relu(self.norm(self.linear(described), valid)) * ones
        means = _sums(encoded, index, cells)[:cells] / of_all[:cells]
        return means.reshape(batch, height, width, -1).permute(0, 3, 1, 2).contiguous()

    def _inside(self, points: Tensor, column_row: Tensor) -> Tensor:
        """(B, P) bool: on the grid and within the heights."""
        height, width = self.grid.shape
        column, row = column_row.unbind(-1)
        low, high = self.config.z_range
        heights = (2 * low - high, high) if self.config.cells == "published" else (low, high)
        on_grid = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        return on_grid & _between(points[..., 2], heights)

    def _own_vehicle(self, points: Tensor) -> Tensor:
        """(B, P) bool: what the car itself reflects."""
        x, y = points[..., :2].unbind(-1)
        return _between(x, self.config.own_vehicle_x) & _between(y, self.config.own_vehicle_y)

    def _from_cell_centre(self, points: Tensor, column_row: Tensor) -> Tensor:
        """(M, 3) metres from the centre of the point's cell, which is as high as `z_range`."""
        middle = sum(self.config.z_range) / 2
        return torch.cat([points[:, :2] - self.grid.to_metres(column_row), points[:, 2:3] - middle], dim=1)


def _between(values: Tensor, bounds: tuple[float, float]) -> Tensor:
    return (values > bounds[0]) & (values < bounds[1])


def _sums(rows: Tensor, index: Tensor, cells: int) -> Tensor:
    """(M, C) rows -> (cells + 1, C) sums; the last one is of the rows that belong to no cell."""
    return rows.new_zeros(cells + 1, rows.shape[1]).index_add(0, index, rows)
