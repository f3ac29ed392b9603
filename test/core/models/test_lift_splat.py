"""Lift-splat against CameraRig, and what every view transform must keep."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

from hdmap_core.errors import ConfigError
from hdmap_core.geometry import BEVGrid, CameraRig
from hdmap_core.model_io import ModelInput
from hdmap_core.models.view_transforms.lift_splat import LiftSplat, LiftSplatConfig, frustum_points

GRIDS = [BEVGrid((-9.0, 9.0), (-4.5, 4.5), 0.5), BEVGrid((0.0, 8.8), (-3.0, 4.2), 0.8)]  # even and odd numbers of cells
SIZE, CELLS = (48, 80), (6, 10)
IN_CHANNELS = 5
SMALL: dict[str, Any] = {"channels": 4, "depth_range": (1.0, 9.0), "depth_step": 0.5}


def rig(cameras: int, seed: int) -> CameraRig:
    """A ring of tilted cameras with overlapping views."""
    rng = np.random.default_rng(seed)
    poses, intrinsics = [], []
    for index in range(cameras):
        yaw, tilt = 2 * np.pi * index / cameras + rng.uniform(-0.3, 0.3), rng.uniform(0.05, 0.25)
        turn = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
        down = np.array([[np.cos(tilt), 0, np.sin(tilt)], [0, 1, 0], [-np.sin(tilt), 0, np.cos(tilt)]])
        pose = np.eye(4)
        pose[:3, :3] = turn @ down @ np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
        pose[:3, 3] = [np.cos(yaw), np.sin(yaw), rng.uniform(1.4, 2.0)]
        focal = SIZE[1] * rng.uniform(0.4, 0.8)
        centre = SIZE[1] / 2 + rng.uniform(-4, 4), SIZE[0] / 2 + rng.uniform(-4, 4)
        intrinsics.append(np.array([[focal, 0, centre[0]], [0, focal * 0.8, centre[1]], [0, 0, 1]]))
        poses.append(pose)
    return CameraRig.from_arrays([f"camera_{i}" for i in range(cameras)], intrinsics, poses, SIZE)


def build(grid: BEVGrid = GRIDS[0], **changes: Any) -> LiftSplat:
    torch.manual_seed(0)
    return LiftSplat(LiftSplatConfig(**(SMALL | changes)), grid=grid, in_channels=IN_CHANNELS).eval()


def batch_of(rigs: list[CameraRig], channels: int = IN_CHANNELS) -> tuple[Tensor, ModelInput]:
    generator = torch.Generator().manual_seed(0)
    cameras = rigs[0].num_cameras
    features = torch.randn(len(rigs), cameras, channels, *CELLS, generator=generator)
    images = torch.zeros(len(rigs), cameras, 3, *SIZE, dtype=torch.uint8)
    projection = torch.stack([r.projection() for r in rigs]).float()
    mask = torch.ones(len(rigs), cameras, dtype=torch.bool)
    return features, ModelInput(images=images, projection=projection, camera_mask=mask)


@settings(max_examples=20, deadline=None)
@given(cameras=st.integers(1, 4), seed=st.integers(0, 999))
def test_frustum_points_project_where_they_come_from(cameras: int, seed: int) -> None:
    ring = rig(cameras, seed)
    depths = torch.tensor([1.0, 7.5, 40.0])
    points = frustum_points(ring.projection().float()[None], depths, SIZE, CELLS)[0]
    assert points.shape == (cameras, 3, *CELLS, 3)
    for index in range(cameras):
        pixels, depth, _ = ring.project(points[index].double().flatten(0, 2))
        pixels = pixels[index].view(3, *CELLS, 2)
        expected = depths.double()[:, None, None].expand(3, *CELLS)
        torch.testing.assert_close(depth[index].view(3, *CELLS), expected, atol=1e-4, rtol=0)
        # Cells are 8 x 8 pixels; the centre of the first one lies between its fourth and fifth pixel.
        u, v = 8 * torch.arange(10) + 3.5, 8 * torch.arange(6) + 3.5
        torch.testing.assert_close(pixels[..., 0], u.expand(3, 6, 10).double(), atol=2e-3, rtol=0)
        torch.testing.assert_close(pixels[..., 1], v[:, None].expand(3, 6, 10).double(), atol=2e-3, rtol=0)


def test_published_frustum_has_43296_points() -> None:
    depths = torch.tensor(LiftSplatConfig().depths)
    assert (len(depths), depths[0], depths[-1]) == (41, 4, 44)
    points = frustum_points(rig(6, 0).projection().float()[None], depths, (128, 352), (8, 22))
    assert points.shape[:-1].numel() == 43_296


@pytest.mark.parametrize("grid", GRIDS, ids=["even", "odd"])
@pytest.mark.parametrize(("camera", "place", "depth_bin"), [(0, (4, 5), 6), (2, (3, 2), 3), (2, (5, 9), 1)])
def test_a_feature_lands_in_its_cell(grid: BEVGrid, camera: int, place: tuple[int, int], depth_bin: int) -> None:
    """One feature cell says one depth with certainty, all others are silent: one BEV cell holds it."""
    ring = rig(3, 4)
    module = LiftSplat(LiftSplatConfig(**SMALL), grid=grid, in_channels=16 + 4).eval()
    with torch.no_grad():
        module.depth_and_context.weight.copy_(torch.eye(20)[:, :, None, None])
        torch.as_tensor(module.depth_and_context.bias).zero_()
    features, inputs = batch_of([ring, ring], channels=20)
    features.zero_()
    features[1, camera, depth_bin, place[0], place[1]] = 200.0
    features[1, camera, 16:, place[0], place[1]] = torch.tensor([1.0, 2.0, 3.0, 4.0])
    depth = 1.0 + 0.5 * depth_bin
    u, v = 8 * place[1] + 3.5, 8 * place[0] + 3.5
    ray = np.linalg.inv(ring.intrinsics[camera].numpy()) @ [u, v, 1.0]
    x, y, _, _ = ring.ego_from_camera[camera].numpy() @ [*(depth * ray), 1.0]
    column, row = (round(float(c)) for c in grid.to_cells(np.array([x, y])))
    bev = module(features, inputs)
    expected = torch.zeros(2, 4, *grid.shape)
    if 0 <= row < grid.shape[0] and 0 <= column < grid.shape[1]:
        expected[1, :, row, column] = torch.tensor([1.0, 2.0, 3.0, 4.0])
    torch.testing.assert_close(bev, expected)
    if camera == 0:
        assert expected.any()  # ahead of the car in both grids


def test_nothing_is_lost_or_invented() -> None:
    """Over a grid that holds every point, the BEV's sum is that of all contexts; over others, of the points inside."""
    features, inputs = batch_of([rig(3, 1), rig(3, 2)])
    everything = build(BEVGrid((-40.0, 40.0), (-40.0, 40.0), 2.0), z_range=(-100, 100))
    bev = everything(features, inputs)
    context = everything.depth_and_context(features.flatten(0, 1)).unflatten(0, (2, 3))[:, :, 16:]
    torch.testing.assert_close(bev.sum(dim=(-2, -1)), context.sum(dim=(1, 3, 4)), atol=1e-4, rtol=1e-4)


def test_points_outside_the_heights_are_dropped() -> None:
    features, inputs = batch_of([rig(3, 1)])
    low, high, both = (build(z_range=z)(features, inputs) for z in [(-9.0, 0.5), (0.5, 9.0), (-9.0, 9.0)])
    assert low.any() and high.any()
    torch.testing.assert_close(low + high, both, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("grid", GRIDS, ids=["even", "odd"])
@pytest.mark.parametrize("cameras", [1, 5])
def test_shapes(grid: BEVGrid, cameras: int) -> None:
    module = build(grid)
    bev = module(*batch_of([rig(cameras, 1), rig(cameras, 2)]))
    assert bev.shape == (2, 4, *grid.shape) and bev.any() and module.out_channels == 4


def test_batched_is_single_and_inputs_stay() -> None:
    rigs, module = [rig(3, seed) for seed in range(3)], build()
    features, inputs = batch_of(rigs)
    bev = module(features, inputs)
    for index, alone in enumerate(rigs):
        one = module(features[index : index + 1], batch_of([alone])[1])
        torch.testing.assert_close(bev[index], one[0], atol=1e-5, rtol=1e-5)
    again, unchanged = batch_of(rigs)
    assert torch.equal(features, again) and torch.equal(inputs.projection, unchanged.projection)


def test_every_parameter_gets_a_gradient() -> None:
    module = build().train()
    module(*batch_of([rig(3, 0)])).square().sum().backward()
    assert [n for n, p in module.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_missing_cameras_give_nothing() -> None:
    """As preprocess leaves them: black, unprojected, masked. The others are as if they were alone."""
    features, inputs = batch_of([rig(3, 0)])
    assert inputs.camera_mask is not None and inputs.projection is not None
    inputs.camera_mask[:, 1] = False
    module = build()
    masked = module(features, inputs)
    projection = inputs.projection.clone()
    projection[:, 1] = 0
    torch.testing.assert_close(module(features, replace(inputs, projection=projection)), masked)
    others = replace(inputs, projection=projection[:, ::2], camera_mask=None)
    torch.testing.assert_close(module(features[:, ::2], others), masked)
    assert masked.isfinite().all() and masked.any()
    assert frustum_points(projection, module.splat.depths, SIZE, CELLS).isfinite().all()


def test_autocast_changes_nothing_but_the_convolution() -> None:
    features, inputs = batch_of([rig(2, 0)])
    module = build()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        bev = module(features, inputs)
    assert bev.dtype == torch.float32
    torch.testing.assert_close(bev, module(features, inputs), atol=0.1, rtol=0.1)


@pytest.mark.parametrize("missing", ["images", "projection"])
def test_missing_fields_are_named(missing: str) -> None:
    features, inputs = batch_of([rig(2, 0)])
    with pytest.raises(ConfigError, match=f"ModelInput.{missing}"):
        build()(features, replace(inputs, **{missing: None}))


@pytest.mark.parametrize(
    "wrong", [{"depth_range": (0.0, 4.0)}, {"depth_range": (5.0, 4.0)}, {"z_range": (1.0, 1.0)}, {"depth_step": 0.0}]
)
def test_impossible_ranges_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        LiftSplatConfig(**wrong)


def test_published_rays_go_through_the_outermost_pixels() -> None:
    seen = rig(2, 3)
    projection = seen.projection().float()[None]
    points = frustum_points(projection, torch.tensor([2.0, 5.0]), SIZE, CELLS, corners=True)
    pixels, depth, _ = seen.project(points[0, :, 1].reshape(2, -1, 3)[0].double())
    u = np.linspace(0, SIZE[1] - 1, CELLS[1])
    torch.testing.assert_close(pixels[0].view(*CELLS, 2)[0, :, 0], torch.from_numpy(u), atol=1e-3, rtol=0)
    torch.testing.assert_close(depth[0], torch.full_like(depth[0], 5.0), atol=1e-4, rtol=0)


def test_published_cells_are_cut_off_towards_zero() -> None:
    """Points a little below the lower ends count in the first cell, and a cell farther they do not."""
    module = build(geometry="published")
    points = torch.tensor([[-9.4, -4.9, -29.0], [-9.6, 0.0, 0.0], [0.0, 0.0, -31.0], [0.0, 0.0, 9.9], [9.1, 0.0, 0.0]])
    inside = module.splat._inside(points).all(dim=-1)
    assert inside.tolist() == [True, False, False, True, False]
    assert build().splat._inside(points).all(dim=-1).tolist() == [False, False, False, True, False]
    lifted = torch.zeros(1, 1, 16 + 4, 1, 1)
    lifted[:, :, 16:] = 1.0
    where = points[:1].expand(16, 3).reshape(1, 1, 16, 1, 1, 3)
    bev = module.splat._sums(lifted, where, torch.ones(1, 1, 16, 1, 1, dtype=torch.bool))
    torch.testing.assert_close(bev[0, :, 0, 0], torch.ones(4))
    torch.testing.assert_close(bev.sum(), torch.tensor(4.0))
