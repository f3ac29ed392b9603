"""The whole architecture at a glance: which module fills which slot, and what the slots tell each other."""

from pydantic import model_validator
from typing_extensions import Self

from hdmap_core.config import Config
from hdmap_core.elements import MapClass
from hdmap_core.geometry import BEVGrid
from hdmap_core.models.bev_encoder import BEVEncoderConfig, BEVUNet
from hdmap_core.models.heads.segmentation import SegmentationConfig, SegmentationHead
from hdmap_core.models.heads.vector_decoder import VectorDecoder, VectorDecoderConfig
from hdmap_core.models.map_model import MapModel
from hdmap_core.models.view_transforms.ground_pixels import GroundPixels, GroundPixelsConfig


class ModelConfig(Config):
    """One model: what it sees, what it knows, and what fills each slot."""

    name: str
    grid: BEVGrid = BEVGrid()
    classes: tuple[MapClass, ...] = (MapClass.DIVIDER, MapClass.PED_CROSSING, MapClass.BOUNDARY)
    backbone: None = None
    view_transform: GroundPixelsConfig = GroundPixelsConfig()
    bev_encoder: BEVEncoderConfig = BEVEncoderConfig()
    vectors: VectorDecoderConfig | None = VectorDecoderConfig()
    segmentation: SegmentationConfig | None = SegmentationConfig()

    @model_validator(mode="after")
    def _slots_fit(self) -> Self:
        if self.vectors is None and self.segmentation is None:
            raise ValueError("a model needs a head: give vectors or segmentation")
        levels = len(self.bev_encoder.channels) + 1
        if self.vectors is not None and not set(self.vectors.levels) <= set(range(levels)):
            raise ValueError(f"vectors.levels is {list(self.vectors.levels)}, but the BEV encoder makes {levels}")
        if len(set(self.classes)) != len(self.classes) or not self.classes:
            raise ValueError("classes must name at least one class, and none twice")
        return self


def build_model(config: ModelConfig) -> MapModel:
    """The model of a config, randomly initialised."""
    num_classes = len(config.classes)
    view_transform = GroundPixels(config.view_transform, grid=config.grid)
    bev_encoder = BEVUNet(config.bev_encoder, in_channels=view_transform.out_channels)
    return MapModel(
        view_transform=view_transform,
        bev_encoder=bev_encoder,
        vector_head=None
        if config.vectors is None
        else VectorDecoder(config.vectors, in_channels=bev_encoder.out_channels, num_classes=num_classes),
        segmentation_head=None
        if config.segmentation is None
        else SegmentationHead(config.segmentation, in_channels=bev_encoder.out_channels, num_classes=num_classes),
    )
