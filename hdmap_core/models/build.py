"""The whole architecture at a glance: which module fills which slot, and what the slots tell each other."""

from typing import Annotated

from pydantic import Field, model_validator
from typing_extensions import Self, assert_never

from hdmap_core.config import Config
from hdmap_core.elements import MapClass
from hdmap_core.geometry import BEVGrid
from hdmap_core.models.backbones.image_backbone import ImageBackbone, ImageBackboneConfig
from hdmap_core.models.bev_encoder import BEVEncoderConfig, BEVUNet
from hdmap_core.models.heads.auxiliary import AuxiliaryConfig, AuxiliaryHeads
from hdmap_core.models.heads.mapqr_decoder import MapQRDecoder, MapQRDecoderConfig
from hdmap_core.models.heads.segmentation import SegmentationConfig, SegmentationHead
from hdmap_core.models.heads.vector_decoder import VectorDecoder, VectorDecoderConfig
from hdmap_core.models.map_model import MapModel
from hdmap_core.models.view_transforms.bevformer import BEVFormer, BEVFormerConfig
from hdmap_core.models.view_transforms.ground_pixels import GroundPixels, GroundPixelsConfig

ViewTransformConfig = Annotated[GroundPixelsConfig | BEVFormerConfig, Field(discriminator="kind")]
VectorsConfig = Annotated[VectorDecoderConfig | MapQRDecoderConfig, Field(discriminator="kind")]


class ModelConfig(Config):
    """One model: what it sees, what it knows, and what fills each slot. The defaults are the shipped student's."""

    name: str
    grid: BEVGrid = BEVGrid()
    classes: tuple[MapClass, ...] = (MapClass.DIVIDER, MapClass.PED_CROSSING, MapClass.BOUNDARY)
    backbone: ImageBackboneConfig | None = None
    view_transform: ViewTransformConfig = GroundPixelsConfig()
    bev_encoder: BEVEncoderConfig | None = BEVEncoderConfig()
    vectors: VectorsConfig | None = VectorDecoderConfig()
    segmentation: SegmentationConfig | None = SegmentationConfig()
    auxiliary: AuxiliaryConfig | None = None

    @model_validator(mode="after")
    def _slots_fit(self) -> Self:
        if self.vectors is None and self.segmentation is None:
            raise ValueError("a model needs a head: give vectors or segmentation")
        if (self.backbone is None) != (self.view_transform.kind == "ground_pixels"):
            raise ValueError(
                "the view transform ground_pixels looks at the ground itself and needs backbone: null; every other "
                "one needs a backbone"
            )
        levels = len(self.bev_encoder.channels) + 1 if self.bev_encoder else 1
        read = set(self.vectors.levels) if self.vectors and self.vectors.kind == "scatter_gather" else set()
        if not read <= set(range(levels)):
            raise ValueError(f"vectors.levels is {sorted(read)}, but the BEV encoder makes {levels}")
        if len(set(self.classes)) != len(self.classes) or not self.classes:
            raise ValueError("classes must name at least one class, and none twice")
        return self


def build_model(config: ModelConfig) -> MapModel:
    """The model of a config, randomly initialised."""
    num_classes = len(config.classes)
    backbone = None if config.backbone is None else ImageBackbone(config.backbone)
    image_channels = None if backbone is None else backbone.out_channels
    view_transform = _view_transform(config, image_channels)
    bev_channels = view_transform.out_channels
    bev_encoder = None if config.bev_encoder is None else BEVUNet(config.bev_encoder, in_channels=bev_channels)
    bev_channels = bev_channels if bev_encoder is None else bev_encoder.out_channels
    return MapModel(
        backbone=backbone,
        view_transform=view_transform,
        bev_encoder=bev_encoder,
        vector_head=_vector_head(config, bev_channels, num_classes),
        segmentation_head=None
        if config.segmentation is None
        else SegmentationHead(config.segmentation, in_channels=bev_channels, num_classes=num_classes),
        auxiliary_heads=None
        if config.auxiliary is None
        else AuxiliaryHeads(config.auxiliary, image_channels=image_channels, bev_channels=bev_channels),
    )


def _view_transform(config: ModelConfig, image_channels: int | None) -> GroundPixels | BEVFormer:
    match config.view_transform:
        case GroundPixelsConfig() as chosen:
            return GroundPixels(chosen, grid=config.grid)
        case BEVFormerConfig() as chosen:
            assert image_channels is not None  # ModelConfig has seen to it
            return BEVFormer(chosen, grid=config.grid, in_channels=image_channels)
        case other:
            assert_never(other)


def _vector_head(config: ModelConfig, in_channels: int, num_classes: int) -> VectorDecoder | MapQRDecoder | None:
    match config.vectors:
        case None:
            return None
        case VectorDecoderConfig() as chosen:
            return VectorDecoder(chosen, in_channels=in_channels, num_classes=num_classes)
        case MapQRDecoderConfig() as chosen:
            return MapQRDecoder(chosen, in_channels=in_channels, num_classes=num_classes)
        case other:
            assert_never(other)
