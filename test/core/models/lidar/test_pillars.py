"""Pillars: what each point contributes, and everything that must contribute nothing."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hdmap_core.config import parse_config
from hdmap_core.errors import ConfigError
from hdmap_core.geometry import BEVGrid
from hdmap_core.model_io import ModelInput
from hdmap_core.models.lidar.pillars import Pillars, PillarsConfig

GRID = BEVGrid((-15.0, 15.0), (-7.5, 7.5), 0.3)  # (50, 100): not a multiple of 4
SMALL = PillarsConfig(point_channels=8, channels=(8, 12, 16), fusion_channels=12, out_channels=10)


def build(config: PillarsConfig = SMALL, grid: BEVGrid = GRID) -> Pillars:
    torch.manual_seed(0)
    return Pillars(config, grid=grid)


def random_points(count: int, seed: int = 0) -> Tensor:
    """(P, 5) on the grid and around it."""
    generator = torch.Generator().manual_seed(seed)
    low = torch.tensor([-20.0, -10.0, -12.0, 0.0, 0.0])
    high = torch.tensor([20.0, 10.0, 12.0, 255.0, 0.15])
    return low + (high - low) * torch.rand(count, 5, generator=generator)


def batch(*samples: Tensor, padding: int = 0, fill: float = 0.0) -> ModelInput:
    most = max(len(points) for points in samples) + padding
    points = torch.full((len(samples), most, 5), fill)
    for index, sample in enumerate(samples):
        points[index, : len(sample)] = sample
    return ModelInput(points=points, point_count=torch.tensor([len(sample) for sample in samples]))


def encoded(module: Pillars, inputs: ModelInput) -> Tensor:
    assert inputs.points is not None and inputs.point_count is not None
    return module.pillars(inputs.points, inputs.point_count)


@pytest.mark.parametrize("grid", [GRID, BEVGrid((-6.0, 5.4), (-3.0, 4.5), 0.3)])
def test_shapes(grid: BEVGrid) -> None:
    module = build(grid=grid)
    output = module(None, batch(random_points(300), random_points(20)))
    assert output.shape == (2, module.out_channels, *grid.shape) and output.isfinite().all()


def test_published_size() -> None:
    module = Pillars(PillarsConfig(), grid=BEVGrid(resolution=0.15))
    assert module.out_channels == 128
    assert sum(p.numel() for p in module.parameters()) == pytest.approx(4.04e6, rel=0.01)


def test_a_cell_by_hand() -> None:
    """Two points of one cell: the 15 features of each, then the mean over both."""
    module = build()
    module.norm.eval()
    points = torch.tensor([[4.98, 4.30, 1.0, 30.0, 0.0], [5.05, 4.40, -2.0, 200.0, 0.05]])
    column, row = 66, 39  # floor((4.98 + 15) / 0.3), floor((4.3 + 7.5) / 0.3)
    centre = torch.tensor([-15 + (column + 0.5) * 0.3, -7.5 + (row + 0.5) * 0.3, 0.0])
    mean = points[:, :3].mean(0)
    features = torch.stack([torch.cat([p, torch.tensor([2.0]), p[:3] - mean, mean, p[:3] - centre]) for p in points])
    expected = (features @ module.linear.weight.T / (1 + 1e-5) ** 0.5).relu().mean(0)
    pillars = encoded(module, batch(points))
    torch.testing.assert_close(pillars[0, :, row, column], expected, rtol=1e-4, atol=1e-4)
    pillars[0, :, row, column] = 0
    assert not pillars.any()


@settings(max_examples=30, deadline=None)
@given(count=st.integers(0, 60), padding=st.integers(0, 20), seed=st.integers(0, 1000), training=st.booleans())
def test_only_points_on_the_grid_count(count: int, padding: int, seed: int, training: bool) -> None:
    """Padding, far points, the car itself and points that are not finite change neither cells nor statistics."""
    points = random_points(count, seed)
    x, y, z = points[:, :3].unbind(-1)
    keep = (x >= -15) & (x < 15) & (y >= -7.5) & (y < 7.5) & (z.abs() < 10)
    keep &= ~((x > -1.26) & (x < 3.14) & (y.abs() < 2.2))
    broken = torch.tensor([[float("nan"), 1, 1, 1, 0], [4, 4, 0, float("inf"), 0], [4, 4, float("-inf"), 1, 0]])
    everything, some = build().train(training), build().train(training)
    full = encoded(everything, batch(torch.cat([broken, points]), padding=padding, fill=float("nan")))
    expected = encoded(some, batch(points[keep]))
    torch.testing.assert_close(full, expected)
    torch.testing.assert_close(everything.norm.running_mean, some.norm.running_mean)
    torch.testing.assert_close(everything.norm.running_var, some.norm.running_var)


@pytest.mark.parametrize("training", [False, True])
def test_order_of_points_does_not_matter(training: bool) -> None:
    points = random_points(400)
    turned = points[torch.randperm(400, generator=torch.Generator().manual_seed(3))]
    straight, mixed = (encoded(build().train(training), batch(p)) for p in (points, turned))
    assert straight.any()
    torch.testing.assert_close(straight, mixed, rtol=1e-4, atol=1e-5)


def test_batched_is_single() -> None:
    module = build().eval()
    samples = random_points(300, 1), random_points(40, 2), random_points(0)
    together = module(None, batch(*samples))
    for index, sample in enumerate(samples):
        torch.testing.assert_close(together[index], module(None, batch(sample))[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("padding", [0, 7])
def test_no_points_at_all(padding: int) -> None:
    module = build()
    encoded(module, batch(random_points(200)))
    before = {name: value.clone() for name, value in module.norm.state_dict().items()}
    inputs = batch(torch.zeros(0, 5), torch.zeros(0, 5), padding=padding)
    assert not encoded(module, inputs).any()
    assert all(torch.equal(value, before[name]) for name, value in module.norm.state_dict().items())
    output = module(None, inputs)
    output.square().sum().backward()
    assert output.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())


def test_gradients_reach_everything_and_inputs_stay() -> None:
    module, inputs = build(), batch(random_points(500), random_points(300))
    assert inputs.points is not None
    before = inputs.points.clone()
    module(None, inputs).square().sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
    assert torch.equal(inputs.points, before)


def test_close_under_autocast() -> None:
    module, inputs = build().eval(), batch(random_points(500))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = module(None, inputs)
    difference = (output.float() - module(None, inputs)).abs().max()
    assert difference < 0.05 * output.abs().max()


def test_errors_say_what_to_do() -> None:
    with pytest.raises(ConfigError, match=r"lidar \(pillars\) needs ModelInput.points"):
        build()(None, ModelInput())
    with pytest.raises(ConfigError, match="3 blocks, convolutions 2"):
        parse_config(PillarsConfig, {"convolutions": [1, 2]}, "x.yaml")
    with pytest.raises(ConfigError, match="own_vehicle_x is"):
        parse_config(PillarsConfig, {"own_vehicle_x": [2.0, -1.0]}, "x.yaml")
    with pytest.raises(ConfigError, match="z_range is"):
        parse_config(PillarsConfig, {"z_range": [1.0, 1.0]}, "x.yaml")
    parse_config(PillarsConfig, {"own_vehicle_x": [0.0, 0.0]}, "x.yaml")  # no box


def test_blocks_are_enlarged_with_aligned_corners() -> None:
    """As HDMapNet and P-MapNet do: corners of a coarse map lie on corners of the grid."""
    module = build(grid=BEVGrid((-6.0, 6.0), (-3.0, 3.0), 0.5)).eval()
    seen: dict[int, Tensor] = {}
    for index, branch in enumerate(module.branches):
        branch.register_forward_pre_hook(lambda _, given, index=index: seen.update({index: given[0]}))  # type: ignore[misc]
    coarse: list[Tensor] = []
    module.blocks[-1].register_forward_hook(lambda _, __, made: coarse.append(made))
    module(None, batch(random_points(200)))
    torch.testing.assert_close(
        seen[2][..., [0, 0, -1, -1], [0, -1, 0, -1]], coarse[0][..., [0, 0, -1, -1], [0, -1, 0, -1]]
    )


def test_published_cells() -> None:
    """Points below the lower ends count in the first cell; padding and outsiders thin out the mean of cell 0."""
    published = PillarsConfig(
        point_channels=8, channels=(8, 12, 16), fusion_channels=12, out_channels=10, cells="published"
    )
    module, plain = build(published).eval(), build().eval()
    x, y = GRID.x_range[0], GRID.y_range[0]
    first = torch.tensor([[x + 0.1, y + 0.1, 0.5, 9.0, 0.0]])
    below = torch.tensor([[x - 0.2, y + 3.0, -25.0, 9.0, 0.0]])
    far = torch.tensor([[x - 5.0, y, 0.0, 9.0, 0.0]])
    assert encoded(module, batch(below))[0, :, 10, 0].abs().sum() > 0
    assert encoded(plain, batch(below)).abs().sum() == 0
    alone = encoded(module, batch(first))[0, :, 0, 0]
    torch.testing.assert_close(alone, encoded(plain, batch(first))[0, :, 0, 0])
    for more in (batch(torch.cat([first, far])), batch(first, padding=1)):
        thinned = encoded(module, more)[0, :, 0, 0]
        assert (thinned - alone).abs().max() > 1e-3
    # By hand: the centroid is that of both, the count and the one feature that is not zero are of the point.
    assert far.shape == first.shape
    offset, other = (points[0, :3] - torch.tensor([x + 0.15, y + 0.15, 0.0]) for points in (first, far))
    from_mean = offset - (offset + other) / 2
    features = torch.cat([first[0], torch.ones(1), from_mean, first[0, :3] - from_mean, offset])
    wanted = torch.relu(module.norm(module.linear(features[None]), torch.ones(1, dtype=torch.bool)))[0] / 2
    torch.testing.assert_close(
        encoded(module, batch(torch.cat([first, far])))[0, :, 0, 0], wanted, atol=1e-4, rtol=1e-4
    )


def test_published_points_are_those_beside_the_car_and_no_more() -> None:
    from hdmap_core.models import ModelConfig
    from hdmap_core.preprocess import with_points_and_roads

    points = np.zeros((82_000, 5), np.float32)
    points[10:, 0] = 10.0  # the first ten are the car itself
    for cells, many in (("published", 81_920), ("floor", 82_000)):
        model = ModelConfig(name="m", lidar=PillarsConfig(cells=cells))  # type: ignore[arg-type]
        assert with_points_and_roads(ModelInput(), points, None, model).point_count == many
