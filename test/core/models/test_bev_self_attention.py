"""The BEV and its past: warping by a known motion, and the attention on both against a slow reference."""

import math

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates
from torch import Tensor

from hdmap_core.geometry import BEVGrid
from hdmap_core.models.view_transforms.bev_self_attention import BEVSelfAttention, PastBEV

GRID = BEVGrid((-6.0, 9.0), (-4.0, 4.0), 0.5)  # (16, 30), the car not in its middle


def motion(x: float, y: float, yaw: float) -> Tensor:
    """ego_from_previous of a planar motion."""
    pose = torch.eye(4)
    pose[:2, :2] = torch.tensor([[math.cos(yaw), -math.sin(yaw)], [math.sin(yaw), math.cos(yaw)]])
    pose[:2, 3] = torch.tensor([x, y])
    return pose


def landscape(ego_points: Tensor) -> Tensor:
    """(..., 2) metres -> (3, ...): smooth things on the ground."""
    x, y = ego_points.unbind(-1)
    return torch.stack([torch.sin(x / 4), torch.cos(y / 3 + x / 9), x / 10 + y / 5])


@settings(max_examples=20, deadline=None)
@given(
    moves=st.lists(
        st.tuples(st.floats(-3, 3), st.floats(-2, 2), st.floats(-0.6, 0.6)).map(lambda m: motion(*m)),
        min_size=2,
        max_size=2,
    )
)
def test_the_past_comes_back_aligned(moves: list[Tensor]) -> None:
    """Two samples that moved differently: what they saw before lies where they would see it now."""
    centres = GRID.cell_centres()
    previous = torch.stack([landscape(centres @ pose[:2, :2].T + pose[:2, 3]) for pose in moves])
    warped, covered = PastBEV(GRID)(previous, torch.stack(moves))
    assert warped.shape == (2, 3, 16, 30) and covered.shape == (2, 1, 16, 30)
    for sample, pose in enumerate(moves):
        before = (centres - pose[:2, 3]) @ pose[:2, :2]  # where each cell lay in the earlier frame
        cells = GRID.to_cells(before)
        interior = (cells > 0).all(-1) & (cells[..., 0] < 29) & (cells[..., 1] < 15)
        assert interior.any() and covered[sample, 0][interior].all()
        error = (warped[sample] - landscape(centres)).abs()[:, interior]
        assert error.max() < 0.01
        clearly_outside = (cells < -0.6).any(-1) | (cells[..., 0] > 29.6) | (cells[..., 1] > 15.6)
        assert not covered[sample, 0][clearly_outside].any()


def test_whole_cells_and_quarter_turns_are_exact() -> None:
    """Driving two cells forward brings what lay in column c to c - 2; after a left turn, what lay ahead lies right."""
    previous = torch.randn(1, 2, 16, 30, generator=torch.Generator().manual_seed(0))
    warped, covered = PastBEV(GRID)(previous, motion(-1.0, 0.5, 0.0)[None])
    torch.testing.assert_close(warped[..., 1:, :28], previous[..., :15, 2:], atol=1e-4, rtol=0)
    assert covered[..., 1:, :28].all() and not covered[..., 28:].any() and not covered[..., 0, :].any()
    square = BEVGrid((-2.0, 2.0), (-2.0, 2.0), 0.5)
    ahead = torch.zeros(1, 1, 8, 8)
    ahead[..., 3, 6] = 1.0  # x = 1.25, y = -0.25
    warped, covered = PastBEV(square)(ahead, motion(0, 0, -math.pi / 2)[None])
    assert covered.all()
    assert warped[0, 0].round(decimals=4).nonzero().tolist() == [[1, 3]]  # x = -0.25, y = -1.25


def test_standing_still_changes_nothing() -> None:
    previous = torch.randn(2, 2, 16, 30, generator=torch.Generator().manual_seed(0))
    warped, covered = PastBEV(GRID)(previous, torch.eye(4).expand(2, 4, 4))
    assert covered.all()
    torch.testing.assert_close(warped, previous, atol=1e-4, rtol=0)


def slow_self_attention(module: BEVSelfAttention, bev: Tensor, position: Tensor, before: Tensor) -> np.ndarray:
    """One sample, cell by cell; bev, position and before are (Q, C)."""
    rows, columns = module.shape
    heads, samples = module.heads, module.samples
    with torch.no_grad():
        query = torch.cat([before, bev + position], dim=-1)
        offset = module.offset(query).view(-1, 2, heads, samples, 2).numpy()
        logits = module.weight(query).view(-1, 2, heads, samples).double().numpy()
        values = [module.value(m).T.reshape(heads, -1, rows, columns).numpy() for m in (before, bev)]
    read = np.zeros((len(bev), heads, values[0].shape[1]))
    for q, m in np.ndindex(len(bev), heads):
        for which in range(2):
            weight = np.exp(logits[q, which, m]) / np.exp(logits[q, which, m]).sum()
            x, y = q % columns + offset[q, which, m, :, 0], q // columns + offset[q, which, m, :, 1]
            for depth, image in enumerate(values[which][m]):
                read[q, m, depth] += weight @ map_coordinates(image, [y, x], order=1, mode="grid-constant") / 2
    weight, bias = module.output.weight.detach().numpy(), module.output.bias.detach().numpy()
    return read.reshape(len(bev), -1) @ weight.T + bias


def test_self_attention_is_that_of_the_loops_with_and_without_a_past() -> None:
    grid = BEVGrid((0.0, 3.0), (-1.0, 1.0), 0.5)  # (4, 6)
    torch.manual_seed(0)
    module = BEVSelfAttention(8, grid=grid, heads=2, samples=3).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.2 * torch.randn(parameter.shape)
    bev, position, past = torch.randn(3, 24, 8), torch.randn(24, 8), torch.randn(3, 24, 8)
    known = torch.rand(3, 24, 1) < 0.6
    with torch.no_grad():
        alone, both = module(bev, position), module(bev, position, (past, known))
    for sample in range(3):
        slow = slow_self_attention(module, bev[sample], position, bev[sample])
        np.testing.assert_allclose(alone[sample].numpy(), slow, atol=1e-4)
        before = torch.where(known[sample], past[sample], bev[sample])
        slow = slow_self_attention(module, bev[sample], position, before)
        np.testing.assert_allclose(both[sample].numpy(), slow, atol=1e-4)
    assert (alone - both).abs().max() > 0.1
