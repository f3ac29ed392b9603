"""Scoring against hand-computed cases and a slow implementation that follows the published procedure step by step."""

from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hdmap_core.elements import MapClass, MapElement
from hdmap_core.errors import ElementError
from hdmap_core.metrics.chamfer_ap import CLASSES, PROTOCOLS, average_precision, chamfer_ap
from hdmap_core.metrics.chamfer_distance import chamfer_distances, resampled

DIVIDER = MapClass.DIVIDER


def line(points: Sequence[tuple[float, float]], score: float = 1.0, label: MapClass = DIVIDER) -> MapElement:
    return MapElement(label, np.array(points, dtype=np.float32), score=score)


def straight(y: float, x0: float = -10.0, x1: float = 10.0, score: float = 1.0) -> MapElement:
    return line([(x0, y), (x1, y)], score)


def only(predictions: list[MapElement], truth: list[MapElement], protocol: str = "maptr") -> dict[float, float]:
    return dict(chamfer_ap({"a": predictions}, {"a": truth}, protocol, [DIVIDER]).classes[DIVIDER].ap)


@pytest.fixture(scope="module")
def reference(load_module: Callable[[Path], ModuleType]) -> ModuleType:
    """benchmarks/chamfer_ap.py, which follows the published procedure pair by pair."""
    return load_module(Path(__file__).resolve().parents[3] / "benchmarks" / "chamfer_ap.py")


coordinates = st.tuples(st.integers(-60, 60), st.integers(-30, 30)).map(lambda xy: (xy[0] / 4.0, xy[1] / 4.0))
shapes = st.lists(coordinates, min_size=2, max_size=5, unique=True)
frames_strategy = st.lists(
    st.tuples(st.lists(shapes, max_size=5), st.lists(shapes, max_size=4), st.integers(0, 2**32 - 1)),
    min_size=1,
    max_size=4,
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(frames=frames_strategy, protocol=st.sampled_from(sorted(PROTOCOLS)))
def test_equals_the_slow_reference(reference: ModuleType, frames: list, protocol: str) -> None:
    predictions, truth = {}, {}
    counter = 0
    for token, (predicted, true, seed) in enumerate(frames):
        generator = np.random.default_rng(seed)
        # Half of the predictions are the truth, disturbed: else hardly anything would ever match.
        near = [np.array(shape) + generator.normal(0, 0.4, 2) for shape in true]
        elements = []
        for shape in [*predicted, *near]:
            counter += 1
            score = ((counter * 7919) % 997) / 997  # no two alike
            elements.append(MapElement(DIVIDER, np.array(shape), closed=len(shape) >= 3 and seed % 2 == 0, score=score))
        predictions[str(token)] = elements
        truth[str(token)] = [MapElement(DIVIDER, np.array(s), closed=len(s) >= 3 and seed % 2 == 0) for s in true]
    found = chamfer_ap(predictions, truth, protocol, [DIVIDER]).classes[DIVIDER].ap
    slow = reference.pair_by_pair(predictions, truth, protocol, [DIVIDER])
    assert found == pytest.approx({threshold: ap for (_, threshold), ap in slow.items()}, abs=1e-9)


@pytest.mark.parametrize("protocol", sorted(PROTOCOLS))
def test_truth_against_itself_is_perfect(protocol: str) -> None:
    ring = MapElement(MapClass.PED_CROSSING, np.array([[0, 0], [3, 0], [3, 8], [0, 8]]), closed=True)
    edge = line([(-30, 6), (0, 7), (30, 5)], label=MapClass.BOUNDARY)
    truth = {"a": [straight(0), ring, edge], "b": [straight(4), ring, edge], "c": []}
    score = chamfer_ap(truth, truth, protocol)
    assert score.mean_ap == 1.0
    assert (score.num_frames, score.frames_without_prediction) == (3, 0)


def test_shift_decides_at_the_threshold() -> None:
    truth = [straight(0), straight(8)]
    assert only([straight(0.4), straight(8.4)], truth) == {0.5: 1.0, 1.0: 1.0, 1.5: 1.0}
    assert only([straight(0.6), straight(8.6)], truth) == {0.5: 0.0, 1.0: 1.0, 1.5: 1.0}
    assert only([straight(0.4)], truth, "mapqr") == {0.2: 0.0, 0.5: 0.5, 1.0: 0.5}


def test_distances_of_the_fact_sheet() -> None:
    full, short, half = (resampled(straight(0, 0, x).path, 100) for x in (20, 18, 10))
    distance = chamfer_distances(np.stack([short, half]), full[None])[:, 0]
    assert distance[0] == pytest.approx(0.10, abs=0.03)
    assert distance[1] == pytest.approx(1.29, abs=0.03)


def test_no_second_choice() -> None:
    # Both predictions lie nearest to the first truth; the second truth stays free within reach of the worse one.
    truth = [straight(0.0), straight(1.0)]
    predictions = [straight(0.1, score=0.9), straight(0.4, score=0.8)]
    assert only(predictions, truth)[1.0] == pytest.approx(0.5)


def test_precision_envelope_by_hand() -> None:
    truth = [straight(y) for y in (0.0, 10.0, 20.0, 30.0)]
    # hit, miss, hit, hit: precision 1, 1/2, 2/3, 3/4 at recall 1/4, 1/4, 2/4, 3/4.
    predictions = [straight(0, score=0.9), straight(5, score=0.8), straight(10, score=0.7), straight(20, score=0.6)]
    assert only(predictions, truth)[0.5] == pytest.approx(0.25 * 1 + 0.5 * 0.75)
    assert average_precision(np.zeros(0), np.zeros(0)) == 0.0


def test_band_filter_parts_maptr_from_streammapnet() -> None:
    # One behind the other: near by Chamfer, but flat-ended bands do not touch.
    truth, prediction = [straight(0, 0.0, 0.5)], [straight(0, 0.8, 1.3)]
    assert only(prediction, truth)[1.5] == 0.0
    assert only(prediction, truth, "streammapnet")[1.5] == 1.0


def test_closed_and_open_differ() -> None:
    corners = np.array([[0, 0], [0, 10], [4, 10], [4, 0]])
    ring = MapElement(DIVIDER, corners, closed=True)
    assert only([ring], [ring])[0.5] == 1.0
    assert only([MapElement(DIVIDER, corners)], [ring])[0.5] == 1.0  # the gap of 4 m in 28 m weighs little
    assert len(ring.path) == 5


def test_scores_rank_over_all_frames() -> None:
    truth = {"a": [straight(0)], "b": [straight(0)]}
    good = chamfer_ap({"a": [straight(0, score=0.9)], "b": [straight(9, score=0.1)]}, truth, classes=[DIVIDER])
    bad = chamfer_ap({"a": [straight(0, score=0.1)], "b": [straight(9, score=0.9)]}, truth, classes=[DIVIDER])
    assert (good.mean_ap, bad.mean_ap) == (0.5, 0.25)
    recall, precision = good.classes[DIVIDER].curves[0.5]
    assert recall.tolist() == [0.5, 0.5]
    assert precision.tolist() == [1.0, 0.5]


def test_missing_empty_and_unasked_frames() -> None:
    truth = {"a": [straight(0)], "b": [straight(0)], "c": []}
    score = chamfer_ap({"a": [straight(0)]}, truth)
    assert score.frames_without_prediction == 2
    assert score.classes[DIVIDER].mean_ap == 0.5
    assert score.classes[MapClass.BOUNDARY].mean_ap == 0.0  # no truth, no prediction
    assert score.mean_ap == pytest.approx(0.5 / 3)
    assert tuple(score.classes) == CLASSES
    assert chamfer_ap({"c": [straight(0)]}, {"c": []}).mean_ap == 0.0


def test_false_positives_in_empty_frames_count() -> None:
    truth = {"a": [straight(0)], "b": []}
    score = chamfer_ap({"a": [straight(0, score=0.5)], "b": [straight(0, score=0.9)]}, truth, classes=[DIVIDER])
    assert score.mean_ap == 0.5


def test_what_cannot_be_scored_is_an_error() -> None:
    with pytest.raises(ElementError, match="1 predicted frames have no ground truth \\(x\\)"):
        chamfer_ap({"x": []}, {"a": []})
    with pytest.raises(ElementError, match="unknown protocol 'coco'; known are maptr"):
        chamfer_ap({}, {"a": []}, "coco")
    with pytest.raises(ElementError, match="no ground-truth frame"):
        chamfer_ap({}, {})


def test_degenerate_lines_do_not_break() -> None:
    dot = line([(1, 1), (1, 1)])
    assert only([dot], [dot])[0.5] == 0.0  # a band of no length touches nothing, as in MapTR
    assert only([dot], [dot], "streammapnet")[0.5] == 1.0
