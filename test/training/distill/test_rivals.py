"""The rivals' ports and the distillation of BEV features, by hand."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from hdmap_core.model_io import DenseOutput, ModelOutput
from training.data.dense_targets import DenseTargets
from training.data.targets import Targets
from training.distill.bev_features import BEVFeatures, BEVFeaturesConfig
from training.distill.bevdistill import BEVDistill, BEVDistillConfig, contrast, spread
from training.distill.mapdistill import MapDistill, MapDistillConfig
from training.distill.rasters import blurred
from training.distill.unidistill import UniDistill, UniDistillConfig, box_points, sampled

from .test_msrd import on_lines


def one_line(points: list[tuple[float, float]], size: tuple[int, int], extent: tuple[float, float]) -> Targets:
    """A line (normalised points) and a place for an element that is not there; no cell is drawn."""
    orders = torch.tensor([[points, points[::-1]]])
    rasters = DenseTargets(*[torch.zeros(1, *size, dtype=torch.uint8)] * 3)
    owners = torch.tensor([[0, 0]])
    return Targets(None, torch.tensor([[0, -1]]), orders, owners, torch.tensor(extent), dense=rasters)


def tapped(semantic: Tensor | None = None, **taps: Tensor) -> ModelOutput:
    dense = None if semantic is None else DenseOutput(semantic, semantic, semantic)
    return ModelOutput(dense=dense, taps=taps)


def test_flanks_fall_as_a_gaussian_and_overlap_by_the_greater() -> None:
    mask = torch.zeros(1, 1, 1, 7)
    mask[..., 1] = mask[..., 4] = 1
    found = blurred(mask, 1.0)[0, 0, 0]
    distance = torch.tensor([1.0, 0, 1, 1, 0, 1, 2])
    torch.testing.assert_close(found, torch.exp(-0.5 * distance.square()))
    assert blurred(torch.zeros(1, 1, 4, 4), 2.0).sum() == 0


def test_bev_features_all_cells_or_lines() -> None:
    """Two channels normalise to (1, -1) or (-1, 1): a cell apart differs by 4 in each."""
    ours = torch.tensor([[[[5.0, 0.0, 0.0]], [[0.0, 9.0, 3.0]]]])
    theirs = torch.tensor([[[[1.0, 1.0, 0.0]], [[0.0, 0.0, 1.0]]]])
    student, source = tapped(bev=ours), tapped(bev=theirs)
    every = BEVFeatures(BEVFeaturesConfig(source="teacher"), [(2, 2)])(student, source, on_lines(torch.zeros(1, 1, 3)))
    assert every.item() == pytest.approx(4 / 3, rel=1e-3)
    near = BEVFeatures(BEVFeaturesConfig(source="teacher", where="lines", sigma=1.0), [(2, 2)])
    weights = [math.exp(-0.5), 1.0, math.exp(-0.5)]
    value = near(student, source, on_lines(torch.tensor([[[0, 1, 0]]])))
    assert value.item() == pytest.approx(4 * weights[1] / sum(weights), rel=1e-3)
    plain = BEVFeatures(BEVFeaturesConfig(source="teacher", normalise=False), [(2, 2)])
    assert plain(student, source, on_lines(torch.zeros(1, 1, 3))).item() == pytest.approx(
        F.mse_loss(ours, theirs).item()
    )


def test_bevdistill_sums_over_channels_within_gaussians() -> None:
    config = BEVDistillConfig(source="teacher", relation=0, prediction=0, features=0.5, sigma=1.0)
    ours = torch.tensor([[[[1.0, 0.0]], [[2.0, 0.0]]]])
    value = BEVDistill(config, [(2, 2)])(
        tapped(encoder_in=ours), tapped(encoder_in=torch.zeros(1, 2, 1, 2)), on_lines(torch.tensor([[[1, 0]]]))
    )
    assert value.item() == pytest.approx(0.5 * (1 + 4) / (1 + math.exp(-0.5)), rel=1e-5)


def test_bevdistill_prediction_is_weighted_by_the_teachers_certainty() -> None:
    config = BEVDistillConfig(source="teacher", relation=0, features=0, prediction=2.0)
    ours, theirs = torch.zeros(1, 2, 1, 1), torch.tensor([[[[-1.0]], [[3.0]]]])
    value = BEVDistill(config, [(1, 1)])(
        tapped(ours, encoder_in=torch.zeros(1, 1, 1, 1)),
        tapped(theirs, encoder_in=torch.zeros(1, 1, 1, 1)),
        on_lines(torch.zeros(1, 1, 1)),
    )
    assert value.item() == pytest.approx(2 * math.log(2), rel=1e-5)


def test_places_are_drawn_evenly_and_only_from_lines() -> None:
    mask = torch.zeros(3, 1, 2, 5)
    mask[0].view(-1)[[1, 3, 4, 8, 9]] = 1
    mask[1].view(-1)[[7]] = 1
    index, valid = spread(mask, 3)
    assert index[0].tolist() == [1, 3, 8] and valid[0].all()
    assert index[1, 0] == 7 and valid[1].tolist() == [True, False, False]
    assert not valid[2].any()


def test_contrast_by_hand() -> None:
    """Two places and one that is none: log of the share of the own partner at temperature 0.5."""
    ours = torch.tensor([[[1.0, 0], [0, 1], [1, 0]]])
    theirs = torch.tensor([[[1.0, 0], [1, 0], [0, 1]]])
    value = contrast(ours, theirs, torch.tensor([[True, True, False]]), 0.5)
    assert value.item() == pytest.approx(math.log(2), rel=1e-5)  # both partners are as alike, for both places
    far = contrast(ours, theirs.flip(1), torch.tensor([[True, False, True]]), 0.5)
    expected = (math.log(1 + math.exp(2)) + math.log(1 + math.exp(-2))) / 2
    assert far.item() == pytest.approx(expected, rel=1e-5)
    assert contrast(ours, theirs, torch.zeros(1, 3, dtype=torch.bool), 0.5) == 0


def test_boxes_lie_along_the_line() -> None:
    """From (0, 5) to (10, 5) m of a region of 10 x 10: the middle of one box is (5, 5), its axes are x and y."""
    places, valid = box_points(one_line([(0, 0.5), (1, 0.5)], (4, 4), (10.0, 10.0)), 1, 2.0)
    assert places.shape == (1, 2, 9, 2) and valid.tolist() == [[True, False]]
    expected = {(5, 5), (7, 5), (3, 5), (5, 7), (5, 3), (7, 7), (7, 3), (3, 7), (3, 3)}
    assert {tuple(round(10 * value) for value in point) for point in places[0, 0].tolist()} == expected
    assert places[0, 0, 0].tolist() == [0.5, 0.5]
    bent, _ = box_points(one_line([(0, 0), (0, 0.5), (1, 0.5)], (4, 4), (10.0, 10.0)), 3, 1.0)
    torch.testing.assert_close(bent[0, :3, 0] * 10, torch.tensor([[0.0, 2.5], [0.0, 5.0], [5.0, 5.0]]))


def test_unidistill_by_hand() -> None:
    """Constant maps: features differ by 3; all nine points are alike in both, so relations agree."""
    truth = one_line([(0.2, 0.5), (0.8, 0.5)], (4, 4), (4.0, 4.0))
    ours, theirs = torch.ones(1, 2, 4, 4), torch.full((1, 2, 8, 8), 4.0)
    config = UniDistillConfig(source="teacher", features=2.0, response=0)
    value = UniDistill(config, [(2, 2), (2, 2)])(
        tapped(encoder_in=ours, bev=ours), tapped(encoder_in=theirs, bev=theirs), truth
    )
    assert value.item() == pytest.approx(2 * 3.0, rel=1e-5)
    slope = torch.linspace(-1, 1, 4).expand(1, 1, 4, 4)
    turned = torch.cat([slope, torch.ones_like(slope)], dim=1)
    places, _ = box_points(truth, config.boxes, config.reach)
    at = F.normalize(sampled(turned, places)[:, : config.boxes], dim=-1)
    expected = 5 * (1 - at @ at.transpose(2, 3)).abs().mean()
    value = UniDistill(config, [(2, 2), (2, 2)])(
        tapped(encoder_in=ours, bev=turned), tapped(encoder_in=ours, bev=ours), truth
    )
    assert value.item() == pytest.approx(expected.item(), rel=1e-4)


def test_unidistill_response_halves_the_teachers_logits() -> None:
    config = UniDistillConfig(source="teacher", features=0, relation=0, response=1.0, sigma=0.1)
    truth = one_line([(0.2, 0.5), (0.8, 0.5)], (1, 2), (4.0, 4.0))
    truth.dense.semantic[0, 0, 0] = 1
    own = torch.tensor([[[[9.0, 0.0]], [[1.0, 0.0]], [[-1.0, 0.0]]]])  # background, two classes
    other = torch.tensor([[[[9.0, 9.0]], [[0.0, 9.0]], [[4.0, 9.0]]]])
    flat = torch.ones(1, 1, 2, 2)
    value = UniDistill(config, [(1, 1), (1, 1)])(
        tapped(own, encoder_in=flat, bev=flat), tapped(other, encoder_in=flat, bev=flat), truth
    )
    assert value.item() == pytest.approx(1 / (1 + math.exp(-2)) - 1 / (1 + math.exp(-1)), rel=1e-4)


def test_mapdistill_agrees_with_itself_and_differs_from_others() -> None:
    torch.manual_seed(0)
    taps = {name: torch.randn(1, 4, 8, 8) for name in ("camera", "lidar", "encoder_in", "bev")}
    config = MapDistillConfig(source="teacher", patches=(2, 3), head=0)
    term = MapDistill(config, [(4, 4)] * 4, ())
    for projection in term.projections:
        torch.nn.init.eye_(projection.weight[:, :, 0, 0])
        torch.nn.init.zeros_(projection.bias)
    truth = on_lines(torch.zeros(1, 8, 8))
    assert term(tapped(**taps), tapped(**taps), truth).item() == pytest.approx(0, abs=1e-6)
    moved = {**taps, "bev": taps["bev"] + 2}
    assert term(tapped(**moved), tapped(**taps), truth).item() == pytest.approx(4.0, rel=1e-4)
    swapped = {**taps, "camera": taps["lidar"], "lidar": taps["camera"]}
    assert term(tapped(**swapped), tapped(**taps), truth) > 0.01


def test_mapdistill_heads_by_hand() -> None:
    """Cross-entropy to soft rasters, and the divergence of directions where the true line is."""
    config = MapDistillConfig(source="teacher", relation=0, features=0)
    logits = [torch.zeros(1, 2, 1, 2), torch.full((1, 2, 1, 2), 1.0)]
    directions = [torch.zeros(1, 2, 1, 2), torch.tensor([[[[1.0, 5.0]], [[0.0, -5.0]]]])]
    student, source = (
        ModelOutput(dense=DenseOutput(semantic, semantic, direction), taps={"encoder_in": semantic, "bev": semantic})
        for semantic, direction in zip(logits, directions, strict=True)
    )
    value = MapDistill(config, [(2, 2), (2, 2)], ())(student, source, on_lines(torch.tensor([[[1, 0]]])))
    share = 1 / (1 + math.exp(-1))
    kl = share * math.log(share / 0.5) + (1 - share) * math.log((1 - share) / 0.5)
    assert value.item() == pytest.approx(math.log(2) + kl, rel=1e-5)
