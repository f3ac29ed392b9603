"""The simulated LiDAR: a camera branch of its own that gives what pillars give."""

from typing import Any

import numpy as np
import pytest
import torch

from hdmap_core.errors import ConfigError
from hdmap_core.geometry import BEVGrid, CameraRig
from hdmap_core.model_io import ModelInput
from hdmap_core.models.backbones.image_backbone import ImageBackboneConfig
from hdmap_core.models.lidar.simulated import SimulatedLidar, SimulatedLidarConfig
from hdmap_core.models.view_transforms.lift_splat import LiftSplatConfig

GRID = BEVGrid((-15.0, 15.0), (-7.5, 7.5), 0.3)
SIZE = (64, 96)
BACKBONE: dict[str, Any] = {
    "model": "resnet18.tv_in1k",
    "arguments": {"layers": (1, 1, 1, 1), "channels": (8, 12, 16, 20)},
    "image_size": SIZE,
    "features": (-2, -1),
    "aggregation": "double_conv",
    "frozen_batch_norm": False,
    "out_channels": 7,
}
SMALL = SimulatedLidarConfig(
    backbone=ImageBackboneConfig(**BACKBONE),
    lift_splat=LiftSplatConfig(channels=5, depth_range=(2.0, 12.0)),
    channels=9,
)


def build(grid: BEVGrid = GRID) -> SimulatedLidar:
    torch.manual_seed(0)
    module = SimulatedLidar(SMALL, grid=grid)
    for parameter in module.backbone.parameters():  # residual branches start at zero, which would hide them
        parameter.data += 0.05 * torch.randn(parameter.shape)
    return module


def random_inputs(batch: int = 2) -> ModelInput:
    """A camera that looks ahead and one that looks back."""
    ahead = np.eye(4)
    ahead[:3, :3] = [[0, 0, 1], [-1, 0, 0], [0, -1, 0]]
    ahead[2, 3] = 1.6
    back = ahead.copy()
    back[:2] *= -1
    intrinsics = np.array([[50.0, 0, 48], [0, 50, 32], [0, 0, 1]])
    rig = CameraRig.from_arrays(["front", "back"], [intrinsics] * 2, [ahead, back], SIZE)
    generator = torch.Generator().manual_seed(1)
    return ModelInput(
        images=torch.randint(0, 256, (batch, 2, 3, *SIZE), dtype=torch.uint8, generator=generator),
        projection=rig.projection().float().expand(batch, -1, -1, -1),
        camera_mask=torch.ones(batch, 2, dtype=torch.bool),
    )


def one(inputs: ModelInput, index: int) -> ModelInput:
    assert inputs.images is not None and inputs.projection is not None and inputs.camera_mask is not None
    part = slice(index, index + 1)
    return ModelInput(
        images=inputs.images[part], projection=inputs.projection[part], camera_mask=inputs.camera_mask[part]
    )


@pytest.mark.parametrize("grid", [GRID, BEVGrid((-6.0, 5.4), (-3.0, 4.5), 0.3)])
def test_shapes(grid: BEVGrid) -> None:
    module = build(grid)
    output = module(None, random_inputs())
    assert output.shape == (2, module.out_channels, *grid.shape) and output.isfinite().all()


def test_published_size() -> None:
    """Coach, used part, minus the teacher of the same priors without its pillars.

    The published counts hold EfficientNet's last convolution and classifier, 1.69 M that nothing uses.
    """
    with torch.device("meta"):
        module = SimulatedLidar(SimulatedLidarConfig(), grid=BEVGrid(resolution=0.15))
    published = (99.7 - 7.9) - (86.1 - 4.04) - 1.69
    assert sum(p.numel() for p in module.parameters()) == pytest.approx(published * 1e6, abs=0.1e6)
    assert module.lift_splat.splat.depths.shape == (41,) and module.out_channels == 128
    assert module.backbone.feature_size == (8, 22)


def test_batched_is_single() -> None:
    module, inputs = build().eval(), random_inputs()
    together = module(None, inputs)
    assert together[0].isfinite().all() and not torch.allclose(together[0], together[1])
    for index in range(2):
        torch.testing.assert_close(together[index], module(None, one(inputs, index))[0], rtol=1e-4, atol=1e-5)


def test_gradients_reach_everything_and_inputs_stay() -> None:
    module, inputs = build(), random_inputs()
    assert inputs.images is not None
    before = inputs.images.clone()
    output = module(None, inputs)
    (output * torch.randn(output.shape, generator=torch.Generator().manual_seed(2))).sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
    assert torch.equal(inputs.images, before)


def test_errors_say_what_to_do() -> None:
    with pytest.raises(ConfigError, match=r"lidar \(simulated\) needs ModelInput.images"):
        build()(None, ModelInput())
