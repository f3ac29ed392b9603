"""Crossings as two lines: the long sides, however the outline is sampled, turned or started."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hdmap_core.elements import MapClass, MapElement
from hdmap_core.elements.crossing_edges import crossing_edges
from hdmap_core.geometry import polyline

RECTANGLE = np.array([[0.0, 0], [4, 0], [4, 12], [0, 12]])
SKEWED = np.array([[0.0, 0], [4, 0], [12, 9], [8, 9]])


def sides_of(outline: np.ndarray, score: float = 1.0) -> list[MapElement]:
    return crossing_edges([MapElement(MapClass.PED_CROSSING, outline, closed=True, score=score)])


def ends(side: MapElement) -> list[tuple[float, float]]:
    return sorted((round(float(x), 2), round(float(y), 2)) for x, y in side.points[[0, -1]])


def test_the_two_long_sides_of_a_rectangle() -> None:
    found = sides_of(RECTANGLE, score=0.25)
    assert sorted(map(ends, found)) == [[(0, 0), (0, 12)], [(4, 0), (4, 12)]]
    assert all(not side.closed and side.score == 0.25 and side.points.shape == (2, 2) for side in found)
    assert all(side.label is MapClass.PED_CROSSING and side.points.dtype == np.float32 for side in found)


def test_sides_of_a_skewed_crossing_are_its_own_and_not_its_box() -> None:
    assert sorted(map(ends, sides_of(SKEWED))) == [[(0, 0), (8, 9)], [(4, 0), (12, 9)]]


def test_the_longer_one_comes_first() -> None:
    first, second = sides_of(np.array([[0.0, 0], [3, 0], [3, 10], [0, 11]]))
    assert ends(first) == [(0, 0), (0, 11)] and ends(second) == [(3, 0), (3, 10)]


def test_other_elements_are_handed_on_in_place() -> None:
    line = MapElement(MapClass.PED_CROSSING, RECTANGLE[:2])
    island = MapElement(MapClass.BOUNDARY, RECTANGLE, closed=True)
    crossing = MapElement(MapClass.PED_CROSSING, RECTANGLE, closed=True)
    found = crossing_edges([line, crossing, island])
    assert found[0] is line and found[3] is island and len(found) == 4
    assert crossing.closed and len(crossing.points) == 4
    assert crossing_edges(found) == found, "nothing is left to replace"


@given(
    corners=st.sampled_from([RECTANGLE, SKEWED]),
    num=st.integers(30, 60),
    start=st.integers(0, 59),
    angle=st.floats(0, 6.28),
    backwards=st.booleans(),
)
def test_a_resampled_outline_has_the_same_sides(
    corners: np.ndarray, num: int, start: int, angle: float, backwards: bool
) -> None:
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    dense = np.roll(polyline.resample(corners, num, closed=True), start, axis=0) @ turn
    wanted = np.array([side.points[[0, -1]] for side in sides_of(corners)]) @ turn
    for side in sides_of(dense[::-1] if backwards else dense):
        pair = side.points[[0, -1]]
        distance = min(np.abs(line[::order] - pair).max() for line in wanted for order in (1, -1))
        assert distance < 0.75, "resampling cuts corners by up to one step"
    first, second = (side.points.mean(axis=0) for side in sides_of(dense))
    assert np.linalg.norm(first - second) > 2, "not two halves of one side"


def test_a_bent_side_stays_one_side() -> None:
    bent = np.array([[0.0, 0], [4, 0], [4, 12], [0, 12], [-0.5, 6]])
    found = sides_of(bent)
    assert sorted(map(ends, found)) == [[(0, 0), (0, 12)], [(4, 0), (4, 12)]]
    assert max(len(side.points) for side in found) == 3, "with its bend"


def test_an_ellipse_gives_its_two_flat_sides() -> None:
    angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    found = sides_of(np.stack([8 * np.cos(angle), 3 * np.sin(angle)], axis=1))
    assert sorted(float(np.sign(side.points[:, 1].mean())) for side in found) == [-1, 1]
    assert all(np.ptp(side.points[:, 0]) > 8 for side in found)


@pytest.mark.parametrize("outline", [np.ones((4, 2)), np.array([[0.0, 0], [5, 0], [9, 0]]), RECTANGLE * 0.01])
def test_outlines_without_extent_still_give_two_lines(outline: np.ndarray) -> None:
    found = sides_of(outline)
    assert len(found) == 2 and all(side.points.shape == (2, 2) for side in found)
