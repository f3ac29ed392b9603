"""Arc-line paths against nuscenes-devkit, against circles, and malformed."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely import LineString

from hdmap_core.datasets.nuscenes.arcline_path import SHAPES, polylines
from hdmap_core.errors import DatasetError

STRAIGHT = {
    "start_pose": [400.0, 1000.0, 0.0],
    "end_pose": [410.0, 1000.0, 0.0],
    "shape": "LSR",
    "radius": 999.999,
    "segment_length": [0.0, 10.0, 0.0],
}


def piece(**changes: Any) -> dict[str, Any]:
    return {**STRAIGHT, **changes}


lengths = st.one_of(st.just(0.0), st.floats(0.01, 12.0))
pieces = st.builds(
    piece,
    start_pose=st.tuples(st.floats(300, 500), st.floats(900, 1100), st.floats(-math.pi, math.pi)).map(list),
    shape=st.sampled_from(SHAPES),
    radius=st.floats(3.0, 999.999),
    segment_length=st.lists(lengths, min_size=3, max_size=3).filter(lambda values: sum(values) > 0.5),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(pieces, min_size=1, max_size=3))
def test_agrees_with_the_devkit(chain: list[dict[str, Any]]) -> None:
    pytest.importorskip("nuscenes", reason="nuscenes-devkit, the oracle, is not installed; make setup brings it")
    from nuscenes.map_expansion.arcline_path_utils import discretize_lane, pose_at_length

    for one in chain:
        line = polylines({"lane": [one]})["lane"]
        theirs = np.array(discretize_lane([one], 0.2))[:, :2]
        assert LineString(line).hausdorff_distance(LineString(theirs)) < 0.02
        end = pose_at_length(one, sum(one["segment_length"]))[:2]
        np.testing.assert_allclose(line[[0, -1]], [one["start_pose"][:2], end], atol=2e-3)
    together = polylines({"before": [STRAIGHT], "lane": chain, "after": [STRAIGHT]})
    np.testing.assert_allclose(together["before"], together["after"])
    parts = [polylines({"lane": [one]})["lane"] for one in chain]
    expected = np.concatenate([part[:-1] for part in parts[:-1]] + [parts[-1]])
    np.testing.assert_allclose(together["lane"], expected, atol=1e-6)


@pytest.mark.parametrize(("shape", "side"), [("LSL", 1.0), ("RSR", -1.0)])
def test_a_half_circle(shape: str, side: float) -> None:
    half = piece(start_pose=[0.0, 0.0, 0.0], shape=shape, radius=8.0, segment_length=[8.0 * math.pi, 0.0, 0.0])
    line = polylines({"u": [half]}, step=0.4)["u"]
    np.testing.assert_allclose(np.hypot(line[:, 0], line[:, 1] - side * 8.0), 8.0, atol=1e-9)
    np.testing.assert_allclose(line[-1], [0.0, side * 16.0], atol=1e-9)
    steps = np.hypot(*np.diff(line, axis=0).T)
    assert steps.max() <= 0.4 and steps.min() > 0.35
    assert (np.diff(line[:, 1]) * side > 0).all(), "in the driving direction"


def test_straights_have_two_vertices_and_joints_one() -> None:
    onwards = piece(start_pose=[410.0, 1000.0, 0.0], end_pose=[420.0, 1000.0, 0.0])
    np.testing.assert_allclose(polylines({"a": [STRAIGHT]})["a"], [[400, 1000], [410, 1000]])
    np.testing.assert_allclose(polylines({"a": [STRAIGHT, onwards]})["a"], [[400, 1000], [410, 1000], [420, 1000]])


def test_a_joint_that_overlaps_does_not_run_back() -> None:
    """Stored poses are rounded: a piece may begin a little before the end of the one before."""
    onwards = piece(start_pose=[409.99, 1000.0, 0.0])
    assert (np.diff(polylines({"a": [STRAIGHT, onwards]})["a"][:, 0]) > 0).all()


def test_paths_without_extent_are_left_out() -> None:
    nothing = piece(segment_length=[0.0, 0.0, -1e-12])
    assert list(polylines({"empty": [], "point": [nothing], "lane": [STRAIGHT, nothing]})) == ["lane"]
    assert polylines({}) == {}


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({key: value for key, value in STRAIGHT.items() if key != "radius"}, "lacks 'radius'"),
        (piece(shape="SLS"), "shape 'SLS'; known are LSL"),
        (piece(shape=None), "shape None"),
        (piece(radius=0.0), "positive radius"),
        (piece(radius=math.nan), "positive radius"),
        (piece(segment_length=[0.0, -3.0, 0.0]), "not negative"),
        (piece(segment_length=[0.0, 3.0]), "3 finite numbers"),
        (piece(start_pose=[0.0, math.inf, 0.0]), "3 finite numbers"),
        (piece(start_pose=None), "malformed"),
        ("lane-3", "malformed"),
    ],
)
def test_broken_pieces_are_named(broken: Any, message: str) -> None:
    with pytest.raises(DatasetError, match=rf"piece 1 of the arcline_path_3 of 'lane-7'.*{message}"):
        polylines({"lane-6": [STRAIGHT], "lane-7": [STRAIGHT, broken]})


def test_a_path_that_is_no_list_is_named() -> None:
    with pytest.raises(DatasetError, match="'lane-7' is no list"):
        polylines({"lane-7": 3})  # type: ignore[dict-item]
