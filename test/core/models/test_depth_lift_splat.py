"""MapTRv2's view transform: what it is told of cameras, where features land, and what every view transform keeps."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from hdmap_core.errors import ConfigError
from hdmap_core.geometry import BEVGrid, CameraRig
from hdmap_core.model_io import ModelInput
from hdmap_core.models.model_frame import in_model_frame
from hdmap_core.models.view_transforms.depth_lift_splat import DepthLiftSplat, DepthLiftSplatConfig
from hdmap_core.models.view_transforms.depth_net import camera_numbers

GRIDS = [BEVGrid((-9.0, 9.0), (-4.5, 4.5), 0.5), BEVGrid((0.0, 8.8), (-3.0, 4.2), 0.8)]
SIZE, CELLS = (48, 80), (6, 10)
FRAME = [[0.9998, -0.02, 0.0, 0.94], [0.02, 0.9998, 0.0, 0.1], [0.0, 0.0, 1.0, 1.84], [0.0, 0.0, 0.0, 1.0]]


def rig(cameras: int = 2) -> CameraRig:
    poses = []
    for yaw in np.linspace(0, 2, cameras):
        turn = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
        pose = np.eye(4)
        pose[:3, :3] = turn @ np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
        pose[:3, 3] = [1.0 + yaw, -0.4, 1.5]
        poses.append(pose)
    intrinsics = np.array([[44.0, 0, 41.5], [0, 50.0, 22.0], [0, 0, 1]])
    return CameraRig.from_arrays([f"c{i}" for i in range(cameras)], [intrinsics] * cameras, poses, SIZE)


def build(grid: BEVGrid = GRIDS[0], **options: object) -> DepthLiftSplat:
    torch.manual_seed(0)
    config = DepthLiftSplatConfig(channels=4, depth_range=(1.0, 9.0), pyramid_channels=3)
    return DepthLiftSplat(config, grid=grid, in_channels=6, **options).eval()  # type: ignore[arg-type]


def batch(seen: CameraRig, many: int = 1) -> tuple[torch.Tensor, ModelInput]:
    features = torch.randn(many, seen.num_cameras, 6, *CELLS, generator=torch.Generator().manual_seed(1))
    images = torch.zeros(many, seen.num_cameras, 3, *SIZE, dtype=torch.uint8)
    projection = seen.projection().float().expand(many, -1, -1, -1)
    mask = torch.ones(many, seen.num_cameras, dtype=torch.bool)
    return features, ModelInput(images=images, projection=projection, camera_mask=mask)


@pytest.mark.parametrize("frame", [None, FRAME])
def test_the_network_is_told_the_cameras(frame: list[list[float]] | None) -> None:
    """Focal lengths and principal point of the camera's own pixels, the resizing, the pose in the ego frame."""
    seen = rig()
    projection = seen.projection().float()[None]
    pose = None if frame is None else torch.tensor(frame)
    if frame is not None:
        projection = in_model_frame(projection, frame)
    found = camera_numbers(projection, image_scale=0.5, ego_from_model=pose)[0]
    for index in range(2):
        told = seen.ego_from_camera[index, :3].flatten().tolist()
        wanted = torch.tensor([88.0, 100.0, 83.0, 44.0, 0.5, 0, 0, 0, 0.5, 0, *told])
        torch.testing.assert_close(found[index], wanted, atol=2e-3, rtol=1e-4)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("cameras", [1, 3])
def test_shapes_batches_and_missing_cameras(grid: BEVGrid, cameras: int) -> None:
    module = build(grid)
    features, inputs = batch(rig(cameras), 2)
    with torch.no_grad():
        bev = module(features, inputs)
        assert bev.shape == (2, 4, *grid.shape)
        alone = module(
            features[:1],
            replace(inputs, **{n: getattr(inputs, n)[:1] for n in ("images", "projection", "camera_mask")}),
        )
        torch.testing.assert_close(bev[:1], alone, atol=1e-5, rtol=1e-4)
        blind = replace(inputs, camera_mask=torch.zeros(2, cameras, dtype=torch.bool))
        empty = module(features, blind)
        torch.testing.assert_close(empty[0], empty[1])


def test_features_land_in_front_of_the_camera_that_saw_them() -> None:
    """The plane is turned from (forward, right) to (left, forward)."""
    module = build()
    seen: list[torch.Tensor] = []
    module.halve.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.no_grad():
        module(*batch(rig(1)))
    plane = seen[0][0].abs().sum(0)  # (forward, right) in cells of 0.25 m
    assert plane.shape == (72, 36)
    rows, columns = plane.nonzero(as_tuple=True)
    assert rows.min() * 0.25 - 9.0 >= 1.0  # nothing behind the camera at x = 1
    wedge = (columns.float() * 0.25 - 4.5 - 0.4).abs() <= (rows.float() * 0.25 - 9.0 - 1.0) + 1.0
    assert wedge.all() and len(rows) > 100


def test_every_parameter_gets_a_gradient() -> None:
    module = build().train()
    module(*batch(rig(3), 2)).square().sum().backward()
    silent = [name for name, p in module.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert [name for name in silent if "reduce.0.bias" not in name] == []  # a bias before a batch norm


def test_the_depth_by_which_features_are_spread_can_be_taught() -> None:
    """A loss on it reaches what says the depth, and not what says the features."""
    module, given = build().train(), batch(rig(3), 2)
    bev, depth = module(*given, with_depth=True)
    assert depth.shape == (2, 3, 16, *CELLS) and bev.shape == (2, 4, *GRIDS[0].shape)
    spread: list[torch.Tensor] = []
    module.splat.register_forward_pre_hook(lambda _, seen: spread.append(seen[0]))
    torch.manual_seed(1)
    assert torch.equal(module.eval()(*given), module(*given, with_depth=True)[0])
    assert torch.equal(spread[1][:, :, :16], module(*given, with_depth=True)[1])
    module.train()(*given, with_depth=True)[1].square().sum().backward()
    reached = {name.split(".")[1] for name, p in module.named_parameters() if p.grad is not None and p.grad.any()}
    assert reached == {"norm", "reduce", "depth_gate", "depth"}


def test_what_is_missing_is_named() -> None:
    module, (features, inputs) = build(), batch(rig(1))
    with pytest.raises(ConfigError, match="backbone"):
        module(None, inputs)
    with pytest.raises(ConfigError, match="projection"):
        module(features, replace(inputs, projection=None))


def test_published_size() -> None:
    """Counted from the tensors of the published code's state dict: depth net and downsampling."""
    module = DepthLiftSplat(DepthLiftSplatConfig(), grid=BEVGrid(), in_channels=256)
    assert sum(p.numel() for p in module.parameters()) == DEPTH_NET + 3 * (256 * 256 * 9 + 512)


DEPTH_NET = (
    44  # norm of the 22 numbers
    + 256 * 256 * 9 + 256 + 512  # reduce
    + 2 * (22 * 256 + 256 + 256 * 256 + 256 + 2 * (256 * 256 + 256))  # gates
    + 256 * 256 + 256  # context
    + 3 * 2 * (256 * 256 * 9 + 512)  # residual blocks
    + 256 * 96 + 3 * 256 * 96 * 9 + 4 * 192 + 256 * 96 + 192 + 480 * 256 + 512  # pyramid
    + 256 * 68 + 68
)  # fmt: skip


def test_it_exports() -> None:
    class Tensors(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = build()

        def forward(self, features: torch.Tensor, images: torch.Tensor, projection: torch.Tensor) -> torch.Tensor:
            return self.module(features, ModelInput(images=images, projection=projection))

    wrapped, (features, inputs) = Tensors(), batch(rig(2))
    assert inputs.images is not None and inputs.projection is not None
    program = torch.export.export(wrapped, (features, inputs.images, inputs.projection))
    given = features + 0.5, inputs.images, inputs.projection * 1.01
    torch.testing.assert_close(program.module()(*given), wrapped(*given), atol=1e-4, rtol=1e-3)
