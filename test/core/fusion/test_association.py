"""Numbers that stay: lines that grow, break, hide, come back and run side by side."""

import numpy as np
import pytest

from hdmap_core.elements import MapClass, MapElement
from hdmap_core.fusion.association import PATIENCE, Tracker
from hdmap_core.fusion.ground import is_inside, to_ego, to_fixed
from hdmap_core.geometry import BEVGrid, se3

REGION = BEVGrid()


def pose(x: float, y: float = 0.0, yaw: float = 0.0) -> np.ndarray:
    return se3.se3(se3.rotation_from_euler(0, 0, yaw), [x, y, 0.0])


def line(points: list[tuple[float, float]], label: MapClass = MapClass.DIVIDER) -> MapElement:
    return MapElement(label, np.array(points, np.float32))


def seen(world: list[np.ndarray], at: np.ndarray, noise: float = 0.0, seed: int = 0) -> list[MapElement]:
    """What a car there sees of lines (P, 2) of the fixed frame, as dividers, cut at the region."""
    generator = np.random.default_rng(seed)
    found = []
    for points in world:
        local = to_ego(points, at)
        local = local[is_inside(local, REGION)]
        if len(local) >= 2:
            found.append(MapElement(MapClass.DIVIDER, local + generator.normal(0, noise, 2)))
    return found


def straight(y: float, start: float = -100, end: float = 200) -> np.ndarray:
    x = np.arange(start, end + 1.0)
    return np.stack([x, np.full_like(x, y)], axis=1)


def test_lanes_keep_their_numbers_along_a_bend_with_noise() -> None:
    tracker = Tracker()
    world = [straight(y) for y in (-6.0, -3.0, 0.0, 3.0)]
    of_lane: dict[int, set[int]] = {0: set(), 1: set(), 2: set(), 3: set()}
    for step in range(30):
        at = pose(3.0 * step, 2 * np.sin(step / 5), 0.3 * np.sin(step / 4))
        found = seen(world, at, noise=0.3, seed=step)
        assert len(found) == 4
        for lane, element in enumerate(tracker.update(found, at, REGION)):
            of_lane[lane].add(element.track_id)
    assert [len(numbers) for numbers in of_lane.values()] == [1, 1, 1, 1]
    assert len(set.union(*of_lane.values())) == 4


def test_a_line_of_which_a_car_hides_the_half_is_the_same_line() -> None:
    tracker = Tracker()
    whole = line([(-30, 2), (30, 2)])
    number = tracker.update([whole], pose(0), REGION)[0].track_id
    halves = tracker.update([line([(-30, 2), (-8, 2)]), line([(2, 2), (30, 2)])], pose(0), REGION)
    assert [half.track_id == number for half in halves] == [False, True]  # the longer one
    assert tracker.update([whole], pose(0), REGION)[0].track_id == number


def test_the_best_assignment_of_all_and_not_the_nearest_first() -> None:
    """Everything has moved by more than half a lane: the nearest pairs join the wrong lanes, and leave one alone."""
    tracker = Tracker()
    before = tracker.update([line([(-30, 0), (30, 0)]), line([(-30, 1.5), (30, 1.5)])], pose(0), REGION)
    after = tracker.update([line([(-30, 0.8), (30, 0.8)]), line([(-30, 2.3), (30, 2.3)])], pose(0), REGION)
    assert [element.track_id for element in after] == [element.track_id for element in before]


def test_missed_maps_are_survived_so_many_and_no_more() -> None:
    for missed, same in ((PATIENCE, True), (PATIENCE + 1, False)):
        tracker = Tracker()
        element = line([(0, 0), (20, 0)])
        number = tracker.update([element], pose(0), REGION)[0].track_id
        for _ in range(missed):
            assert tracker.update([], pose(0), REGION) == []
        assert (tracker.update([element], pose(0), REGION)[0].track_id == number) == same


def test_maps_with_a_camera_less_miss_nothing() -> None:
    tracker = Tracker()
    element = line([(0, 0), (20, 0)])
    number = tracker.update([element], pose(0), REGION)[0].track_id
    for _ in range(PATIENCE + 1):
        tracker.update([], pose(0), REGION, full=False)
    assert tracker.update([element], pose(0), REGION)[0].track_id == number


def test_numbers_follow_the_order_of_the_classes() -> None:
    """And not that of a set of strings, which is another one in each process."""
    elements = [line([(0, y), (20, y)], label) for y, label in enumerate(reversed(MapClass))]
    numbers = [element.track_id for element in Tracker().update(elements, pose(0), REGION)]
    assert numbers == [4, 3, 2, 1]


def test_out_of_sight_is_not_missed() -> None:
    tracker = Tracker()
    world = [straight(2.0, 0, 20)]
    number = tracker.update(seen(world, pose(0)), pose(0), REGION)[0].track_id
    for _ in range(PATIENCE + 1):
        tracker.update([], pose(-55), REGION)
    assert tracker.update(seen(world, pose(0)), pose(0), REGION)[0].track_id == number
    tracker.update([], pose(500), REGION)  # too far to come back
    assert tracker.update(seen(world, pose(0)), pose(0), REGION)[0].track_id != number


@pytest.mark.parametrize("apart", ["class", "place", "crossing line"])
def test_what_has_nothing_in_common_gets_numbers_of_its_own(apart: str) -> None:
    tracker = Tracker()
    number = tracker.update([line([(-20, 0), (20, 0)])], pose(0), REGION)[0].track_id
    other = {
        "class": line([(-20, 0), (20, 0)], MapClass.BOUNDARY),
        "place": line([(-20, 5), (20, 5)]),
        "crossing line": line([(0, -14), (0, 14)]),
    }[apart]
    assert tracker.update([other], pose(0), REGION)[0].track_id not in (0, number)


def test_a_crossing_that_comes_into_view_bit_by_bit() -> None:
    tracker = Tracker()
    numbers = set()
    for x in np.arange(0.0, 12.0, 1.0):
        ring = to_ego(np.array([[32.0, -4], [36, -4], [36, 4], [32, 4]]), pose(x))
        ring[:, 0] = np.minimum(ring[:, 0], 30.0)
        if np.ptp(ring[:, 0]) > 0.5:
            crossing = MapElement(MapClass.PED_CROSSING, ring, closed=True)
            numbers.add(tracker.update([crossing], pose(x), REGION)[0].track_id)
    assert len(numbers) == 1


def test_no_number_comes_twice() -> None:
    tracker = Tracker()
    element = line([(0, 0), (20, 0)])
    first = tracker.update([element], pose(0), REGION)[0].track_id
    tracker.reset()
    second = tracker.update([element], pose(0), REGION)[0].track_id
    assert 0 < first < second


def test_the_order_and_the_elements_stay_as_they_are() -> None:
    elements = [line([(0, y), (20, y)], label) for y, label in ((0, MapClass.BOUNDARY), (5, MapClass.DIVIDER))]
    numbered = Tracker().update(elements, pose(3, 1, 0.5), REGION)
    for before, after in zip(elements, numbered, strict=True):
        assert after.label is before.label
        np.testing.assert_array_equal(after.points, before.points)


def test_ground_points_there_and_back() -> None:
    at = se3.se3(se3.rotation_from_euler(0.02, -0.03, 1.0), [400.0, -30.0, 7.0])
    points = np.array([[1.0, 2.0], [-30.0, 15.0]])
    moved = to_fixed(points, at)
    raised = se3.transform_points(at, np.array([[1.0, 2.0, 0.0], [-30.0, 15.0, 0.0]]))
    np.testing.assert_allclose(moved, raised[:, :2])
    np.testing.assert_allclose(to_ego(moved, at), points)
