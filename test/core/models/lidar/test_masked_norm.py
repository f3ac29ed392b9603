"""Masked batch norm: torch's own where nothing is masked, blind to masked rows, defined where nothing is left."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hdmap_core.models.lidar.masked_norm import MaskedBatchNorm


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(2, 40), hidden=st.integers(0, 20), seed=st.integers(0, 1000))
def test_is_batch_norm_of_the_valid_rows(rows: int, hidden: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    values = 3 * torch.randn(rows + hidden, 4, generator=generator) + 5
    valid = torch.zeros(rows + hidden, dtype=torch.bool)
    valid[torch.randperm(rows + hidden, generator=generator)[:rows]] = True
    values[~valid] *= 1000
    ours, theirs = MaskedBatchNorm(4), nn.BatchNorm1d(4)
    for norm in (ours, theirs):
        norm.weight.data = torch.tensor([1.0, -2.0, 0.5, 3.0])
        norm.bias.data = torch.tensor([0.0, 1.0, 2.0, -1.0])
    torch.testing.assert_close(ours(values, valid)[valid], theirs(values[valid]), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)
    torch.testing.assert_close(ours.running_var, theirs.running_var)
    ours.eval(), theirs.eval()
    torch.testing.assert_close(ours(values, valid)[valid], theirs(values[valid]), rtol=1e-4, atol=1e-4)


def test_gradients_are_those_of_batch_norm() -> None:
    values = torch.randn(12, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    valid = torch.arange(12) % 3 != 0
    ours, theirs = MaskedBatchNorm(3).double(), nn.BatchNorm1d(3).double()
    gradients = []
    for norm, arguments in ((ours, (valid,)), (theirs, ())):
        rows = (values if arguments else values[valid]).clone().requires_grad_()
        normed = norm(rows, *arguments)
        (normed[valid] if arguments else normed).pow(3).sum().backward()
        assert rows.grad is not None
        gradients.append(rows.grad[valid] if arguments else rows.grad)
        if arguments:
            assert not rows.grad[~valid].any()
    torch.testing.assert_close(*gradients)


def test_without_valid_rows_nothing_changes() -> None:
    norm = MaskedBatchNorm(3)
    norm(torch.randn(8, 3), torch.ones(8, dtype=torch.bool))
    before = norm.running_mean.clone(), norm.running_var.clone()
    for rows in (0, 5):
        assert norm(torch.randn(rows, 3), torch.zeros(rows, dtype=torch.bool)).isfinite().all()
    assert torch.equal(norm.running_mean, before[0]) and torch.equal(norm.running_var, before[1])
