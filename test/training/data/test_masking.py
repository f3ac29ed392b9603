"""Masking: how much is hidden of which class, and what the refiner then sees."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from hdmap_core.elements import MapClass
from training.data.masking import MaskingConfig, draw_hidden, masked_one_hot

CLASSES = (MapClass.DIVIDER, MapClass.PED_CROSSING, MapClass.BOUNDARY)
SHAPE = (200, 400)


def drawn(config: MaskingConfig, seed: int, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    return draw_hidden(config, CLASSES, shape, np.random.default_rng(seed))


@pytest.mark.parametrize("blocks", [25, 20, 10, 8])
def test_half_of_the_blocks_are_hidden_of_every_class(blocks: int) -> None:
    hidden = drawn(MaskingConfig(blocks=(blocks,)), 0)
    assert hidden.shape == (3, *SHAPE) and hidden.dtype == bool
    assert hidden.mean(axis=(1, 2)) == pytest.approx([0.5] * 3, abs=0.51 / blocks**2)
    whole = hidden.reshape(3, blocks, SHAPE[0] // blocks, blocks, SHAPE[1] // blocks)
    assert (whole.all(axis=(2, 4)) == whole.any(axis=(2, 4))).all(), "a block is hidden or not"


def test_boundaries_are_hidden_by_themselves() -> None:
    hidden = drawn(MaskingConfig(), 0)
    assert (hidden[0] == hidden[1]).all() and (hidden[0] != hidden[2]).any()
    swapped = draw_hidden(MaskingConfig(), CLASSES[::-1], SHAPE, np.random.default_rng(0))
    assert (swapped == hidden[::-1]).all()


def test_shares_are_drawn_within_their_ranges() -> None:
    config = MaskingConfig(blocks=(20,), ratio=(0.2, 0.7), boundary_ratio=(0.0, 0.5))
    shares = np.array([drawn(config, seed).mean(axis=(1, 2)) for seed in range(40)])
    assert (shares[:, 0] == shares[:, 1]).all()
    assert 0.19 < shares[:, 0].min() < 0.3 and 0.6 < shares[:, 0].max() < 0.71
    assert shares[:, 2].min() < 0.1 and 0.4 < shares[:, 2].max() < 0.51
    assert abs(np.corrcoef(shares[:, 0], shares[:, 2])[0, 1]) < 0.5, "drawn one by one"


def test_the_same_seed_hides_the_same() -> None:
    assert (drawn(MaskingConfig(), 3) == drawn(MaskingConfig(), 3)).all()
    assert len({drawn(MaskingConfig(), seed)[0].tobytes() for seed in range(5)}) == 5


@given(st.tuples(st.integers(1, 60), st.integers(1, 60)), st.integers(1, 25), st.integers(0, 9))
def test_blocks_of_any_shape(shape: tuple[int, int], blocks: int, seed: int) -> None:
    everything = drawn(MaskingConfig(blocks=(blocks,), ratio=(1, 1), boundary_ratio=(0, 0)), seed, shape)
    assert everything.shape == (3, *shape) and everything[:2].all() and not everything[2].any()


def test_what_is_hidden_is_background() -> None:
    semantic = torch.tensor([[[0, 1, 2, 3, 1, 3]]], dtype=torch.uint8)
    hidden = torch.zeros(1, 3, 1, 6, dtype=torch.bool)
    hidden[0, 0, 0, :3] = True  # dividers: in the cells of the first 1, but not of the second
    hidden[0, 2, 0, 3] = True
    seen = masked_one_hot(semantic, hidden, 3)
    assert seen.dtype == torch.float32 and seen.shape == (1, 4, 1, 6)
    assert seen.argmax(dim=1).flatten().tolist() == [0, 0, 2, 0, 1, 3]
    assert (seen.sum(dim=1) == 1).all()


def test_shares_out_of_order_are_refused() -> None:
    with pytest.raises(ValidationError, match="least share comes first"):
        MaskingConfig(ratio=(0.7, 0.1))
    with pytest.raises(ValidationError):
        MaskingConfig(boundary_ratio=(0, 1.5))
