"""Masked semantic response distillation by hand."""

import math

import pytest
import torch
from torch import Tensor

from hdmap_core.model_io import DenseOutput, ModelOutput
from training.data.dense_targets import DenseTargets
from training.data.targets import Targets
from training.distill.msrd import MSRD, MSRDConfig


def dense(logits: Tensor) -> ModelOutput:
    return ModelOutput(dense=DenseOutput(logits, logits, logits))


def on_lines(semantic: Tensor) -> Targets:
    """Targets whose dense raster is this (B, Y, X)."""
    rasters = DenseTargets(semantic.to(torch.uint8), semantic, semantic)
    return Targets(None, torch.zeros(0), torch.zeros(0), torch.zeros(0), torch.ones(2), dense=rasters)


def bce(logit: float, wanted: float) -> float:
    p = 1 / (1 + math.exp(-logit))
    return -wanted * math.log(p) - (1 - wanted) * math.log(1 - p)


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def test_published_is_the_mean_over_cells_on_true_lines_and_all_channels() -> None:
    ours = torch.tensor([[[[0.0, 1.0, 7.0]], [[2.0, -1.0, 7.0]]]], requires_grad=True)
    theirs = torch.tensor([[[[1.0, 0.0, -7.0]], [[-1.0, 3.0, -7.0]]]])
    truth = on_lines(torch.tensor([[[1, 1, 0]]]))
    value = MSRD(MSRDConfig(source="teacher"))(dense(ours), dense(theirs), truth)
    pairs = [(0, 1), (1, 0), (2, -1), (-1, 3)]
    assert value.item() == pytest.approx(sum(bce(own, sigmoid(other)) for own, other in pairs) / 4, rel=1e-5)
    value.backward()
    assert not ours.grad[..., 2].any(), "off the true lines nothing is taught"


def test_soft_goes_beyond_the_truth_by_how_sure_the_source_is() -> None:
    ours, theirs = torch.zeros(1, 2, 1, 2), torch.tensor([[[[0.0, 1.0]], [[0.0, 2.0]]]])
    value = MSRD(MSRDConfig(source="teacher", mask="soft"))(
        dense(ours), dense(theirs), on_lines(torch.tensor([[[1, 0]]]))
    )
    sure = sigmoid(2.0 - 1.0)  # the softmax's share of the class
    assert value.item() == pytest.approx((1 * math.log(2) + sure * math.log(2)) / (1 + sure), rel=1e-5)


def test_masks_and_another_resolution() -> None:
    ours = ModelOutput(semantic=torch.zeros(1, 1, 2, 2, requires_grad=True))
    theirs = ModelOutput(semantic=torch.full((1, 1, 4, 4), 3.0))
    masks = torch.zeros(1, 1, 2, 2, dtype=torch.uint8)
    masks[0, 0, 0, 0] = 1
    truth = Targets(masks, torch.zeros(0), torch.zeros(0), torch.zeros(0), torch.ones(2))
    value = MSRD(MSRDConfig(source="teacher"))(ours, theirs, truth)
    assert value.item() == pytest.approx(math.log(2), rel=1e-5)
    (gradient,) = torch.autograd.grad(value, ours.semantic)
    expected = torch.zeros(1, 1, 2, 2)
    expected[0, 0, 0, 0] = 0.5 - sigmoid(3.0)
    torch.testing.assert_close(gradient, expected)


def test_no_line_anywhere_is_zero() -> None:
    ours = torch.ones(1, 2, 3, 3, requires_grad=True)
    value = MSRD(MSRDConfig(source="teacher"))(dense(ours), dense(-ours.detach()), on_lines(torch.zeros(1, 3, 3)))
    value.backward()
    assert value == 0 and not ours.grad.any()
