"""HDMapNet's and P-MapNet's AP: their quirks, and the quick code against the plain one."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from hdmap_core.elements import MapClass, MapElement
from hdmap_core.errors import ElementError
from hdmap_core.geometry import BEVGrid
from hdmap_core.metrics.raster_ap import (
    RASTER_PROTOCOLS,
    RasterProtocol,
    frame_ap,
    match_lines,
    published_and_honest,
    raster_ap,
)
from hdmap_core.metrics.raster_lines import RasterLines, distances, draw, overlaps

GRID = BEVGrid(resolution=0.15)
SMALL = BEVGrid((-3.0, 3.0), (-1.5, 1.5), 0.15)
D, C, B = MapClass.DIVIDER, MapClass.PED_CROSSING, MapClass.BOUNDARY


def line(*points: tuple[float, float], label: MapClass = D, score: float = 1.0) -> MapElement:
    return MapElement(label, np.array(points), score=score)


def lane(y: float, score: float = 1.0, start: float = -20.0, end: float = 20.0) -> MapElement:
    return line((start, y), (end, y), score=score)


@pytest.mark.parametrize(("false_score", "ap"), [(0.1, 0.625), (0.95, 1.0)])
def test_false_positives_with_low_scores_cost_most(false_score: float, ap: float) -> None:
    truth = [lane(y) for y in (-10, -5, 0, 5, 10)]
    found = [lane(y, 0.9) for y in (-10, -5, 0, 5, 10)]
    false = [line((x, 12.5), (x + 5, 12.5), score=false_score) for x in (-20, 0, 20)]
    for protocol in RASTER_PROTOCOLS:
        if protocol != "hdmapnet-code":  # whose 6 m forgive nearly everything
            score = raster_ap({"a": found + false}, {"a": truth}, protocol, [D], GRID)
            assert score.mean_ap == pytest.approx(ap)


def test_a_quarter_of_each_line_is_perfect_for_pmapnet() -> None:
    truth = [lane(y) for y in (-10, -5, 0, 5, 10)]
    quarter = [lane(y, start=0, end=10) for y in (-10, -5, 0, 5, 10)]
    assert raster_ap({"a": quarter}, {"a": truth}, "pmapnet", [D], GRID).mean_ap == 1.0
    assert raster_ap({"a": quarter}, {"a": truth}, "hdmapnet", [D], GRID).mean_ap == 0.0
    assert published_and_honest({"a": quarter}, {"a": truth}, "pmapnet", [D])[1].mean_ap == 0.0


def test_pmapnet_wants_overlap_and_a_failing_best_pair_takes_both_lines_out() -> None:
    truth = [lane(0.0)]
    stub = lane(0.0, start=0, end=2)  # 0 m from the truth, but an IoU of 0.05
    near = line((-20, 0.3), (20, 0.3), score=0.5)
    with_stub = raster_ap({"a": [near, stub]}, {"a": truth}, "pmapnet", [D], GRID)
    assert with_stub.mean_ap == 0.0
    assert raster_ap({"a": [near]}, {"a": truth}, "pmapnet", [D], GRID).mean_ap == 1.0


def test_frames_without_lines_do_not_count_and_false_positives_alone_count_as_zero() -> None:
    truth = {"found": [lane(0)], "nothing": [], "false": []}
    score = raster_ap({"found": [lane(0)], "false": [lane(5)]}, truth, "hdmapnet", [D, B], GRID)
    assert score.classes[D].mean_ap == pytest.approx(0.5)
    assert (score.classes[D].num_frames, score.classes[D].num_truth, score.classes[D].num_predictions) == (2, 1, 2)
    assert (score.classes[B].num_frames, score.classes[B].mean_ap) == (0, 0.0)
    assert (score.num_frames, score.frames_without_prediction) == (3, 1)
    assert score.mean_ap == pytest.approx(0.25)


def test_thresholds_are_the_papers_and_the_codes() -> None:
    shifted = raster_ap({"a": [lane(1.8)]}, {"a": [lane(0)]}, "hdmapnet", [D], GRID)
    assert shifted.classes[D].ap == {0.2: 0.0, 0.5: 0.0, 1.0: 0.0}
    shifted = raster_ap({"a": [lane(1.8)]}, {"a": [lane(0)]}, "hdmapnet-code", [D], GRID)
    assert shifted.classes[D].ap == {2.0: 1.0, 4.0: 1.0, 6.0: 1.0}
    assert RASTER_PROTOCOLS["pmapnet"].thresholds == (0.5, 1.0, 1.5)


def test_crossings_are_two_edges_in_both_figures() -> None:
    outline = MapElement(C, np.array([[0, -5], [3, -5], [3, 5], [0, 5]]), closed=True)
    edges = [line((0, -5), (0, 5), label=C), line((3, -5), (3, 5), label=C)]
    for found in (edges, [outline]):
        published, honest = published_and_honest({"a": found}, {"a": [outline]}, "hdmapnet", [C])
        assert published.classes[C].num_truth == 2
        assert published.mean_ap == honest.mean_ap == pytest.approx(1.0)


def test_a_line_cut_into_pieces_counts_as_several_and_keeps_its_score() -> None:
    out_and_in = line((-2.8, 0), (0, 4), (2.8, 0), score=0.4)
    lines = draw([line((0, -1), (1, -1), score=0.9), out_and_in], SMALL, 5)
    np.testing.assert_allclose(lines.score, [0.9, 0.4, 0.4])
    assert draw([line((20, 20), (30, 20))], SMALL, 5).cells == []
    loop = line((-2, 0), (2, 0), (2, 1), (0, 1), (0, -1), score=0.3)
    assert draw([loop], SMALL, 1).score.tolist() == [0.3, 0.3, 0.3], "to its crossing, round, and on"


@pytest.mark.parametrize("text", ["60x30@0.15", "60x30@0.1", "120x60@0.3", "240x60@0.3"])
def test_a_vertex_on_the_edge_of_a_cell_is_in_the_cell_above(text: str) -> None:
    """Whatever float32 makes of it: 7.35 m, 249 cells of 0.15 m from -30 m, is 7.3499999."""
    grid = BEVGrid.parse(text, 0.15)
    rows, columns = grid.shape
    for number in range(1, columns - 1):
        x = grid.x_range[0] + number * grid.resolution
        y = grid.y_range[0] + (number % (rows - 2) + 1) * grid.resolution
        drawn = draw([line((x, y), (x + 0.3 * grid.resolution, y + 0.3 * grid.resolution))], grid, 1)
        assert np.argwhere(drawn.labels).tolist() == [[number % (rows - 2) + 1, number]]


def test_a_later_line_covers_an_earlier_one() -> None:
    lines = draw([lane(0), lane(1), lane(0, score=0.5)], SMALL, 5)
    np.testing.assert_allclose(lines.score, [1.0, 0.5])
    assert lines.numbers.tolist() == [2, 3]


def test_nothing_is_changed() -> None:
    elements = [MapElement(C, np.array([[0, -5], [3, -5], [3, 5], [0, 5]]), closed=True), lane(0)]
    before = [element.points.copy() for element in elements]
    raster_ap({"a": elements}, {"a": elements})
    for element, points in zip(elements, before, strict=True):
        np.testing.assert_array_equal(element.points, points)


@pytest.mark.parametrize(
    ("predictions", "truth", "protocol", "message"),
    [
        ({}, {"a": []}, "maptr", "known are hdmapnet, hdmapnet-code, pmapnet"),
        ({}, {}, "hdmapnet", "no ground-truth frame"),
        ({"b": []}, {"a": []}, "hdmapnet", "1 predicted frames have no ground truth"),
    ],
)
def test_errors(predictions: dict, truth: dict, protocol: str, message: str) -> None:
    with pytest.raises(ElementError, match=message):
        raster_ap(predictions, truth, protocol)


coordinate = st.tuples(st.floats(-4, 4), st.floats(-2, 2))
lines_of_a_frame = st.lists(
    st.builds(
        lambda points, score: MapElement(D, np.array(points), score=score),
        st.lists(coordinate, min_size=2, max_size=4),
        st.floats(0, 1),
    ),
    max_size=4,
)


@settings(max_examples=40, deadline=None)
@given(found=lines_of_a_frame, wanted=lines_of_a_frame, protocol=st.sampled_from(sorted(RASTER_PROTOCOLS)))
def test_equals_the_plain_code(found: list[MapElement], wanted: list[MapElement], protocol: str) -> None:
    rules = RASTER_PROTOCOLS[protocol]
    ours, theirs = draw(found, SMALL, rules.thickness), draw(wanted, SMALL, rules.thickness)
    table, iou = plain_tables(ours, theirs, rules)
    np.testing.assert_allclose(distances(ours, theirs, 0.15, symmetric=rules.symmetric), table, atol=1e-4)
    np.testing.assert_allclose(overlaps(ours, theirs), iou)
    matched = match_lines(ours, theirs, rules, 0.15)
    for threshold in rules.thresholds:
        hits = plain_matching(table, iou, threshold, rules.min_iou)
        if not near_tie(table, threshold):
            np.testing.assert_array_equal(matched < threshold, hits)
            assert frame_ap(hits, ours.score, len(theirs.cells)) == pytest.approx(
                plain_ap(hits, ours.score, len(theirs.cells))
            )


def plain_tables(ours: RasterLines, theirs: RasterLines, rules: RasterProtocol) -> tuple[np.ndarray, np.ndarray]:
    shape = len(ours.cells), len(theirs.cells)
    table, iou = np.zeros(shape), np.zeros(shape)
    for i, a in enumerate(ours.cells):
        for j, b in enumerate(theirs.cells):
            pairs = cdist(np.stack(divmod(a, SMALL.shape[1]), 1), np.stack(divmod(b, SMALL.shape[1]), 1)) * 0.15
            there, back = pairs.min(axis=1).mean(), pairs.min(axis=0).mean()
            table[i, j] = (there + back) / 2 if rules.symmetric else there
            iou[i, j] = len(set(a) & set(b)) / len(set(a) | set(b))
    return table, iou


def plain_matching(table: np.ndarray, iou: np.ndarray, threshold: float, min_iou: float) -> np.ndarray:
    """(N,) bool, with the table capped anew for each threshold and crossed out pair by pair."""
    hits = np.zeros(len(table), bool)
    left = np.minimum(table, threshold)
    while left.size and left.min() < threshold:
        row, column = np.unravel_index(left.argmin(), left.shape)
        hits[row] = iou[row, column] >= min_iou
        left[row], left[:, column] = threshold, threshold
    return hits


def plain_ap(hits: Sequence[bool], score: np.ndarray, num_truth: int) -> float:
    ranked = [hits[index] for index in sorted(range(len(hits)), key=lambda index: score[index])]
    curve = [(sum(ranked[: n + 1]), sum(ranked[: n + 1]) / (n + 1)) for n in range(len(ranked))]
    total = 0.0
    for tenth in range(1, 11):
        total += max((precision for true, precision in curve if 10 * true >= tenth * num_truth > 0), default=0.0)
    return total / 10


def near_tie(table: np.ndarray, threshold: float) -> bool:
    """Whether rounding decides: two entries that are nearly equal, or one nearly at the threshold."""
    ordered = np.sort(table, axis=None)
    return bool((np.diff(ordered) < 1e-4).any() or (np.abs(ordered - threshold) < 1e-4).any())
