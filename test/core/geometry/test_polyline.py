import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hdmap_core.geometry import polyline

SQUARE = np.array([[0.0, 0], [4, 0], [4, 4], [0, 4]])


def test_lengths() -> None:
    assert polyline.length(SQUARE) == 12
    assert polyline.length(SQUARE, closed=True) == 16
    assert polyline.closed_ring(SQUARE)[-1].tolist() == [0, 0]


def test_open_lines_keep_their_ends() -> None:
    line = np.array([[0.0, 0], [1, 0], [10, 0]])
    np.testing.assert_allclose(polyline.resample(line, 6)[:, 0], [0, 2, 4, 6, 8, 10])
    assert polyline.resample(line.astype(np.float32), 6).dtype == np.float32


def test_rings_are_spread_over_the_closing_edge() -> None:
    points = polyline.resample(SQUARE, 8, closed=True)
    expected = [[0, 0], [2, 0], [4, 0], [4, 2], [4, 4], [2, 4], [0, 4], [0, 2]]
    np.testing.assert_allclose(points, expected)


def test_repeated_points_do_no_harm() -> None:
    line = np.array([[0.0, 0], [0, 0], [4, 0], [4, 0]])
    np.testing.assert_allclose(polyline.resample(line, 3), [[0, 0], [2, 0], [4, 0]])
    np.testing.assert_allclose(polyline.resample(np.ones((3, 2)), 4), np.ones((4, 2)))


@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    points=st.lists(st.tuples(st.floats(-50, 50), st.floats(-50, 50)), min_size=2, max_size=8),
    num=st.integers(2, 50),
)
def test_samples_lie_on_the_line_and_evenly(points: list, num: int) -> None:
    line = np.array(points)
    sampled = polyline.resample(line, num)
    assert sampled.shape == (num, 2)
    np.testing.assert_allclose(sampled[[0, -1]], line[[0, -1]], atol=1e-9)
    gaps = np.linalg.norm(np.diff(sampled, axis=0), axis=1)
    assert gaps.max() <= polyline.length(line) / (num - 1) + 1e-9  # chords are never longer than the arc
    assert gaps.sum() <= polyline.length(line) + 1e-6


def test_length_of_a_ring_is_that_of_its_open_form() -> None:
    assert polyline.length(polyline.closed_ring(SQUARE)) == pytest.approx(polyline.length(SQUARE, closed=True))
