"""The experiment that compares weathers on the same towns: shares of a clear day's mAP and their error."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from hdmap_core.elements import MapClass, MapElement


@pytest.fixture(scope="module")
def same_streets(load_module: Callable[[Path], ModuleType]) -> ModuleType:
    return load_module(Path(__file__).resolve().parents[2] / "experiments" / "same_streets.py")


def test_what_a_weather_leaves_and_how_far_the_scenes_agree(same_streets: ModuleType) -> None:
    line = MapElement(MapClass.DIVIDER, np.array([[-10.0, 2.0], [10.0, 2.0]]))
    true = {(scene, number): [line] for scene in "ab" for number in range(2)}
    clear = same_streets.matched(true, true)
    assert same_streets.share(clear, clear) == (1.0, 0.0)
    half = {key: [line] * (key[1] == 0) for key in true}
    assert same_streets.share(same_streets.matched(half, true), clear) == pytest.approx((0.5, 0.0))
    one = {key: [line] * (key[0] == "a") for key in true}
    # Without a nothing is left, without b everything: sqrt((2 - 1) / 2 * (0.5 ** 2 + 0.5 ** 2)).
    assert same_streets.share(same_streets.matched(one, true), clear) == pytest.approx((0.5, 0.5))
    assert np.isnan(same_streets.share({"a": clear["a"]}, {"a": clear["a"]})[1])
