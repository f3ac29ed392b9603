"""Deformable attention against loops that share nothing with it: bilinear weights by hand, zero outside of the map."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hdmap_core.models.layers.deformable_attention import DeformableAttention, deformable_sample, ring_offsets


def bilinear(image: np.ndarray, x: float, y: float) -> np.ndarray:
    """(D,) of (D, h, w) at pixel (x, y), whole numbers being centres."""
    total = np.zeros(len(image))
    left, top = math.floor(x), math.floor(y)
    for row, column in [(top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)]:
        if 0 <= row < image.shape[1] and 0 <= column < image.shape[2]:
            total += image[:, row, column] * (1 - abs(x - column)) * (1 - abs(y - row))
    return total


def slow_sample(value: np.ndarray, locations: np.ndarray, weights: np.ndarray) -> np.ndarray:
    batch, heads, depth, height, width = value.shape
    queries, samples = weights.shape[2:]
    out = np.zeros((batch, queries, heads, depth))
    for b, q, m, t in np.ndindex(batch, queries, heads, samples):
        x, y = locations[b, m, q, t] * [width, height] - 0.5
        out[b, q, m] += weights[b, m, q, t] * bilinear(value[b, m], x, y)
    return out.reshape(batch, queries, heads * depth)


@settings(max_examples=25, deadline=None)
@given(
    shape=st.tuples(*(st.integers(1, high) for high in (2, 3, 3, 5, 6, 4, 3))),
    spread=st.sampled_from([0.6, 1.0, 3.0]),
    seed=st.integers(0, 1000),
)
def test_sampling_is_that_of_the_loops(shape: tuple[int, ...], spread: float, seed: int) -> None:
    batch, heads, depth, height, width, queries, samples = shape
    rng = np.random.default_rng(seed)
    value = rng.normal(size=(batch, heads, depth, height, width))
    locations = 0.5 + spread * rng.uniform(-1, 1, size=(batch, heads, queries, samples, 2))
    weights = rng.normal(size=(batch, heads, queries, samples))
    got = deformable_sample(*(torch.from_numpy(a).float() for a in (value, locations, weights)))
    assert got.shape == (batch, queries, heads * depth)
    np.testing.assert_allclose(got.numpy(), slow_sample(value, locations, weights), atol=2e-4)


def test_the_centre_of_a_cell_reads_that_cell() -> None:
    value = torch.randn(1, 1, 3, 5, 8, generator=torch.Generator().manual_seed(0))
    rows, columns = torch.meshgrid(torch.arange(5), torch.arange(8), indexing="ij")
    centres = torch.stack([(columns + 0.5) / 8, (rows + 0.5) / 5], dim=-1).view(1, 1, 40, 1, 2)
    got = deformable_sample(value, centres, torch.ones(1, 1, 40, 1))
    torch.testing.assert_close(got, value.flatten(3)[:, 0].transpose(1, 2), atol=1e-5, rtol=0)


def test_far_outside_is_zero() -> None:
    locations = torch.tensor([[-0.2, 0.5], [1.2, 0.5], [0.5, -0.3], [0.5, 1e6]]).view(1, 1, 4, 1, 2)
    assert not deformable_sample(torch.ones(1, 1, 2, 5, 8), locations, torch.ones(1, 1, 4, 1)).any()


def test_attention_is_that_of_the_loops() -> None:
    torch.manual_seed(0)
    module = DeformableAttention(6, heads=2, samples=3).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.3 * torch.randn(parameter.shape)
    query, reference, features = torch.randn(2, 4, 6), torch.rand(2, 4, 2), torch.randn(2, 6, 5, 7)
    with torch.no_grad():
        got = module(query, reference, features)
        offset = module.offset(query).view(2, 4, 2, 3, 2).numpy()
        logits = module.weight(query).view(2, 4, 2, 3).numpy()
    weights = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    kernel, bias = (p.detach().numpy() for p in (module.value.weight, module.value.bias))
    value = np.einsum("oc,bchw->bohw", kernel[:, :, 0, 0], features.numpy()) + bias[:, None, None]
    locations = reference.numpy()[:, :, None, None] + offset / [7, 5]
    slow = slow_sample(value.reshape(2, 2, 3, 5, 7), locations.transpose(0, 2, 1, 3, 4), weights.transpose(0, 2, 1, 3))
    np.testing.assert_allclose(got.numpy(), slow, atol=1e-4)


def test_first_offsets_lie_on_squares_of_growing_size() -> None:
    ring = ring_offsets(8, 4)
    assert ring.shape == (8, 4, 2)
    torch.testing.assert_close(ring.abs().amax(dim=-1), torch.arange(1, 5.0).expand(8, 4))
    torch.testing.assert_close(ring[1, 2], torch.tensor([3.0, 3.0]))
    torch.testing.assert_close(ring[4, 0], torch.tensor([-1.0, 0.0]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_places_are_not_rounded_under_autocast(dtype: torch.dtype) -> None:
    """A map that is its own x coordinate tells where it was read; half precision would be off by whole cells."""
    value = torch.arange(200.0).expand(1, 1, 1, 3, 200)
    reference = (torch.arange(200) + 0.5)[None, :, None].expand(1, 200, 2) / 200
    with torch.autocast("cpu", dtype=dtype):
        got = deformable_sample(
            value,
            torch.full((1, 1, 200, 1, 2), 0.5).index_copy(
                4, torch.tensor([0]), reference[..., :1].view(1, 1, 200, 1, 1)
            ),
            torch.ones(1, 1, 200, 1),
        )
    torch.testing.assert_close(got[0, :, 0], torch.arange(200.0), atol=1e-3, rtol=0)
