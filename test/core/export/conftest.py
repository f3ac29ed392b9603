"""Small models of every family, and checkpoints of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hdmap_core.checkpoint import CheckpointConfig, save_checkpoint
from hdmap_core.geometry import BEVGrid
from hdmap_core.models import ModelConfig, build_model
from hdmap_core.models.backbones.image_backbone import ImageBackboneConfig
from hdmap_core.models.bev_encoder import BEVEncoderConfig
from hdmap_core.models.bev_resnet import ResNetEncoderConfig
from hdmap_core.models.heads.auxiliary import AuxiliaryConfig
from hdmap_core.models.heads.dense import DenseConfig
from hdmap_core.models.heads.mapqr_decoder import MapQRDecoderConfig
from hdmap_core.models.heads.vector_decoder import VectorDecoderConfig
from hdmap_core.models.lidar.pillars import PillarsConfig
from hdmap_core.models.priors.hd_refiner import HDRefinerConfig
from hdmap_core.models.priors.sd_fusion import SDFusionConfig
from hdmap_core.models.view_transforms.bevformer import BEVFormerConfig
from hdmap_core.models.view_transforms.mlp_ipm import MlpIPMConfig
from hdmap_core.postprocess import DecodeConfig

GRID = BEVGrid((-6.0, 6.0), (-3.0, 3.0), 0.5)
SMALL = {
    "grid": GRID,
    "bev_encoder": BEVEncoderConfig(channels=(8, 8), blocks=(1, 1), out_channels=8),
    "vectors": VectorDecoderConfig(num_queries=9, num_points=4, channels=8, layers=1, attention_heads=2),
}
CAMERAS = ("CAM_FRONT", "CAM_BACK")
DENSE: dict[str, Any] = {
    **{"grid": GRID, "vectors": None, "segmentation": None},
    "bev_encoder": ResNetEncoderConfig(channels=(8, 8), blocks=(1, 1)),
    "dense": DenseConfig(channels=8, last_channels=8, embedding=3, directions=6),
}


VIT = {"depth": 1, "embed_dim": 16, "num_heads": 2}
BACKBONES: dict[str, tuple[str, dict[str, Any]]] = {
    "resnet": ("resnet18.tv_in1k", {"layers": [1, 1, 1, 1], "channels": [8, 8, 8, 8]}),
    "swin": (
        "swin_tiny_patch4_window7_224.ms_in1k",
        {"depths": (2, 1, 1, 1), "embed_dim": 8, "num_heads": (1, 2, 2, 2)},  # two: plain and shifted windows
    ),
    "dinov2": ("vit_small_patch14_dinov2.lvd142m", VIT),
    "radio": ("naflexvit_base_patch16_radio_v3.c_radio", VIT),
}


def backbone(cameras: tuple[str, ...] = (), family: str = "resnet") -> ImageBackboneConfig:
    name, arguments = BACKBONES[family]
    size = (56, 112) if family == "dinov2" else (64, 128)
    return ImageBackboneConfig(model=name, image_size=size, cameras=cameras, out_channels=8, arguments=arguments)


def mapqr(cross_attention: str, family: str = "resnet") -> ModelConfig:
    return ModelConfig(
        name="mapqr",
        grid=GRID,
        backbone=backbone(family=family),
        view_transform=BEVFormerConfig(
            channels=16,
            layers=1,
            heads=2,
            feedforward=16,
            cross_attention=cross_attention,  # type: ignore[arg-type]
        ),
        bev_encoder=None,
        vectors=MapQRDecoderConfig(
            num_queries=9, num_points=4, channels=16, layers=1, attention_heads=2, feedforward=16, one_to_many=1
        ),
        segmentation=None,
        auxiliary=AuxiliaryConfig(channels=4),
    )


def dense(**slots: Any) -> ModelConfig:
    return ModelConfig(name="dense", backbone=backbone(CAMERAS), view_transform=MlpIPMConfig(), **DENSE, **slots)


SD = SDFusionConfig(channels=8, heads=2, layers=1, sd_channels=(4, 8))
LIDAR = PillarsConfig(sweeps=1, point_channels=8, channels=(8,), convolutions=(1,), fusion_channels=8, out_channels=8)
HD = HDRefinerConfig(
    patch=8, width=16, depth=1, heads=2, up_channels=8, bev_encoder=DENSE["bev_encoder"], dense=DENSE["dense"]
)
MODELS: dict[str, tuple[ModelConfig, str]] = {
    "student, masks": (ModelConfig(name="student", **SMALL), "masks"),
    "student, vectors": (ModelConfig(name="student", **SMALL), "vectors"),
    "mapfm": (mapqr("height_kernel"), "vectors"),
    "mapqr": (mapqr("deformable"), "vectors"),
    **{f"mapfm, {family}": (mapqr("height_kernel", family), "vectors") for family in ("swin", "dinov2", "radio")},
    "hdmapnet": (dense(), "dense"),
    "pmapnet, lidar, hd": (dense(lidar=LIDAR, sd_prior=SD, hd_refiner=HD), "dense"),
}


@pytest.fixture(scope="session")
def write_checkpoint() -> Callable[..., Path]:
    """Writes `model.safetensors` of one of `MODELS`, by its name, to a folder."""

    def write(folder: Path, name: str, seed: int = 0) -> Path:
        model, head = MODELS[name]
        config = CheckpointConfig(model=model, decode=DecodeConfig(head=head, score_threshold=0.0, max_elements=12))  # type: ignore[arg-type]
        torch.manual_seed(seed)
        path = folder / "model.safetensors"
        save_checkpoint(path, build_model(model), config, {"dataset": "synth-v1", "step": 3})
        return path

    return write
