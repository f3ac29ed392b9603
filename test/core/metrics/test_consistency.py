"""Identity switches and consistency-aware AP, by hand."""

from collections.abc import Sequence

import numpy as np
import pytest

from hdmap_core.elements import MapClass, MapElement
from hdmap_core.geometry import se3
from hdmap_core.metrics.consistency import TrackedFrame, consistency, truth_tracks

LANES = (0.0, 4.0)


def lane(y: float, number: int, score: float = 0.9, start: float = -30, end: float = 30) -> MapElement:
    return MapElement(MapClass.DIVIDER, np.array([[start, y], [end, y]]), score=score, track_id=number)


def drive(numbers: Sequence[Sequence[int]]) -> list[TrackedFrame]:
    """Frames in which the two lanes are found exactly, under these numbers."""
    truth = [lane(y, index + 1, 1.0) for index, y in enumerate(LANES)]
    return [TrackedFrame([lane(y, n) for y, n in zip(LANES, row, strict=True)], truth) for row in numbers]


@pytest.mark.parametrize(
    ("numbers", "switches", "steady"),
    [
        ([(7, 9)] * 4, 0, 8),
        ([(7, 9), (7, 9), (8, 9), (8, 9)], 1, 6),  # a new number never counts
        ([(7, 9), (9, 7), (9, 7)], 2, 2),  # swapped once
        ([(7, 9), (8, 9), (7, 9)], 2, 5),  # there and back
        ([(7, 7), (7, 7)], 0, 4),  # one number may own two lines
    ],
)
def test_by_hand(numbers: Sequence[Sequence[int]], switches: int, steady: int) -> None:
    score = consistency({"a": drive(numbers)}, classes=(MapClass.DIVIDER,))
    assert score.switches[MapClass.DIVIDER] == switches
    assert score.matches[MapClass.DIVIDER] == 2 * len(numbers)
    assert score.plain.mean_ap == pytest.approx(1.0)
    curve = score.consistent.classes[MapClass.DIVIDER]
    assert curve.recall[0.5] == pytest.approx(steady / (2 * len(numbers)))
    assert (score.consistent.mean_ap < 1.0) == (steady < 2 * len(numbers))


def test_a_line_that_was_missed_meanwhile_keeps_its_history() -> None:
    first, _, third = drive([(7, 9), (7, 9), (8, 9)])
    hidden = TrackedFrame([], first.truth)
    assert consistency({"a": [first, hidden, third]}).switches[MapClass.DIVIDER] == 1
    assert consistency({"a": [first, hidden, first]}).switches[MapClass.DIVIDER] == 0


def test_drives_have_nothing_to_do_with_each_other() -> None:
    score = consistency({"a": drive([(7, 9)]), "b": drive([(9, 7)])}, classes=(MapClass.DIVIDER,))
    assert score.switches[MapClass.DIVIDER] == 0
    assert score.consistent.mean_ap == pytest.approx(1.0)


def test_truth_keeps_its_numbers_while_the_car_drives() -> None:
    """Two lanes of which the car sees 60 m at a time, and a third that begins later."""
    frames, poses = [], []
    for x in np.arange(0.0, 100.0, 10.0):
        poses.append(se3.se3(np.eye(3), [x, 0.0, 0.0]))
        found = [MapElement(MapClass.DIVIDER, np.array([[-30, y], [30, y]])) for y in LANES]
        if x >= 60:
            found.insert(0, MapElement(MapClass.DIVIDER, np.array([[80 - x, 8.0], [30, 8.0]])))
        frames.append(found)
    tracked = truth_tracks(frames, poses)
    assert [[element.track_id for element in frame] for frame in tracked[:6]] == [[1, 2]] * 6
    assert {tuple(element.track_id for element in frame) for frame in tracked[6:]} == {(3, 1, 2)}


def test_truth_of_two_classes_is_not_joined() -> None:
    points = np.array([[-10.0, 0.0], [10.0, 0.0]])
    frames = [[MapElement(label, points)] for label in (MapClass.DIVIDER, MapClass.BOUNDARY)]
    tracked = truth_tracks(frames, [np.eye(4)] * 2)
    assert [frame[0].track_id for frame in tracked] == [1, 2]
