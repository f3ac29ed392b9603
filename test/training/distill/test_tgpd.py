"""Both readings of token-guided patch distillation: what the published one gives, and the other by hand."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from hdmap_core.model_io import DenseOutput, ModelOutput
from training.data.targets import Targets
from training.distill.term import TapPair
from training.distill.tgpd import TGPD, TGPDConfig, attention_logits, row_divergence
from training.distill.tgpd_published import PublishedTGPD, PublishedTGPDConfig

NO_TARGETS = Targets(None, torch.zeros(0), torch.zeros(0), torch.zeros(0), torch.ones(2))


def features(seed: int, *shape: int) -> Tensor:
    """As behind a batch norm and a ReLU."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).relu()


def said(features: Tensor, semantic: Tensor | None = None) -> ModelOutput:
    dense = None if semantic is None else DenseOutput(semantic, semantic, semantic)
    return ModelOutput(dense=dense, taps={"bev_small": features})


@pytest.mark.parametrize("projected", [True, False])
def test_published_attention_is_nothing_and_its_features_are_all(projected: bool) -> None:
    """The fact sheet's measurement at the published size: KL about -3e-8, gradient about 0, against the MSE's 1e-3."""
    torch.manual_seed(0)
    term = PublishedTGPD(PublishedTGPDConfig(source="teacher", projected=projected))
    ours, theirs = features(1, 2, 192, 25, 50).requires_grad_(), features(2, 2, 192, 25, 50)
    divergence = term.divergence(ours, theirs)
    assert abs(divergence.item()) < 2e-7
    (gradient,) = torch.autograd.grad(divergence, ours)
    assert gradient.norm() < 1e-10
    value = term(said(ours), said(theirs), NO_TARGETS)
    expected = F.mse_loss(ours, theirs)
    assert value.item() == pytest.approx(expected.item(), abs=1e-6)
    (gradient,) = torch.autograd.grad(value, ours)
    assert gradient.norm() > 1e-3


def test_published_by_hand() -> None:
    """Two raw patches whose products are small, so that nothing saturates: softmax of a softmax of 2 x 2 products."""
    config = PublishedTGPDConfig(source="teacher", projected=False, patch=1, features=0.5)
    ours, theirs = torch.tensor([[[[0.0, 1.0]]]]), torch.tensor([[[[1.0, 0.0]]]])
    first = math.e / (1 + math.e)  # a token of 1 with itself against the other

    def rows(one: float, other: float) -> tuple[float, float]:
        total = math.exp(one) + math.exp(other)
        return math.exp(one) / total, math.exp(other) / total

    strong, flat = rows(first, 1 - first), (0.5, 0.5)
    kl = sum(a * math.log(a / b) for a, b in zip(strong, flat, strict=True))
    kl += sum(a * math.log(a / b) for a, b in zip(flat, strong[::-1], strict=True))
    value = PublishedTGPD(config)(said(ours), said(theirs), NO_TARGETS)
    assert value.item() == pytest.approx(kl + 0.5 * 1.0, abs=1e-6)


def test_published_weights_are_drawn_anew_and_never_learnt() -> None:
    term = PublishedTGPD(PublishedTGPDConfig(source="teacher", patch=2, width=4))
    assert not list(term.parameters()) and not term.state_dict()
    ours, theirs = features(1, 1, 3, 4, 4) / 10, features(2, 1, 3, 4, 4) / 10
    assert term.divergence(ours, theirs) != term.divergence(ours, theirs)


def test_meant_has_a_gradient_where_the_published_has_none() -> None:
    """The same kind of features; the divergence alone, without the difference of features."""
    torch.manual_seed(0)
    term = TGPD(TGPDConfig(source="teacher", features=0.0), [(192, 192)])
    ours, theirs = features(1, 2, 192, 25, 50).requires_grad_(), features(2, 2, 192, 25, 50)
    value = term(said(ours), said(theirs), NO_TARGETS)
    (gradient,) = torch.autograd.grad(value, ours)
    assert value > 0.01 and gradient.norm() > 1e-4
    same = term(said(theirs), said(theirs), NO_TARGETS)
    assert same.item() == pytest.approx(0, abs=1e-6)


def test_meant_by_hand() -> None:
    """One channel normalises to 0, so two: three tokens, each row a softmax of the two others."""
    config = TGPDConfig(source="teacher", patches=(1, 2), keep=1.0, features=0.25)
    ours = torch.tensor([[[[2.0, 0.0]], [[0.0, 1.0]]]])  # patches (2, 0) and (0, 1), mean (1, 0.5)
    theirs = torch.tensor([[[[3.0, 5.0]], [[0.0, 0.0]]]])  # all alike once normalised: (1, -1)
    value = TGPD(config, [(2, 2)])(said(ours), said(theirs), NO_TARGETS)
    product = 2 / math.sqrt(2)  # of (1, -1) with itself; with (-1, 1) its negative
    # whole (1, -1), patches (1, -1) and (-1, 1): two rows have one partner alike and one opposed, the last has two
    alike, opposed = math.exp(product), math.exp(-product)
    shares = alike / (alike + opposed), opposed / (alike + opposed)
    kl = sum(0.5 * math.log(0.5 / share) for share in shares)
    difference = (0 + 0 + 4 + 4) / 4  # the second cell is opposed in both channels
    assert value.item() == pytest.approx(2 * kl / 3 + 0.25 * difference, rel=1e-3)


def test_the_source_selects_where_it_sees_lines() -> None:
    term = TGPD(TGPDConfig(source="teacher", patches=(2, 3), keep=1 / 3), [(4, 4)])
    semantic = torch.zeros(1, 4, 8, 12)
    semantic[:, 0] = 5.0  # background
    semantic[:, 2, 5, 9:11] = 9.0  # lower row, third column
    semantic[:, 1, 1, 1] = 9.0
    source = said(features(0, 1, 4, 4, 6), semantic)
    assert sorted(term.selected(source, source.taps["bev_small"])[0].tolist()) == [0, 5]
    without = term.selected(said(features(0, 1, 4, 4, 6)), features(0, 1, 4, 4, 6))
    assert without.shape == (1, 2)


def test_other_widths_and_resolutions() -> None:
    torch.manual_seed(0)
    pairs = (TapPair(student="bev_small", source="bev_small"),)
    term = TGPD(TGPDConfig(source="teacher", taps=pairs, patches=(2, 4)), [(6, 10)])
    ours = features(1, 2, 6, 10, 20).requires_grad_()
    term(said(ours), said(features(2, 2, 10, 5, 10)), NO_TARGETS).backward()
    assert ours.grad.any() and all(p.grad.any() for p in term.parameters())


def test_the_projection_is_learnt_where_widths_are_the_same() -> None:
    """A source that knows the same in another order of channels: without a projection nothing could be gained."""
    torch.manual_seed(0)
    ours = torch.randn(2, 4, 6, 10)
    term = TGPD(TGPDConfig(source="teacher", patches=(3, 5)), [(4, 4)])
    student, source = said(ours), said(ours[:, [2, 0, 3, 1]])
    optimizer = torch.optim.Adam(term.parameters(), lr=0.05)
    values = []
    for _ in range(120):
        optimizer.zero_grad()
        values.append(term(student, source, NO_TARGETS))
        values[-1].backward()
        optimizer.step()
    assert values[0] > 1 and values[-1] < 0.1 * values[0]


def test_rows_leave_out_a_token_itself() -> None:
    logits = attention_logits(torch.randn(2, 4, 8))
    assert torch.isinf(logits.diagonal(dim1=1, dim2=2)).all() and torch.isfinite(logits).sum() == 2 * 12
    assert row_divergence(logits, logits).item() == 0
