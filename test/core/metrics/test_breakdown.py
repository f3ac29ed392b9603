"""Parts of a score: what a part says must follow from its frames and its ring alone."""

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from hdmap_core.elements import MapClass, MapElement
from hdmap_core.errors import ElementError
from hdmap_core.geometry import polyline
from hdmap_core.metrics.breakdown import MIN_PIECE, breakdown, clipped, distance_bands
from hdmap_core.metrics.breakdown_report import breakdown_json, group_table
from hdmap_core.metrics.chamfer_ap import chamfer_ap

DIVIDER, CROSSING, BOUNDARY = MapClass.DIVIDER, MapClass.PED_CROSSING, MapClass.BOUNDARY
BANDS = [(0.0, 10.0), (10.0, 20.0), (20.0, 30.0)]


def straight(
    y: float, x0: float = -28.0, x1: float = 28.0, score: float = 1.0, label: MapClass = DIVIDER
) -> MapElement:
    return MapElement(label, np.array([[x0, y], [x1, y]]), score=score)


def test_bands_reach_the_farthest_side() -> None:
    assert distance_bands((-30, 30), (-15, 15)) == BANDS
    assert distance_bands((-50, 50), (-25, 25))[-1] == (40, 50)
    assert distance_bands((-7.2, 7.2), (-4.8, 4.8)) == [(0, 10)]


def test_a_line_is_cut_at_the_circles() -> None:
    line = straight(0.0, -28, 28, score=0.7)
    assert [clipped([line], BANDS[0])[0].points[:, 0].tolist()] == [pytest.approx([-10, 10], abs=0.02)]
    ahead_and_behind = clipped([line], BANDS[1])
    assert sorted(piece.points[:, 0].mean() for piece in ahead_and_behind) == pytest.approx([-15, 15], abs=0.02)
    assert all(piece.score == 0.7 and piece.label is DIVIDER and not piece.closed for piece in ahead_and_behind)
    assert not clipped([straight(5.0, -2, 2)], BANDS[1])


def test_what_lies_inside_is_left_as_it_is_and_stubs_are_left_out() -> None:
    ring = MapElement(CROSSING, np.array([[12.0, 0], [14, 0], [14, 4], [12, 4]]), closed=True)
    assert clipped([ring], BANDS[1])[0] is ring
    assert not clipped([straight(0.0, 5.0, 10 + 0.9 * MIN_PIECE)], BANDS[1])
    assert len(clipped([straight(0.0, 5.0, 10 + 1.1 * MIN_PIECE)], BANDS[1])) == 1


def test_a_cut_ring_does_not_fall_apart_at_its_first_point() -> None:
    """The first point lies inside the band: the piece through it is one line."""
    ring = MapElement(CROSSING, np.array([[12.0, 0], [12, 2], [6, 2], [6, -2], [12, -2]]), closed=True)
    (piece,) = clipped([ring], BANDS[1])
    assert not piece.closed and polyline.length(piece.points) == pytest.approx(4 + 2 * (12 - np.sqrt(96)), abs=0.05)


coordinates = st.tuples(st.floats(-30, 30, width=32), st.floats(-15, 15, width=32))
lines = st.builds(
    lambda points, label: MapElement(label, np.array(points, dtype=np.float32)),
    st.lists(coordinates, min_size=2, max_size=5, unique=True),
    st.sampled_from([DIVIDER, CROSSING, BOUNDARY]),
).filter(lambda e: polyline.length(e.points) > 2 * MIN_PIECE and shapely.LineString(e.points).is_simple)
"""Not on themselves and back: of two equal pieces, both protocols find only one."""


def turned(element: MapElement, number: int) -> MapElement:
    """Each line of a frame by another angle: of two equal lines, both protocols find only one."""
    angle = 0.1 + number
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return MapElement(element.label, element.points @ turn.T)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(lines, max_size=4), min_size=1, max_size=3), st.sampled_from(["maptr", "streammapnet"]))
def test_ground_truth_against_itself_is_perfect_everywhere(frames: list[list[MapElement]], protocol: str) -> None:
    truth = {f"frame-{index}": [turned(e, n) for n, e in enumerate(lines)] for index, lines in enumerate(frames)}
    groups = {"scene": {token: [token] for token in truth}}
    parts = breakdown(truth, truth, groups, BANDS, protocol)
    for scores in parts.groups.values():
        for group in scores:
            assert (group.mean_ap is None) == (group.num_truth == 0)
            assert group.mean_ap is None or group.mean_ap == pytest.approx(1.0)
    assert parts.frame_f1 == {token: 1.0 for token, elements in truth.items() if elements}


def test_groups_are_scored_as_if_alone() -> None:
    truth = {"a": [straight(0)], "b": [straight(3), straight(-3, label=BOUNDARY)], "c": []}
    found = {"a": [straight(0.3, score=0.9)], "b": [straight(9, score=0.8)], "c": [straight(1, score=0.7)]}
    parts = breakdown(found, truth, {"weather": {"dry": ["a", "c"], "rain": ["b"]}}, BANDS)
    assert parts.overall.mean_ap == chamfer_ap(found, truth).mean_ap
    dry, rain = parts.groups["weather"]
    alone = chamfer_ap({k: found[k] for k in "ac"}, {k: truth[k] for k in "ac"}, classes=[DIVIDER])
    assert dry.ap == {DIVIDER: alone.mean_ap, CROSSING: None, BOUNDARY: None} and dry.mean_ap == alone.mean_ap == 1.0
    assert (rain.num_frames, rain.num_truth, rain.num_predictions, rain.mean_ap) == (1, 2, 1, 0.0)
    # Frame a: 0.3 m off, found at every threshold; b: 0 of 3; c: nothing to find, one found.
    assert parts.frame_f1 == {"a": 1.0, "b": 0.0, "c": 0.0}


def test_frame_f1_by_hand() -> None:
    """0.7 m off: missed at 0.5 m, found at 1.0 and 1.5; a faint one is not counted; one of two is missed."""
    truth = {"a": [straight(0), straight(8)]}
    found = {"a": [straight(0.7, score=0.9), straight(8, score=0.2)]}
    assert breakdown(found, truth, {}, BANDS).frame_f1["a"] == pytest.approx((0 + 2 / 3 + 2 / 3) / 3)


def test_a_far_error_is_seen_in_the_far_band_only() -> None:
    bent = MapElement(DIVIDER, np.array([[0.0, 0], [19, 0], [29, 9]]), score=0.9)
    parts = breakdown({"a": [bent]}, {"a": [straight(0, 0, 28)]}, {}, BANDS)
    near, middle, far = (group.ap[DIVIDER] for group in parts.groups["distance"])
    assert near == 1.0 and middle == 1.0 and far is not None and far < 0.5


def test_tables_and_json() -> None:
    scenes = {f"scene-{index:04d}": ["a" if index else "b"] for index in range(14)}
    parts = breakdown({"a": [straight(0)]}, {"a": [straight(0)], "b": [straight(5)]}, {"scene": scenes}, BANDS)
    console = Console(width=100, record=True)
    console.print(group_table("scene", parts.groups["scene"]))
    text = console.export_text()
    assert "the 12 worst of 14" in text and text.index("scene-0000") < text.index("scene-0001") and "–" in text
    first = breakdown_json(parts)["scene"][0]
    assert first["AP"] == {"divider": 0.0, "ped_crossing": None, "boundary": None} and first["mAP"] == 0.0


def test_a_prediction_without_truth_is_refused() -> None:
    with pytest.raises(ElementError, match="have no ground truth"):
        breakdown({"b": []}, {"a": []}, {}, BANDS)
