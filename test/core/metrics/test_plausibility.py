"""Readings of a file that would score far better are told, bad models are not."""

from collections.abc import Callable

import numpy as np
import pytest

from hdmap_core.elements import MapClass, MapElement
from hdmap_core.metrics.plausibility import doubts

DIVIDER, CROSSING, BOUNDARY = MapClass.DIVIDER, MapClass.PED_CROSSING, MapClass.BOUNDARY


def town(number: int, noise: float = 0.0) -> list[MapElement]:
    """Four lines along the road and a crossing; with noise, predictions of them."""
    random = np.random.default_rng(number)
    x = np.linspace(-25, 25, 20)
    lines = [(DIVIDER, 2.5), (DIVIDER, -5.0), (BOUNDARY, 9.0), (BOUNDARY, -12.0)]
    shapes = [(label, np.stack([x, y + np.sin(x / 9 + number)], axis=1), False) for label, y in lines]
    shapes.append((CROSSING, np.array([[9, -5], [12, -5], [12, 6], [9, 6]], float), True))
    return [
        MapElement(label, points + random.normal(0, noise, points.shape), closed) for label, points, closed in shapes
    ]


TRUTH = {f"token{number}": town(number) for number in range(6)}
PREDICTED = {f"token{number}": town(number, 0.5) for number in range(5)}


@pytest.mark.parametrize(
    ("turn", "words"),
    [
        (lambda xy: np.stack([xy[:, 1], -xy[:, 0]], axis=1), "turned by 90 degrees to the left"),
        (lambda xy: np.stack([-xy[:, 1], xy[:, 0]], axis=1), "turned by 90 degrees to the right"),
        (lambda xy: xy * (1, -1), "mirrored left and right"),
    ],
)
def test_other_axes_are_told(turn: Callable[[np.ndarray], np.ndarray], words: str) -> None:
    turned = {
        token: [MapElement(e.label, turn(e.points), e.closed, e.score) for e in elements]
        for token, elements in PREDICTED.items()
    }
    (doubt,) = doubts(turned, TRUTH)
    assert words in doubt
    assert doubts(PREDICTED, TRUTH) == []


def test_a_bad_model_raises_no_doubt() -> None:
    random = np.random.default_rng(0)
    bad = {
        token: [MapElement(DIVIDER, random.uniform(-15, 15, (20, 2)), score=0.5) for _ in range(8)] for token in TRUTH
    }
    assert doubts(bad, TRUTH) == []
    assert doubts({}, TRUTH) == []


def test_exchanged_classes_are_told() -> None:
    exchanged = {DIVIDER: BOUNDARY, BOUNDARY: DIVIDER, CROSSING: CROSSING}
    renamed = {
        token: [MapElement(exchanged[e.label], e.points, e.closed, e.score) for e in elements]
        for token, elements in PREDICTED.items()
    }
    (doubt,) = doubts(renamed, TRUTH)
    assert "divider were boundary, boundary were divider" in doubt and "--label-order" in doubt
