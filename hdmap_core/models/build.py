"""The whole architecture at a glance: which module fills which slot, and what the slots tell each other."""

from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch import nn
from typing_extensions import Self, assert_never

from hdmap_core.config import Config
from hdmap_core.elements import MapClass
from hdmap_core.geometry import BEVGrid
from hdmap_core.geometry.bev_grid import ROADS_REACH_M
from hdmap_core.models.backbones.image_backbone import ImageBackbone, ImageBackboneConfig
from hdmap_core.models.bev_bottleneck import BEVBottleneck, BEVBottleneckConfig
from hdmap_core.models.bev_encoder import BEVEncoderConfig, BEVUNet
from hdmap_core.models.bev_resnet import ResNetEncoder, ResNetEncoderConfig
from hdmap_core.models.heads.auxiliary import AuxiliaryConfig, AuxiliaryHeads, DepthConfig
from hdmap_core.models.heads.dense import DenseConfig, DenseHeads
from hdmap_core.models.heads.mapqr_decoder import MapQRDecoder, MapQRDecoderConfig
from hdmap_core.models.heads.maptr_decoder import MapTRDecoder, MapTRDecoderConfig
from hdmap_core.models.heads.segmentation import SegmentationConfig, SegmentationHead
from hdmap_core.models.heads.vector_decoder import VectorDecoder, VectorDecoderConfig
from hdmap_core.models.lidar.pillars import Pillars, PillarsConfig
from hdmap_core.models.lidar.simulated import SimulatedLidar, SimulatedLidarConfig
from hdmap_core.models.map_model import MapModel
from hdmap_core.models.model_frame import Matrix, PointsToEgo
from hdmap_core.models.priors.hd_refiner import HDRefiner, HDRefinerConfig
from hdmap_core.models.priors.sd_fusion import SDFusion, SDFusionConfig
from hdmap_core.models.view_transforms.bevformer import BEVFormer, BEVFormerConfig
from hdmap_core.models.view_transforms.depth_lift_splat import DepthLiftSplat, DepthLiftSplatConfig
from hdmap_core.models.view_transforms.ground_pixels import GroundPixels, GroundPixelsConfig
from hdmap_core.models.view_transforms.lift_splat import LiftSplat, LiftSplatConfig
from hdmap_core.models.view_transforms.mlp_ipm import MlpIPM, MlpIPMConfig
from hdmap_core.required_packages import missing_packages_named

ViewTransformConfig = Annotated[
    GroundPixelsConfig | BEVFormerConfig | MlpIPMConfig | LiftSplatConfig | DepthLiftSplatConfig,
    Field(discriminator="kind"),
]
LidarConfig = Annotated[PillarsConfig | SimulatedLidarConfig, Field(discriminator="kind")]
EncoderConfig = Annotated[BEVEncoderConfig | ResNetEncoderConfig, Field(discriminator="kind")]
VectorsConfig = Annotated[VectorDecoderConfig | MapQRDecoderConfig | MapTRDecoderConfig, Field(discriminator="kind")]


_OF_A_REFINER = {"name", "grid", "classes", "view_transform", "hd_refiner"}
"""What a refiner by itself has to say."""


class ModelConfig(Config):
    """One model: what it sees, what it knows, and what fills each slot. The defaults are the shipped student's.

    Attributes:
        view_transform: None only for a model that is nothing but an HD-map refiner (its pre-training).
        ego_from_model: (4, 4) rigid, from the frame that `grid` is meant in, for weights of vector models that were
            trained around a LiDAR; None: it is the ego frame. Heights such as `view_transform.z_range` are that
            frame's as well; what the model says is in the ego frame.
    """

    name: str
    grid: BEVGrid = BEVGrid()
    classes: tuple[MapClass, ...] = (MapClass.DIVIDER, MapClass.PED_CROSSING, MapClass.BOUNDARY)
    backbone: ImageBackboneConfig | None = None
    view_transform: ViewTransformConfig | None = GroundPixelsConfig()
    lidar: LidarConfig | None = None
    sd_prior: SDFusionConfig | None = None
    bottleneck: BEVBottleneckConfig | None = None
    bev_encoder: EncoderConfig | None = BEVEncoderConfig()
    vectors: VectorsConfig | None = VectorDecoderConfig()
    segmentation: SegmentationConfig | None = SegmentationConfig()
    dense: DenseConfig | None = None
    hd_refiner: HDRefinerConfig | None = None
    auxiliary: AuxiliaryConfig | None = None
    ego_from_model: Matrix | None = None

    @property
    def sees_ground(self) -> bool:
        """Whether the model takes ground pixels, `ModelInput.ground`."""
        return isinstance(self.view_transform, GroundPixelsConfig)

    @property
    def is_refiner(self) -> bool:
        """Whether this is an HD-map refiner by itself, which looks at maps only."""
        return self.view_transform is None

    @property
    def lidar_sweeps(self) -> int:
        """How many LiDAR sweeps the model looks at; 0: none."""
        return self.lidar.sweeps if isinstance(self.lidar, PillarsConfig) else 0

    @property
    def dense_heads(self) -> DenseConfig | None:
        """Of the rasters that the model says: its dense heads, or what a refiner by itself has in their place."""
        return self.hd_refiner.dense if self.is_refiner and self.hd_refiner is not None else self.dense

    @property
    def crossings(self) -> Literal["outlines", "edges"]:
        """As what the model knows crossings: dense heads, as HDMapNet's, know their two long sides."""
        return "outlines" if self.dense_heads is None else "edges"

    @property
    def image_backbone(self) -> ImageBackboneConfig | None:
        """Whose images are `ModelInput.images`: the backbone's, or a simulated LiDAR's own; None: it takes none."""
        if self.backbone is None and isinstance(self.lidar, SimulatedLidarConfig):
            return self.lidar.backbone
        return self.backbone

    @model_validator(mode="after")
    def _slots_fit(self) -> Self:
        if len(set(self.classes)) != len(self.classes) or not self.classes:
            raise ValueError("classes must name at least one class, and none twice")
        if self.view_transform is None:
            return self._refiner_alone()
        if self.sd_prior is not None and self.grid.reach > ROADS_REACH_M:
            raise ValueError(
                f"sd_prior: the grid reaches {self.grid.reach:.0f} m, roads are known up to {ROADS_REACH_M:.0f} m "
                "around the car; take a smaller grid"
            )
        if self.sd_prior is not None and self.bottleneck is not None:
            raise ValueError("sd_prior has a bottleneck of its own; give only one of sd_prior and bottleneck")
        if self.vectors is None and self.segmentation is None and self.dense is None:
            raise ValueError("a model needs a head: give vectors, segmentation or dense")
        if (self.backbone is None) != (self.view_transform.kind == "ground_pixels"):
            raise ValueError(
                "the view transform ground_pixels looks at the ground itself and needs backbone: null; every other "
                "one needs a backbone"
            )
        self._cameras_fit()
        self._heads_fit()
        if self.ego_from_model is not None:
            self._frame_fits(self.ego_from_model)
        return self

    def _no_centerlines(self) -> None:
        if MapClass.CENTERLINE in self.classes:
            raise ValueError("dense heads cannot have the class centerline: rasters do not know its sense")

    def _refiner_alone(self) -> Self:
        others = [name for name in type(self).model_fields if name not in _OF_A_REFINER]
        if self.hd_refiner is None or any(getattr(self, name) is not None for name in others):
            raise ValueError(
                "view_transform: null is for an HD-map refiner by itself: give hd_refiner, and null for "
                + ", ".join(others)
            )
        self._no_centerlines()
        return self

    def _cameras_fit(self) -> None:
        view, backbone = self.view_transform, self.backbone
        if backbone is None:
            return
        if isinstance(view, MlpIPMConfig) and view.cell is not None:
            alone = self.bottleneck is not None and not self.bottleneck.skip and self.lidar is None
            if not alone or view.cell < self.grid.resolution:
                raise ValueError(
                    "view_transform.cell is for cells larger than the grid's, and needs a bottleneck, which leads from "
                    "one to the other, without skip, and no lidar"
                )
        if isinstance(view, MlpIPMConfig) and view.weights == "per_camera" and not backbone.cameras:
            raise ValueError(
                "view_transform mlp_ipm has weights per camera: name the cameras in backbone.cameras, or take "
                "view_transform.weights=shared"
            )
        if isinstance(self.lidar, SimulatedLidarConfig):
            if self.lidar.backbone.image_size != backbone.image_size:
                raise ValueError("lidar.backbone.image_size must be backbone.image_size: both see the same images")
            if self.lidar.backbone.cameras not in ((), backbone.cameras):
                raise ValueError("lidar.backbone.cameras must be empty or backbone.cameras: both see the same images")

    def _frame_fits(self, pose: Matrix) -> None:
        rows = torch.tensor(pose, dtype=torch.float64) if [len(row) for row in pose] == [4] * 4 else None
        if rows is None or not torch.allclose(rows[:3, :3] @ rows[:3, :3].T, torch.eye(3).double(), atol=1e-4):
            raise ValueError("ego_from_model must be four rows of four numbers, a rotation and a translation")
        if rows[2, 2] < 0.5 or rows[3].tolist() != [0, 0, 0, 1]:
            raise ValueError("ego_from_model must have its z axis about upright, and the last row 0, 0, 0, 1")
        if self.sees_ground or self.lidar or self.sd_prior or self.segmentation or self.dense or self.vectors is None:
            raise ValueError("ego_from_model is for models that see cameras alone, and have no head but vectors")

    def _heads_fit(self) -> None:
        two_levels = isinstance(self.bev_encoder, ResNetEncoderConfig)
        if two_levels != (self.dense is not None) or (two_levels and (self.vectors or self.segmentation)):
            raise ValueError(
                "the dense heads and the BEV encoder resnet18 belong together, without vectors and segmentation: set "
                "bev_encoder: {kind: resnet18}, dense: {}, vectors: null, segmentation: null"
            )
        if self.dense is not None:
            self._no_centerlines()
        if self.auxiliary is not None and two_levels and (self.auxiliary.surface or self.auxiliary.bev_lines):
            raise ValueError(
                "auxiliary.surface and bev_lines read BEV features at the grid's resolution, and the BEV encoder "
                "resnet18 makes them at half of it; set auxiliary.surface=[] and auxiliary.bev_lines=false"
            )
        if self.auxiliary is not None and self.auxiliary.depth is not None:
            self._depth_fits(self.auxiliary.depth)
        if self.hd_refiner is not None:
            self._refiner_fits(self.hd_refiner)
        levels = 1 + (len(self.bev_encoder.channels) if isinstance(self.bev_encoder, BEVEncoderConfig) else 0)
        read = set(self.vectors.levels) if self.vectors and self.vectors.kind == "scatter_gather" else set()
        if not read <= set(range(levels)):
            raise ValueError(f"vectors.levels is {sorted(read)}, but the BEV encoder makes {levels}")

    def _depth_fits(self, depth: DepthConfig) -> None:
        if depth.said_by == "head":
            return
        view = self.view_transform
        if not isinstance(view, DepthLiftSplatConfig):
            raise ValueError("auxiliary.depth.said_by: view_transform needs the view transform depth_lift_splat")
        bins = *view.depth_range, view.depth_step
        if (depth.min_depth, depth.max_depth, depth.bin_size) != bins:
            raise ValueError(
                f"auxiliary.depth has bins from {depth.min_depth} to {depth.max_depth} m by {depth.bin_size} m, the "
                f"view transform from {bins[0]} to {bins[1]} m by {bins[2]} m; give both the same"
            )

    def _refiner_fits(self, refiner: HDRefinerConfig) -> None:
        if self.dense is None:
            raise ValueError("hd_refiner refines what the dense heads say; give dense as well")
        for name in ("directions", "line_cells"):
            before, after = getattr(self.dense, name), getattr(refiner.dense, name)
            if before != after:
                raise ValueError(
                    f"dense.{name} is {before}, hd_refiner.dense.{name} is {after}; both are taught by the same "
                    "rasters, so give both the same"
                )


def tap_channels(config: ModelConfig) -> dict[str, int]:
    """Channels of each of the taps that the config's model has; none of a refiner by itself."""
    if config.view_transform is None:
        return {}
    with torch.device("meta"):
        model = build_model(config)
    assert model.view_transform is not None
    channels = {"camera": _width(model.view_transform)}
    if model.lidar is not None:
        channels["lidar"] = _width(model.lidar)
    inside = sum(channels.values())
    if model.sd_prior is not None and config.sd_prior is not None:
        channels |= {"bev_small": inside, "bev_out": config.sd_prior.channels}
    if model.bottleneck is not None:
        inside = channels["bev_small"] = _width(model.bottleneck)
    finest = inside
    match model.bev_encoder:
        case ResNetEncoder() as encoder:
            finest = encoder.level_channels[0]
        case BEVUNet() as encoder:
            finest = encoder.out_channels
    return {**channels, "encoder_in": inside, "bev": finest}


def _width(slot: nn.Module) -> int:
    return int(slot.out_channels)  # type: ignore[arg-type]  # every slot of BEV features announces it


@missing_packages_named()
def build_model(config: ModelConfig) -> MapModel:
    """The model of a config, randomly initialised.

    Raises:
        MissingDependencyError: if a slot needs a package that is not installed (timm, torchvision).
    """
    num_classes, size = len(config.classes), config.grid.shape
    refiner = None if config.hd_refiner is None else HDRefiner(config.hd_refiner, size=size, num_classes=num_classes)
    if config.view_transform is None:
        return MapModel(hd_refiner=refiner)
    backbone = None if config.backbone is None else ImageBackbone(config.backbone)
    view_transform = _view_transform(config.view_transform, config.grid, backbone, config.ego_from_model)
    lidar = None if config.lidar is None else _lidar(config.lidar, config.grid)
    channels = view_transform.out_channels + (0 if lidar is None else lidar.out_channels)
    sd_prior = None if config.sd_prior is None else SDFusion(config.sd_prior, in_channels=channels, size=size)
    bottleneck = None
    if config.bottleneck is not None:
        bottleneck = BEVBottleneck(config.bottleneck, in_channels=channels, size=size)
        channels = bottleneck.out_channels
    bev_encoder = _bev_encoder(config.bev_encoder, channels)
    dense_heads = None
    if isinstance(bev_encoder, ResNetEncoder):
        assert config.dense is not None  # ModelConfig has seen to it
        level_channels = bev_encoder.level_channels
        dense_heads = DenseHeads(config.dense, level_channels=level_channels, num_classes=num_classes, size=size)
        channels = level_channels[0]
    elif bev_encoder is not None:
        channels = bev_encoder.out_channels
    return MapModel(
        backbone=backbone,
        view_transform=view_transform,
        lidar=lidar,
        sd_prior=sd_prior,
        bottleneck=bottleneck,
        bev_encoder=bev_encoder,
        vector_head=_vector_head(config, channels, num_classes),
        segmentation_head=None
        if config.segmentation is None
        else SegmentationHead(config.segmentation, in_channels=channels, num_classes=num_classes),
        dense_heads=dense_heads,
        hd_refiner=refiner,
        auxiliary_heads=None
        if config.auxiliary is None
        else AuxiliaryHeads(
            config.auxiliary,
            image_channels=None if backbone is None else backbone.out_channels,
            bev_channels=channels,
        ),
        ego_from_model=config.ego_from_model,
        to_ego=None if config.ego_from_model is None else PointsToEgo(config.ego_from_model, config.grid),
    )


def _view_transform(
    config: ViewTransformConfig, grid: BEVGrid, backbone: ImageBackbone | None, ego_from_model: Matrix | None
) -> GroundPixels | BEVFormer | MlpIPM | LiftSplat | DepthLiftSplat:
    if isinstance(config, GroundPixelsConfig):
        return GroundPixels(config, grid=grid)
    assert backbone is not None  # ModelConfig has seen to it
    channels, size = backbone.out_channels, backbone.feature_size
    match config:
        case BEVFormerConfig():
            return BEVFormer(config, grid=grid, in_channels=channels)
        case MlpIPMConfig():
            cameras, own_grid = len(backbone.config.cameras), config.own_grid(grid)
            return MlpIPM(config, grid=own_grid, in_channels=channels, feature_size=size, num_cameras=cameras)
        case LiftSplatConfig():
            return LiftSplat(config, grid=grid, in_channels=channels)
        case DepthLiftSplatConfig():
            return DepthLiftSplat(config, grid=grid, in_channels=channels, ego_from_model=ego_from_model)
        case other:
            assert_never(other)


def _lidar(config: LidarConfig, grid: BEVGrid) -> Pillars | SimulatedLidar:
    match config:
        case PillarsConfig():
            return Pillars(config, grid=grid)
        case SimulatedLidarConfig():
            return SimulatedLidar(config, grid=grid)
        case other:
            assert_never(other)


def _bev_encoder(config: EncoderConfig | None, in_channels: int) -> BEVUNet | ResNetEncoder | None:
    match config:
        case None:
            return None
        case BEVEncoderConfig():
            return BEVUNet(config, in_channels=in_channels)
        case ResNetEncoderConfig():
            return ResNetEncoder(config, in_channels=in_channels)
        case other:
            assert_never(other)


def _vector_head(
    config: ModelConfig, in_channels: int, num_classes: int
) -> VectorDecoder | MapQRDecoder | MapTRDecoder | None:
    match config.vectors:
        case None:
            return None
        case VectorDecoderConfig() as chosen:
            return VectorDecoder(chosen, in_channels=in_channels, num_classes=num_classes)
        case MapQRDecoderConfig() as chosen:
            return MapQRDecoder(chosen, in_channels=in_channels, num_classes=num_classes)
        case MapTRDecoderConfig() as chosen:
            return MapTRDecoder(chosen, in_channels=in_channels, num_classes=num_classes)
        case other:
            assert_never(other)
