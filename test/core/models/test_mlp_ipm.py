"""HDMapNet's view transform: plans in their places, intrinsics, rigs, and what every view transform must keep."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hdmap_core.errors import ConfigError
from hdmap_core.geometry import BEVGrid, CameraRig
from hdmap_core.model_io import ModelInput
from hdmap_core.models.view_transforms.mlp_ipm import MlpIPM, MlpIPMConfig
from hdmap_core.models.view_transforms.pinhole_cameras import PinholeCameras

GRIDS = [BEVGrid((-9.0, 9.0), (-4.5, 4.5), 0.3), BEVGrid((0.0, 13.5), (-3.0, 4.5), 0.3)]  # even, odd numbers of cells
SIZE, CELLS = (48, 80), (6, 10)
CHANNELS = 3
FOCAL, ASPECT = 0.6, 16 / 9


def rig(yaws: list[float], place: tuple[float, float, float] = (1.0, 0.5, 1.6), **lens: Any) -> CameraRig:
    """Level cameras turned by `yaws` degrees from forward to the left, all in one place."""
    poses = []
    for yaw in np.radians(yaws):
        pose = np.eye(4)
        turn = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
        pose[:3, :3] = turn @ np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
        pose[:3, 3] = place
        poses.append(pose)
    names = [f"camera_{i}" for i in range(len(yaws))]
    return CameraRig.from_arrays(names, [intrinsics(**lens)] * len(yaws), poses, SIZE)


def intrinsics(zoom: float = 1.0, shift: tuple[float, float] = (0.0, 0.0), squeeze: float = 1.0) -> np.ndarray:
    """The canonical camera's, or one that differs."""
    height, width = SIZE
    fx, fy = zoom * FOCAL * width, zoom * squeeze * FOCAL * ASPECT * height
    return np.array([[fx, 0, (width - 1) / 2 + shift[0]], [0, fy, (height - 1) / 2 + shift[1]], [0, 0, 1]])


def build(grid: BEVGrid = GRIDS[0], cameras: int = 3, **changes: Any) -> MlpIPM:
    torch.manual_seed(0)
    return MlpIPM(
        MlpIPMConfig(**changes), grid=grid, in_channels=CHANNELS, feature_size=CELLS, num_cameras=cameras
    ).eval()


def batch_of(rigs: list[CameraRig], seed: int = 0) -> tuple[Tensor, ModelInput]:
    generator = torch.Generator().manual_seed(seed)
    cameras = rigs[0].num_cameras
    features = torch.randn(len(rigs), cameras, CHANNELS, *CELLS, generator=generator)
    images = torch.zeros(len(rigs), cameras, 3, *SIZE, dtype=torch.uint8)
    projection = torch.stack([r.projection() for r in rigs]).float()
    mask = torch.ones(len(rigs), cameras, dtype=torch.bool)
    return features, ModelInput(images=images, projection=projection, camera_mask=mask)


def say_always(module: MlpIPM, view: int, plan: Tensor) -> None:
    """Makes one camera's MLP give this plan (rows, columns) whatever it sees."""
    last = module.views[view][2]
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(plan.flatten())


@pytest.mark.parametrize(
    ("grid", "plan", "unit"),
    [
        (BEVGrid((-30.0, 30.0), (-15.0, 15.0), 0.15), (40, 80), 0.5),
        (BEVGrid((-60.0, 60.0), (-30.0, 30.0), 0.3), (40, 80), 1.0),
        (BEVGrid((-120.0, 120.0), (-30.0, 30.0), 0.3), (40, 160), 1.0),
    ],
)
def test_published_plans(grid: BEVGrid, plan: tuple[int, int], unit: float) -> None:
    """60 units to the end of 400 cells, 120 to that of 800: half the extent is 0.15 times the columns."""
    with torch.device("meta"):
        module = MlpIPM(MlpIPMConfig(), grid=grid, in_channels=64, feature_size=(8, 22), num_cameras=6)
    assert module.plan == plan
    assert module.unit == pytest.approx(unit) == pytest.approx(grid.size[0] / 2 / (0.15 * grid.shape[1]))
    assert module.views[0][0].weight.shape == (plan[0] * plan[1], 176)


@pytest.mark.parametrize("turned", [0, 1, 2], ids=["0 degrees", "90 degrees", "200 degrees"])
@pytest.mark.parametrize(("row", "column"), [(6, 4), (3, 2), (8, 1)])
def test_a_plan_cell_lands_in_its_place(turned: int, row: int, column: int) -> None:
    """Forward by (column + columns / 8) units and right by (row - rows / 2) units from the camera, all in metres."""
    yaws, place = [0.0, 90.0, 200.0], (1.0, -0.6, 1.6)
    grid, unit = BEVGrid((-9.0, 9.0), (-9.0, 9.0), 0.15), 0.6
    module = build(grid, plan=(12, 16), unit=unit)
    for view in range(3):
        plan = torch.zeros(12, 16)
        plan[row, column] = float(view == turned)
        say_always(module, view, plan)
    bev = module(*batch_of([rig(yaws, place)]))[0, 0]
    depth, right, yaw = (column + 2) * unit, (row - 6) * unit, np.radians(yaws[turned])
    x = place[0] + depth * np.cos(yaw) + right * np.sin(yaw)
    y = place[1] + depth * np.sin(yaw) - right * np.cos(yaw)
    centre = (bev[..., None] * grid.cell_centres()).sum(dim=(0, 1)) / bev.sum()
    torch.testing.assert_close(centre, torch.tensor([x, y]).float(), atol=0.03, rtol=0)
    far = torch.linalg.vector_norm(grid.cell_centres() - centre, dim=-1) > 2.2 * unit
    assert bev.max() > 0.5 and not bev[far].any()


@pytest.mark.parametrize("fusion", ["max", "mean"])
def test_lookup_is_that_of_the_loops(fusion: str) -> None:
    """At the cells that lie on looked-up places (every second one of an odd number), bilinear by hand in float64."""
    grid = GRIDS[1]
    assert grid.shape == (25, 45)
    module = build(grid, cameras=2, plan=(9, 12), unit=0.8, fusion=fusion)
    ring = rig([10.0, -40.0])
    plans = torch.rand(2, 9, 12, generator=torch.Generator().manual_seed(3))
    for view in range(2):
        say_always(module, view, plans[view])
    bev = module(*batch_of([ring]))[0, 1]
    camera_from_ego = torch.linalg.inv(ring.ego_from_camera).numpy()
    overlap = 0
    for r, c in np.ndindex(13, 23):
        x, y = grid.cell_centres()[2 * r, 2 * c].tolist()
        found = []
        for view in range(2):
            right, _, depth = (camera_from_ego[view] @ [x, y, 0.0, 1.0])[:3]
            along, across = depth / 0.8 - 12 / 8, right / 0.8 + 9 / 2
            if depth <= 0 or not (-1 < along < 12 and -1 < across < 9):
                continue
            value = 0.0
            for j, i in np.ndindex(9, 12):
                value += max(0, 1 - abs(across - j)) * max(0, 1 - abs(along - i)) * plans[view, j, i].item()
            found.append(value)
        overlap += len(found) == 2
        expected = (max(found) if fusion == "max" else sum(found) / len(found)) if found else 0.0
        assert bev[2 * r, 2 * c].item() == pytest.approx(expected, abs=1e-4)
    assert overlap > 20


def test_nothing_behind_a_camera_is_read() -> None:
    module = build(cameras=1, plan=(2, 2), unit=50.0)  # a plan whose first cells reach behind the camera
    say_always(module, 0, torch.ones(2, 2))
    grid = GRIDS[0]
    bev = module(*batch_of([rig([0.0], (0.0, 0.0, 1.6))]))[0, 0]
    ahead = grid.cell_centres()[..., 0]
    assert (bev[ahead > 0.6] > 0).all() and not bev[ahead < -0.6].any()


@pytest.mark.parametrize(
    ("weights", "focals"), [("per_camera", (FOCAL,)), ("per_camera", (FOCAL, FOCAL)), ("shared", (FOCAL,))]
)
def test_other_intrinsics_same_rays_same_bev(weights: str, focals: tuple[float, ...]) -> None:
    """A wider, off-centre camera with another squeeze, whose features are the same function of the ray."""
    module = build(cameras=2, weights=weights, focals=focals)
    blind = build(cameras=2, weights=weights)
    outputs, ignoring = [], []
    for lens in ({}, {"zoom": 0.7, "shift": (3.0, -2.0), "squeeze": 0.9}):
        _, inputs = batch_of([rig([0.0, 70.0], **lens)])
        u = (torch.arange(10) + 0.5) * 8 - 0.5
        v = (torch.arange(6) + 0.5) * 8 - 0.5
        matrix = intrinsics(**lens)
        right, down = (u - matrix[0, 2]) / matrix[0, 0], (v - matrix[1, 2]) / matrix[1, 1]
        seen = torch.stack([3 * right + 0 * down[:, None], 2 * down[:, None] - right, 1 + right + down[:, None]])
        features = seen.float().expand(1, 2, CHANNELS, *CELLS)  # linear, so that interpolation is exact
        outputs.append(module(features, inputs))
        ignoring.append(blind(features, inputs))
    torch.testing.assert_close(outputs[0], outputs[1], atol=1e-4, rtol=1e-4)
    assert outputs[0].any()
    torch.testing.assert_close(outputs[0], ignoring[0], atol=1e-4, rtol=1e-4)  # the canonical camera needs no change
    assert (ignoring[0] - ignoring[1]).abs().max() > 0.01


def test_shared_weights_know_one_camera() -> None:
    with pytest.raises(ValueError, match="give one value"):
        MlpIPMConfig(weights="shared", focals=(0.6, 0.3))


def test_focals_are_one_per_camera() -> None:
    features, inputs = batch_of([rig([0.0, 120.0, 240.0])])
    same, different = build(focals=(0.6, 0.6, 0.6)), build(focals=(0.6, 0.3, 0.6))
    torch.testing.assert_close(build(focals=(0.6,))(features, inputs), same(features, inputs))
    assert not torch.allclose(different(features, inputs), same(features, inputs))
    with pytest.raises(ConfigError, match="2 values for 3 cameras"):
        build(focals=(0.6, 0.3))


@pytest.mark.parametrize("grid", GRIDS, ids=["even", "odd"])
@pytest.mark.parametrize("cameras", [1, 4])
@pytest.mark.parametrize("changes", [{}, {"weights": "shared"}, {"focals": (0.7,), "fusion": "mean"}])
def test_shapes(grid: BEVGrid, cameras: int, changes: dict[str, Any]) -> None:
    module = build(grid, cameras, **changes)
    ring = rig([360 / cameras * i for i in range(cameras)])
    bev = module(*batch_of([ring, ring]))
    assert bev.shape == (2, CHANNELS, *grid.shape) and bev.any() and (bev >= 0).all()
    assert module.out_channels == CHANNELS
    assert len(module.views) == (1 if changes.get("weights") == "shared" else cameras)


def test_cameras_have_their_own_weights_or_share_them() -> None:
    features, inputs = batch_of([rig([0.0, 120.0, 240.0])])
    features[:] = features[:, :1]
    inputs.projection = torch.as_tensor(inputs.projection)[:, :1].expand(-1, 3, -1, -1)
    own, shared = build(), build(weights="shared")
    own.views[0].load_state_dict(shared.views[0].state_dict())
    alone = shared(features[:, :1], replace(inputs, projection=inputs.projection[:, :1], camera_mask=None))
    torch.testing.assert_close(shared(features, inputs), alone)  # any number of cameras; max of equals
    assert not torch.allclose(own(features, inputs), alone)
    own.views.load_state_dict({f"{i}.{k}": v for i in range(3) for k, v in shared.views[0].state_dict().items()})
    torch.testing.assert_close(own(features, inputs), alone)


def test_batched_is_single_and_inputs_stay() -> None:
    rigs = [rig([a, a + 120, a + 240]) for a in (0.0, 20.0, 50.0)]
    module = build(focals=(0.5,))
    features, inputs = batch_of(rigs)
    bev = module(features, inputs)
    for index, ring in enumerate(rigs):
        one = module(features[index : index + 1], batch_of([ring])[1])
        torch.testing.assert_close(bev[index], one[0], atol=1e-5, rtol=1e-5)
    again, unchanged = batch_of(rigs)
    assert torch.equal(features, again) and torch.equal(inputs.projection, unchanged.projection)


@pytest.mark.parametrize("fusion", ["max", "mean"])
def test_every_parameter_gets_a_gradient(fusion: str) -> None:
    module = build(fusion=fusion).train()
    module(*batch_of([rig([0.0, 120.0, 240.0])])).square().sum().backward()
    assert [n for n, p in module.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("changes", [{}, {"weights": "shared", "focals": (0.6,)}, {"fusion": "mean"}])
def test_missing_cameras_give_nothing(changes: dict[str, Any]) -> None:
    """As preprocess leaves them: masked, with a projection of zeros; a masked camera's features do not matter."""
    features, inputs = batch_of([rig([0.0, 120.0, 240.0])])
    module = build(**changes)
    assert inputs.camera_mask is not None and inputs.projection is not None
    complete = module(features, inputs)
    inputs.camera_mask[:, 1] = False
    masked = module(features, inputs)
    inputs.projection[:, 1] = 0
    features[:, 1] = 7.0
    again = module(features, inputs)
    torch.testing.assert_close(again, masked)
    assert masked.isfinite().all() and masked.any() and not torch.equal(masked, complete)
    again.sum().backward()
    assert all(torch.as_tensor(p.grad).isfinite().all() for p in module.parameters())
    assert all(part.isfinite().all() for part in PinholeCameras.of(inputs.projection))


def test_autocast_leaves_the_geometry_alone() -> None:
    features, inputs = batch_of([rig([0.0, 120.0, 240.0])])
    module = build(focals=(0.6,))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        bev = module(features, inputs)
    assert bev.dtype == torch.float32
    torch.testing.assert_close(bev, module(features, inputs), atol=0.03, rtol=0.03)


def test_what_does_not_fit_is_said() -> None:
    features, inputs = batch_of([rig([0.0, 120.0, 240.0])])
    with pytest.raises(ConfigError, match=r"made for 3 cameras, 2 came"):
        build()(features[:, :2], replace(inputs, projection=torch.as_tensor(inputs.projection)[:, :2]))
    with pytest.raises(ConfigError, match=r"made for feature maps of \(6, 10\), \(6, 5\) came"):
        build(cameras=0, weights="shared")(features[..., :5], inputs)
    with pytest.raises(ConfigError, match=r"ModelInput\.projection"):
        build()(features, replace(inputs, projection=None))
    with pytest.raises(ConfigError, match="focals needs"):
        build(focals=(0.6,))(features, replace(inputs, images=None))


def test_published_geometry_by_hand() -> None:
    """Places from end to end in units, the camera's place in metres, and nothing beyond the outermost plan cells."""
    grid = BEVGrid((-30.0, 30.0), (-15.0, 15.0), 0.75)  # plans of (8, 16), units of 2.5 m
    module = build(grid, cameras=1, geometry="published")
    plan = torch.rand(8, 16)
    say_always(module, 0, plan)
    features, inputs = batch_of([rig([0.0], place=(1.0, 0.5, 1.6))])
    seen = torch.zeros(20, 40)
    for row, y in enumerate(np.linspace(-6, 6, 20)):
        for column, x in enumerate(np.linspace(-12, 12, 40)):
            along, across = x - 1.0 - 16 / 8, -(y - 0.5) + 8 / 2
            if 0 <= along < 15 and 0 <= across < 7:
                i, j = int(across), int(along)
                u, v = along - j, across - i
                top, bottom = (plan[k, j] * (1 - u) + plan[k, j + 1] * u for k in (i, i + 1))
                seen[row, column] = top * (1 - v) + bottom * v
    wanted = torch.nn.functional.interpolate(seen[None, None], size=grid.shape, mode="bilinear", align_corners=True)
    assert seen.count_nonzero() > 100
    torch.testing.assert_close(module(features, inputs)[0, :1], wanted[0], atol=1e-5, rtol=0)


def test_published_geometry_has_its_own_units() -> None:
    with pytest.raises(ValueError, match="units of its own"):
        MlpIPMConfig(geometry="published", unit=0.5)
