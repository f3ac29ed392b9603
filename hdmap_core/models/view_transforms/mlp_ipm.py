"""HDMapNet's neural view transformer (Li et al. 2022, section III-A): an MLP makes a plan view, extrinsics turn it.

Every camera's feature map becomes a plan view of what is in front of that camera by an MLP over positions, which
learns what perspective does to the ground. The plans are then looked up on the plane z = 0 of the ego frame.

Deliberate differences from the published code: the camera's place is in metres like everything else (there, at
60 x 30 m, it counts half); plan cells are as long as wide for every grid (there, at 240 x 60 m, they are not, though
cameras turn them); nothing behind a camera is read; what is looked up lies where the BEV grid's cell centres are (there
up to half a cell off); on demand the intrinsics are used rightly (there they are always ignored).
"""

from typing import Literal

import torch
from pydantic import PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import Self

from hdmap_core.config import Config
from hdmap_core.errors import ConfigError
from hdmap_core.geometry import BEVGrid
from hdmap_core.model_io import ModelInput
from hdmap_core.models.layers.raster_size import size_xy
from hdmap_core.models.view_transforms.needed import FEATURES, needed
from hdmap_core.models.view_transforms.pinhole_cameras import PinholeCameras


class MlpIPMConfig(Config):
    """Defaults: HDMapNet's published code.

    Attributes:
        weights: `per_camera`: every camera has its own MLP, which binds the weights to a rig whose cameras come in one
            order; `shared`: one MLP for all, for any rig.
        plan: (rows, columns) of a plan view, rows across and columns along the camera's axis; None: a fifth of the
            BEV grid's cells each way.
        unit: metres per cell of a plan view; None: 10/3 of the BEV grid's resolution, which is 0.5 m at 60 x 30 m. A
            plan begins columns / 8 units in front of its camera.
        fusion: of several cameras that see a place: `max` (the published code) or `mean` (the paper's text).
        focals: focal length of a canonical camera divided by the width of its image, for every camera or one value for
            all. Feature maps are resampled to what such a camera, with its principal point in the centre, would see,
            so that the MLP meets the same rays in the same columns whatever the true intrinsics are. Empty: the
            intrinsics are ignored, as published; right only for the rig of the training.
        aspect: width / height of the canonical cameras' images before they were squeezed into the network's size;
            their pixels were square.
        cell: metres per cell of what leaves the slot, for a model whose bottleneck leads on to the grid's cells; None:
            the grid's.
        geometry: `metres`: as told above. `published`: as the published code has it, for weights that were trained so:
            of its first difference the other side of each.
    """

    kind: Literal["mlp_ipm"] = "mlp_ipm"
    weights: Literal["per_camera", "shared"] = "per_camera"
    plan: tuple[PositiveInt, PositiveInt] | None = None
    unit: PositiveFloat | None = None
    fusion: Literal["max", "mean"] = "max"
    focals: tuple[PositiveFloat, ...] = ()
    aspect: PositiveFloat = 16 / 9
    cell: PositiveFloat | None = None
    geometry: Literal["metres", "published"] = "metres"

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.weights == "shared" and len(self.focals) > 1:
            raise ValueError("focals has several values, but shared weights know one canonical camera; give one value")
        if self.geometry == "published" and self.unit is not None:
            raise ValueError("geometry is published, which has units of its own; leave unit out")
        return self

    def own_grid(self, grid: BEVGrid) -> BEVGrid:
        """The grid's region in the cells of what leaves the slot."""
        return BEVGrid(grid.x_range, grid.y_range, self.cell or grid.resolution)


class MlpIPM(nn.Module):
    """Camera features and calibration -> (B, C, Y, X) BEV features, none of them negative; zero: no camera looks there.

    Raises:
        ConfigError: if the number of focals is neither one nor that of the cameras.
    """

    ground: Tensor
    focals: Tensor

    def __init__(
        self,
        config: MlpIPMConfig,
        *,
        grid: BEVGrid,
        in_channels: int,
        feature_size: tuple[int, int],
        num_cameras: int,
    ) -> None:
        super().__init__()
        self.config, self.out_channels = config, in_channels
        self.feature_size, self.num_cameras = tuple(feature_size), num_cameras
        rows, columns = self.shape = grid.shape
        self.plan = config.plan or (max(rows // 5, 2), max(columns // 5, 2))
        self.published = config.geometry == "published"
        self.unit = 1.0 if self.published else config.unit or grid.resolution / 0.3
        if len(config.focals) not in (0, 1, num_cameras):
            raise ConfigError(
                f"view_transform.focals has {len(config.focals)} values for {num_cameras} cameras; give one for each, "
                "one for all, or none"
            )
        self.views = nn.ModuleList(
            _view_mlp(feature_size[0] * feature_size[1], self.plan[0] * self.plan[1])
            for _ in range(num_cameras if config.weights == "per_camera" else 1)
        )
        # Half as many places as cells each way, from the first cell's centre to the last one's: interpolation with
        # aligned corners then leads back to the centres exactly.
        half = grid.resolution / 2
        ends = [(low + half, high - half) for low, high in (grid.x_range, grid.y_range)]
        if self.published:  # in units, from end to end, whatever the region is
            reach = self.plan[1] * 3 // 4
            ends = [(-reach, reach), (-reach / 2, reach / 2)]
        x, y = (torch.linspace(*each, -(-cells // 2)) for each, cells in zip(ends, (columns, rows), strict=True))
        ground = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)
        self.register_buffer("ground", ground, persistent=False)
        self.register_buffer("focals", torch.tensor(config.focals), persistent=False)

    def forward(self, features: Tensor | None, inputs: ModelInput) -> Tensor:
        """Builds the BEV.

        Args:
            features: (B, N, C, h, w) of `inputs.images`.
            inputs: `projection`, `images` (their size only) if there are focals, `camera_mask` if cameras may be
                missing.

        Returns:
            (B, C, Y, X) float32.

        Raises:
            ConfigError: if something needed is missing, or another number of cameras or size of features comes than
                the weights are made for.
        """
        features, projection = self._check(features, inputs)
        with torch.autocast(features.device.type, enabled=False):
            camera = PinholeCameras.of(projection.float())
        if self.config.focals:
            features = self._canonical(features, camera, inputs)
        flat = features.flatten(3)
        if len(self.views) == 1:
            plans = self.views[0](flat)
        else:
            plans = torch.stack([view(flat[:, index]) for index, view in enumerate(self.views)], dim=1)
        with torch.autocast(features.device.type, enabled=False):
            bev = self._warp(plans.float().unflatten(-1, self.plan), camera, inputs.camera_mask)
            return F.interpolate(bev, size=self.shape, mode="bilinear", align_corners=True)

    def _check(self, features: Tensor | None, inputs: ModelInput) -> tuple[Tensor, Tensor]:
        features = needed(features, FEATURES, "the slot view_transform (mlp_ipm)")
        projection = needed(inputs.projection, "ModelInput.projection", "the slot view_transform (mlp_ipm)")
        cameras, size = features.shape[1], tuple(features.shape[-2:])
        if size != self.feature_size:
            raise ConfigError(
                f"the view transform mlp_ipm is made for feature maps of {self.feature_size}, {size} came; set "
                "backbone.image_size"
            )
        if self.config.weights == "per_camera" and cameras != self.num_cameras:
            raise ConfigError(
                f"the view transform mlp_ipm is made for {self.num_cameras} cameras, {cameras} came; set "
                "backbone.cameras, or view_transform.weights=shared for any number"
            )
        return features, projection

    def _canonical(self, features: Tensor, camera: PinholeCameras, inputs: ModelInput) -> Tensor:
        """What the canonical cameras would have seen; zero beyond the true images' edges."""
        height, width = needed(inputs.images, "ModelInput.images", "view_transform.focals").shape[-2:]
        with torch.autocast(features.device.type, enabled=False):
            # In image coordinates from -1 to 1 between the outer edges: true = shift + scale * canonical.
            size = size_xy(width, height, features)
            canonical = torch.stack([self.focals, self.focals * self.config.aspect], dim=-1) * size
            scale, shift = camera.focal / canonical, (2 * camera.centre + 1) / size - 1
            x, y = ((2 * torch.arange(n, device=size.device) + 1) / n - 1 for n in reversed(self.feature_size))
            places = scale[..., None, None, :] * torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)
            places = (places + shift[..., None, None, :]).flatten(0, 1)
            maps = features.float().flatten(0, 1)
            return F.grid_sample(maps, places, align_corners=False).view_as(features)

    def _warp(self, plans: Tensor, camera: PinholeCameras, camera_mask: Tensor | None) -> Tensor:
        """(B, N, C, rows, columns) -> (B, C, Y/2, X/2): each camera's plan, turned and moved, and all in one."""
        rows, columns = self.plan
        depth, lateral = (
            row[..., None, None, 0] * self.ground[..., 0]
            + row[..., None, None, 1] * self.ground[..., 1]
            + row[..., None, None, 3]
            for row in (camera.depth, camera.lateral)
        )
        along = depth / self.unit - columns / 8
        across = lateral / self.unit + rows / 2
        # Whole numbers are centres of plan cells; beyond the outermost, the plan fades out within one cell.
        places = torch.stack([(2 * along + 1) / columns - 1, (2 * across + 1) / rows - 1], dim=-1)
        if self.published:  # the last row and column are never read alone, and nothing fades
            seen = (along >= 0) & (along < columns - 1) & (across >= 0) & (across < rows - 1)
        else:
            seen = (depth > 0) & (along > -1) & (along < columns) & (across > -1) & (across < rows)
        if camera_mask is not None:
            seen = seen & camera_mask[:, :, None, None]
        views = F.grid_sample(plans.flatten(0, 1), places.flatten(0, 1), align_corners=False)
        views = torch.where(seen[:, :, None], views.unflatten(0, plans.shape[:2]), 0.0)
        if self.config.fusion == "max":
            return views.amax(dim=1)
        return views.sum(dim=1) / seen.sum(dim=1, keepdim=True).clamp(min=1)


def _view_mlp(positions: int, cells: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(positions, cells), nn.ReLU(), nn.Linear(cells, cells), nn.ReLU())
