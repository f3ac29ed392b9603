"""Pillars in the cameras, against CameraRig.project and against loops in float64."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hdmap_core.geometry import CameraRig
from hdmap_core.models.view_transforms.pillar_projection import (
    MIN_DEPTH,
    OUTSIDE,
    anchor_heights,
    choose_views,
    pillars_in_reach,
    project_pairs,
    project_pillars,
)

SIZE = (48, 80)


def rig(cameras: int, seed: int = 0) -> CameraRig:
    """Cameras looking around at slightly different heights and tilts."""
    rng = np.random.default_rng(seed)
    poses, intrinsics = [], []
    for index in range(cameras):
        yaw = 2 * np.pi * index / cameras + rng.uniform(-0.2, 0.2)
        tilt = rng.uniform(-0.1, 0.1)
        turn = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
        optical = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
        pitch = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
        pose = np.eye(4)
        pose[:3, :3] = turn @ optical @ pitch
        pose[:3, 3] = [np.cos(yaw), np.sin(yaw), 1.5 + rng.uniform(-0.3, 0.3)]
        poses.append(pose)
        focal = rng.uniform(30, 50)
        intrinsics.append(np.array([[focal, 0, 40 + rng.uniform(-3, 3)], [0, focal * 1.1, 23], [0, 0, 1]]))
    return CameraRig.from_arrays([f"cam{i}" for i in range(cameras)], intrinsics, poses, SIZE)


def test_anchor_heights() -> None:
    published = torch.tensor([-2, -1.4286, -0.8571, -0.2857, 0.2857, 0.8571, 1.4286, 2.0])
    torch.testing.assert_close(anchor_heights((-2, 2), 8, ends=True), published, atol=1e-4, rtol=0)
    torch.testing.assert_close(anchor_heights((-2, 2), 4, ends=False), torch.tensor([-1.5, -0.5, 0.5, 1.5]))
    bevformer = torch.linspace(0.5, 8 - 0.5, 4) / 8 * 8 - 5  # as its code writes it, for z from -5 to 3 m
    torch.testing.assert_close(anchor_heights((-5, 3), 4, ends=False), bevformer)
    ours = anchor_heights((-0.16, 3.84), 8, ends=True)
    torch.testing.assert_close(ours, published + 1.84, atol=1e-4, rtol=0)


@settings(max_examples=20, deadline=None)
@given(cameras=st.integers(1, 5), batch=st.integers(1, 2), seed=st.integers(0, 999))
def test_projection_is_that_of_the_rig(cameras: int, batch: int, seed: int) -> None:
    rigs = [rig(cameras, seed + b) for b in range(batch)]
    generator = torch.Generator().manual_seed(seed)
    centres = 20 * torch.rand(7, 2, generator=generator) - 10
    heights = 4 * torch.rand(batch, 7, 3, generator=generator) - 1
    projection = torch.stack([r.projection() for r in rigs]).float()
    points, visible = project_pillars(centres, heights, projection, SIZE)
    assert points.shape == (batch, cameras, 7, 3, 2) and visible.shape == points.shape[:-1]
    for b, r in enumerate(rigs):
        pillars = torch.cat([centres[:, None].expand(7, 3, 2), heights[b][..., None]], dim=-1).double()
        pixels, depth, seen = r.project(pillars.view(21, 3), min_depth=MIN_DEPTH)
        assert torch.equal(visible[b].view(cameras, 21), seen)
        back = points[b].view(cameras, 21, 2).double() * torch.tensor(SIZE[::-1]) - 0.5
        torch.testing.assert_close(back[seen], pixels[seen], atol=1e-3, rtol=0)
        assert (points[b].view(cameras, 21, 2)[depth <= MIN_DEPTH] == OUTSIDE).all()


def test_projection_is_that_of_the_loops() -> None:
    projection = torch.stack([rig(3, 1).projection(), rig(3, 2).projection()])
    centres, heights = torch.tensor([[6.0, 1.0], [-5.0, 2.0], [0.5, -7.0]]), torch.tensor([0.0, 1.0])
    points, visible = project_pillars(centres, heights.expand(1, 3, 2), projection, SIZE)
    for b, n, q, a in np.ndindex(2, 3, 3, 2):
        x, y = centres[q].tolist()
        u, v, depth = projection[b, n].numpy() @ [x, y, heights[a].item(), 1.0]
        place = np.array([(u / depth + 0.5) / SIZE[1], (v / depth + 0.5) / SIZE[0]])
        inside = depth > MIN_DEPTH and 0 < place[0] < 1 and 0 < place[1] < 1
        assert visible[b, n, q, a].item() == inside
        if depth > MIN_DEPTH:
            np.testing.assert_allclose(points[b, n, q, a].numpy(), place, rtol=1e-4, atol=1e-4)
    assert visible.any() and not visible.all()


def test_the_image_is_open_at_its_edges() -> None:
    """A camera at the origin looking along x, one pixel per metre at one metre: u = -y, v = -z."""
    projection = torch.tensor([[[[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0]]]])
    centres = torch.tensor([[1.0, 0.5], [1.0, 0.49], [1.0, -3.49], [1.0, -3.5], [-1.0, -1.0], [0.05, 0.0]])
    _, visible = project_pillars(centres, torch.zeros(1, 6, 1), projection, (4, 4))
    assert visible.flatten().tolist() == [False, True, True, False, False, False]


def test_seeing_cameras_come_first_whatever_their_order() -> None:
    points = torch.tensor([[0.9, 0.5], [0.5, 0.5], [3.0, 0.5], [0.6, 0.4]]).view(1, 4, 1, 1, 2).repeat(1, 1, 1, 2, 1)
    visible = torch.tensor([[True, True], [True, False], [False, False], [True, True]]).view(1, 4, 1, 2)
    views = choose_views(points, visible)
    assert views.camera[0, :, 0].tolist() == [3, 0, 1, 2], "more visible anchors first, then nearest to the centre"
    assert views.seen[0, :, 0].tolist() == [True, True, True, False]
    turned = choose_views(points.roll(1, 1), visible.roll(1, 1))
    assert torch.equal(turned.points, views.points) and torch.equal((turned.camera - 1) % 4, views.camera)
    fewer = choose_views(points, visible, max_views=2)
    assert fewer.camera[0, :, 0].tolist() == [3, 0] and fewer.points.shape == (1, 2, 1, 2, 2)
    assert choose_views(points, visible, max_views=9).camera.shape == (1, 4, 1)


@pytest.mark.parametrize("bad", [0.0, 1e-9])
def test_gradients_are_finite_at_and_behind_the_camera(bad: float) -> None:
    projection = torch.tensor([[[[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0]]]])
    heights = torch.zeros(1, 2, 1, requires_grad=True)
    points, _ = project_pillars(torch.tensor([[bad, 0.0], [-4.0, 0.0]]), heights, projection, (4, 4))
    assert torch.isfinite(points).all()
    points.sum().backward()
    assert heights.grad is not None and torch.isfinite(heights.grad).all()


def stereo(cameras: int, seed: int) -> CameraRig:
    """Cameras of one place that look the same way: every cell is seen by all of them or by none."""
    one = rig(1, seed)
    poses = []
    for index in range(cameras):
        pose = one.ego_from_camera[0].double().numpy().copy()
        pose[1, 3] += 0.1 * index
        poses.append(pose)
    intrinsics = [one.intrinsics[0].double().numpy()] * cameras
    return CameraRig.from_arrays([f"cam{i}" for i in range(cameras)], intrinsics, poses, SIZE)


@settings(max_examples=25, deadline=None)
@given(kind=st.sampled_from([rig, stereo]), cameras=st.integers(1, 6), seed=st.integers(0, 999), low=st.floats(-3, 2))
def test_pairs_are_all_that_is_visible(
    kind: Callable[[int, int], CameraRig], cameras: int, seed: int, low: float
) -> None:
    """Wherever in the range the anchors lie: rings and stereo rigs, two rigs in a batch, missing cameras, both ends."""
    generator = torch.Generator().manual_seed(seed)
    projection = torch.stack([kind(cameras, seed).projection(), rig(cameras, seed + 1).projection()]).float()
    mask = torch.rand(2, cameras, generator=generator) > 0.2
    if not mask[0, 0]:
        projection[0, 0] = 0.0  # as `preprocess` leaves a camera that is missing
    centres = 24 * torch.rand(60, 2, generator=generator) - 12
    z_range = low, low + 4.0
    heights = low + 4 * torch.rand(2, 60, 4, generator=generator)
    heights[..., 0], heights[..., 1] = z_range
    points, visible = project_pillars(centres, heights, projection, SIZE)
    visible &= mask[:, :, None, None]
    pairs = pillars_in_reach(centres, z_range, projection, SIZE, mask)
    views = project_pairs(pairs, heights, SIZE)
    sample, pillar, camera = pairs.pillar // 60, pairs.pillar % 60, pairs.camera % cameras
    assert torch.equal(pairs.camera // cameras, sample)
    share = torch.zeros(2, cameras, 60)
    share[sample, camera, pillar] = views.share
    seen = visible.any(dim=-1)
    torch.testing.assert_close(share, seen / seen.sum(dim=1, keepdim=True).clamp(min=1))
    assert torch.equal(views.seen, seen.any(dim=1))
    found = seen[sample, camera, pillar]
    torch.testing.assert_close(views.points[found], points[sample, camera, pillar][found], rtol=1e-5, atol=1e-6)
    assert seen.sum(dim=1).max() <= pairs.most <= cameras


def test_no_pair_is_made_in_vain() -> None:
    """Over all heights, a pair is one that a dense sweep of the heights sees, but for the very edges of the images."""
    centres = torch.cartesian_prod(torch.linspace(-12, 12, 25), torch.linspace(-12, 12, 25))
    projection = rig(6, 3).projection().float()[None]
    sweep = torch.linspace(-1.0, 3.0, 400).expand(1, len(centres), -1)
    _, visible = project_pillars(centres, sweep, projection, SIZE)
    pairs = pillars_in_reach(centres, (-1.0, 3.0), projection, SIZE)
    assert 0 <= len(pairs.pillar) - int(visible.any(dim=-1).sum()) <= 0.01 * len(pairs.pillar)
    assert len(pairs.pillar) < 0.4 * 6 * len(centres) and pairs.most == visible.any(dim=-1).sum(dim=1).max()


def test_a_rig_that_sees_nothing_has_no_pairs() -> None:
    pairs = pillars_in_reach(torch.zeros(3, 2), (0.0, 1.0), torch.zeros(1, 2, 3, 4), SIZE)
    views = project_pairs(pairs, torch.zeros(1, 3, 2), SIZE)
    assert len(pairs.pillar) == 0 and pairs.most == 0 and not views.seen.any()
