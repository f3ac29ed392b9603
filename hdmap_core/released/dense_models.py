"""Which model of HDMapNet, P-MapNet or MapKD a file holds, as its names and shapes tell, and its config here."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from hdmap_core.errors import CheckpointError
from hdmap_core.geometry import BEVGrid
from hdmap_core.models import ModelConfig
from hdmap_core.models.backbones.image_backbone import ImageBackboneConfig
from hdmap_core.models.bev_bottleneck import BEVBottleneckConfig
from hdmap_core.models.bev_resnet import ResNetEncoderConfig
from hdmap_core.models.heads.dense import DenseConfig
from hdmap_core.models.lidar.pillars import PillarsConfig
from hdmap_core.models.lidar.simulated import SimulatedLidarConfig
from hdmap_core.models.priors.hd_refiner import HDRefinerConfig
from hdmap_core.models.priors.sd_fusion import SDFusionConfig
from hdmap_core.models.view_transforms.lift_splat import LiftSplatConfig
from hdmap_core.models.view_transforms.mlp_ipm import MlpIPMConfig

CAMERAS = ("CAM_FRONT_LEFT", "CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK_LEFT", "CAM_BACK", "CAM_BACK_RIGHT")
REGIONS = ((60, 30), (120, 60), (240, 60))
"""Published, metres along x and y."""

_PLAN = 5  # cells of the grid per cell of a plan view, along each axis
_PATCH = 8
_STUDENT = (200, 400)  # cells of the student's rasters, whatever region it was trained for


@dataclass(frozen=True)
class DenseModel:
    """What the names say.

    Attributes:
        lidar: the LiDAR branch: of points, simulated, or none.
        sd_map: whether it reads an SD map.
        refiner: whether it has the HD-map refiner; alone: nothing else (its pre-training).
        student: whether it is MapKD's student.
        cells: cells of the grid, as shapes say.
    """

    lidar: str | None
    sd_map: bool
    refiner: bool
    alone: bool
    student: bool
    cells: int

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> "DenseModel | None":
        """None if the names are of another family.

        Raises:
            CheckpointError: if they are of this one, but do not tell the grid.
        """

        def below(prefix: str) -> list[str]:
            return [name for name in tensors if name.startswith(prefix)]

        if below("view_fusion.hw_mat.") and below("bevencode."):
            alone, cells = False, _cells_of_plans(tensors)
        elif below("map_patch_embed.") and below("bev_head."):
            alone, places = True, tensors.get("pos_embed")
            if places is None or places.dim() != 3:
                raise CheckpointError("it lacks pos_embed, which tells its grid, or that is no table")
            cells = (places.shape[1] - 1) * _PATCH**2
        else:
            return None
        student, lidar = bool(below("feature_expand.")), None
        if below("pp."):
            lidar = "simulated" if below("pp.camencode.") else "points"
        sd_map = not student and bool(below("sdmap_crossattn."))
        return cls(lidar, sd_map, alone or bool(below("mae_head.")), alone, student, cells)

    @property
    def families(self) -> tuple[str, ...]:
        """From whose repository such a model may be."""
        if self.student or self.lidar == "simulated":
            return ("mapkd",)
        return ("pmapnet",) if self.sd_map or self.refiner else ("hdmapnet", "pmapnet")

    @property
    def title(self) -> str:
        """In words."""
        if self.alone:
            return "P-MapNet's HD-map refiner, pre-trained"
        if self.student:
            return "MapKD's student"
        lidar = {"points": ["LiDAR"], "simulated": ["simulated LiDAR"], None: []}[self.lidar]
        return ", ".join(["cameras", *lidar, *["SD map"] * self.sd_map, *["HD-map refiner"] * self.refiner])

    def resolution(self, region: tuple[float, float]) -> float | None:
        """Metres per cell, if a region of metres (x, y) can have so many cells; of what leaves the view transform."""
        resolution = math.sqrt(region[0] * region[1] / self.cells) if self.cells > 0 else 0.0
        if not resolution:
            return None
        sides = [side / resolution for side in region]
        unit = _PATCH if self.alone else _PLAN
        whole = all(abs(cells / unit - round(cells / unit)) < 1e-6 for cells in sides)
        return round(resolution, 9) if whole else None


def _cells_of_plans(tensors: Mapping[str, Tensor]) -> int:
    """Cells of the grid, by the first plan view that is there; 0 if that cannot be one."""
    for name, tensor in sorted(tensors.items()):
        if re.fullmatch(r"view_fusion\.hw_mat\.\d+\.2\.weight", name) and tensor.dim() == 2:
            return len(tensor) * _PLAN**2 if tensor.shape[0] == tensor.shape[1] else 0
    raise CheckpointError("it lacks view_fusion.hw_mat.0.2.weight, which tells its grid")


def dense_config(model: DenseModel, region: tuple[float, float]) -> ModelConfig:
    """The config that a file of this kind asks for, with everything as it was published.

    Args:
        model: of its names.
        region: metres along x and y; one for which `resolution` is not None.
    """
    resolution = model.resolution(region)
    assert resolution is not None
    cell = None
    if model.student and not math.isclose(wide := region[0] / _STUDENT[1], resolution):
        cell, resolution = resolution, wide
    (x, y), name = region, "-".join(["imported", *_slug(model)])
    grid = BEVGrid((-x / 2, x / 2), (-y / 2, y / 2), resolution)
    refiner = HDRefinerConfig(inputs="logits", first_bias=True) if model.refiner else None
    if model.alone:
        return ModelConfig(
            name=name,
            grid=grid,
            view_transform=None,
            bev_encoder=None,
            vectors=None,
            segmentation=None,
            hd_refiner=refiner,
        )
    lidar: PillarsConfig | SimulatedLidarConfig | None = None
    if model.lidar == "points":
        lidar = PillarsConfig(cells="published")
    elif model.lidar == "simulated":
        lidar = SimulatedLidarConfig(lift_splat=LiftSplatConfig(geometry="published"))
    return ModelConfig(
        name=name,
        grid=grid,
        backbone=ImageBackboneConfig(
            model="tf_efficientnet_b0.aa_in1k",
            image_size=(128, 352),
            cameras=CAMERAS,
            features=(-2, -1),
            aggregation="double_conv",
            frozen_batch_norm=False,
            out_channels=64,
            arguments={"drop_path_rate": 0.2},
            resampling="bicubic",
            scaling="origin",
            poses="mounted",
        ),
        view_transform=MlpIPMConfig(geometry="published", cell=cell),
        lidar=lidar,
        sd_prior=SDFusionConfig(mask_empty=False) if model.sd_map else None,
        bottleneck=BEVBottleneckConfig(aligned_corners=False) if model.student else None,
        bev_encoder=ResNetEncoderConfig(),
        vectors=None,
        segmentation=None,
        dense=DenseConfig(),
        hd_refiner=refiner,
    )


def _slug(model: DenseModel) -> list[str]:
    if model.alone:
        return ["hd-refiner"]
    if model.student:
        return ["mapkd-student"]
    lidar = {"points": ["lidar"], "simulated": ["simulated"], None: ["camera"]}[model.lidar]
    family = "pmapnet" if model.sd_map or model.refiner else "hdmapnet"
    return [family, *lidar, *["sd"] * model.sd_map, *["hd"] * model.refiner]
