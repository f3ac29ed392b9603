from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hdmap_core.errors import ConfigError
from training.config import TrainConfig
from training.data.clutter import cluttered

SHAPE = 80, 160


def ground(seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, (4, *SHAPE), np.uint8)
    pixels[3] = np.where(random.random(SHAPE) < 0.9, 255, 0)
    pixels[:3, pixels[3] == 0] = 0
    return pixels


@settings(max_examples=25, deadline=None)
@given(strength=st.floats(0, 1), seed=st.integers(0, 2**32 - 1))
def test_unseen_stays_unseen_and_seen_stays_seen(strength: float, seed: int) -> None:
    before = ground()
    after = cluttered(before, strength, np.random.default_rng(seed))
    assert (before == ground()).all()
    assert after.shape == before.shape and after.dtype == np.uint8
    assert (after[3] == before[3]).all()
    unseen = before[3] == 0
    assert not after[:3, unseen].any() and after[:3, ~unseen].all()


def test_the_same_chance_makes_the_same_clutter() -> None:
    first, again, other = (cluttered(ground(), 1.0, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert (first == again).all() and (first != other).any()


def test_strength_says_how_much() -> None:
    before = ground().astype(int)

    def change(strength: float) -> float:
        runs = [cluttered(ground(), strength, np.random.default_rng(seed)) for seed in range(12)]
        return float(np.mean([np.abs(run - before).mean() for run in runs]))

    # A pixel of 0 that is seen becomes 1.
    assert change(0.0) < 0.01 < 5 * change(0.2) < 10 * change(0.5) and change(0.5) < change(1.0)


def test_streaks_run_away_from_the_car() -> None:
    """What clutter paints over even grey changes less along a ray from the middle than across it."""
    even = np.full((4, *SHAPE), 128, np.uint8)
    even[3] = 255
    rows, columns = np.indices(SHAPE)
    y, x = rows - (SHAPE[0] - 1) / 2, columns - (SHAPE[1] - 1) / 2
    across = along = 0.0
    for seed in range(30):
        pixels = cluttered(even, 1.0, np.random.default_rng(seed))[1].astype(float)
        by_row, by_column = np.gradient(pixels)
        distance = np.hypot(x, y)
        along += np.abs(by_column * x / distance + by_row * y / distance).mean()
        across += np.abs(by_row * x / distance - by_column * y / distance).mean()
    assert across > 1.1 * along


def test_models_of_images_alone_have_none(image_config: Callable[..., TrainConfig]) -> None:
    with pytest.raises(ConfigError, match=r"augment\.clutter is for models that see ground pixels"):
        image_config("augment.clutter=0.5")
