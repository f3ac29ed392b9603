"""HDMapNet as `build_model` puts it together: sizes against those measured on the published modules, and one pass."""

import pytest
import torch
from torch import nn

from hdmap_core.geometry import BEVGrid, CameraRig
from hdmap_core.model_io import ModelInput
from hdmap_core.models import MapModel, ModelConfig, build_model
from hdmap_core.models.backbones.image_backbone import ImageBackboneConfig
from hdmap_core.models.bev_resnet import ResNetEncoderConfig
from hdmap_core.models.heads.dense import DenseConfig
from hdmap_core.models.view_transforms.mlp_ipm import MlpIPMConfig

MILLION = 1e6
UNUSED = (320 * 1280 + 2 * 1280 + 1280 * 1000 + 1000) / MILLION
"""EfficientNet-B0's last convolution and classifier: in the published counts, though nothing reads them."""


def hdmapnet(grid: BEVGrid, image_size: tuple[int, int], cameras: int) -> MapModel:
    backbone = ImageBackboneConfig(
        model="tf_efficientnet_b0.in1k",
        image_size=image_size,
        cameras=tuple(f"camera_{number}" for number in range(cameras)),
        features=(-2, -1),
        aggregation="double_conv",
        frozen_batch_norm=False,
        out_channels=64,
        arguments={"drop_path_rate": 0.2},
    )
    return build_model(
        ModelConfig(
            name="hdmapnet",
            grid=grid,
            backbone=backbone,
            view_transform=MlpIPMConfig(),
            bev_encoder=ResNetEncoderConfig(),
            vectors=None,
            segmentation=None,
            dense=DenseConfig(),
        )
    )


def millions(module: nn.Module | None) -> float:
    assert module is not None
    return sum(p.numel() for p in module.parameters()) / MILLION


@pytest.mark.parametrize(
    ("grid", "views", "total"),
    [
        (BEVGrid((-30.0, 30.0), (-15.0, 15.0), 0.15), 64.9, 78.3),
        (BEVGrid((-120.0, 120.0), (-30.0, 30.0), 0.3), 252.6, 266.0),
    ],
    ids=["60 x 30 m", "240 x 60 m"],
)
def test_published_sizes(grid: BEVGrid, views: float, total: float) -> None:
    with torch.device("meta"):
        model = hdmapnet(grid, (128, 352), cameras=6)
    assert model.backbone is not None and model.backbone.feature_size == (8, 22)
    assert millions(model.backbone) + UNUSED == pytest.approx(5.57, rel=0.01)
    assert millions(model.view_transform) == pytest.approx(views, rel=0.01)
    assert millions(model) + UNUSED == pytest.approx(total, rel=0.01)


def test_every_parameter_of_a_small_one_has_a_gradient() -> None:
    torch.manual_seed(0)
    grid = BEVGrid((-15.0, 15.0), (-7.5, 7.5), 1.0)
    model = hdmapnet(grid, (64, 96), cameras=2).train()
    with torch.no_grad():
        for parameter in model.parameters():  # residual blocks begin with a zero
            parameter += 0.05 * torch.randn_like(parameter)
    pose = torch.tensor([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 1.5], [0, 0, 0, 1]], dtype=torch.float64)
    turned = torch.diag(torch.tensor([-1.0, -1, 1, 1], dtype=torch.float64)) @ pose
    lens = torch.tensor([[60.0, 0, 47.5], [0, 60, 31.5], [0, 0, 1]], dtype=torch.float64)
    rig = CameraRig(("front", "back"), torch.stack([lens, lens]), torch.stack([pose, turned]), (64, 96))
    images = torch.randint(0, 256, (2, 2, 3, 64, 96), dtype=torch.uint8)
    output = model(ModelInput(images=images, projection=rig.projection().float().expand(2, -1, -1, -1))).dense
    rasters = [output.semantic, output.embedding, output.direction]
    assert [tuple(raster.shape) for raster in rasters] == [(2, channels, 15, 30) for channels in (4, 16, 37)]
    torch.stack([raster.square().mean() for raster in rasters]).sum().backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert [
        name for name, grad in gradients.items() if grad is None or not (grad.any() and grad.isfinite().all())
    ] == []
