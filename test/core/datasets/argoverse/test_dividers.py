import numpy as np
import shapely

from hdmap_core.datasets.argoverse.dividers import between_neighbours, painted
from hdmap_core.datasets.argoverse.map_file import LaneSegment


def lane(
    token: int, x0: float, x1: float, y: float, marks: tuple[str, str] = ("NONE", "NONE"),
    neighbours: tuple[int | None, int | None] = (None, None), crossing: bool = False, backwards: bool = False,
) -> LaneSegment:  # fmt: skip
    """A lane 3 m wide along x, its right side at y; `backwards` is driven the other way, and has its left there."""
    sides = [np.array([[x0, at, 1.0], [x1, at, 2.0]]) for at in (y + 3.0, y)]
    left, right = (side[::-1] for side in reversed(sides)) if backwards else sides
    return LaneSegment(token, crossing, left, right, *marks, *neighbours)


def lanes(*found: LaneSegment) -> dict[int, LaneSegment]:
    return {lane.token: lane for lane in found}


def ends(lines: list[shapely.LineString]) -> list[tuple[float, float, float]]:
    """(smallest x, largest x, y) of each, sorted."""
    return sorted((line.bounds[0], line.bounds[2], line.bounds[1]) for line in lines)


def test_a_line_between_two_lanes_is_there_once_and_joined_along_them() -> None:
    found = between_neighbours(lanes(
        lane(1, 0, 10, 0.0, neighbours=(2, None)), lane(2, 0, 10, 3.0, neighbours=(None, 1)),
        lane(3, 10, 30, 0.0, neighbours=(4, None)), lane(4, 10, 30, 3.0, neighbours=(None, 3)),
    ))  # fmt: skip
    assert ends(found) == [(0.0, 30.0, 3.0)]
    assert shapely.get_coordinates(found[0], include_z=True)[0, 2] in (1.0, 2.0)


def test_oncoming_lanes_share_their_left_sides() -> None:
    found = between_neighbours(lanes(
        lane(1, 0, 20, 0.0, neighbours=(2, None)), lane(2, 0, 20, 3.0, neighbours=(1, None), backwards=True)
    ))  # fmt: skip
    assert ends(found) == [(0.0, 20.0, 3.0)]


def test_mapped_twice_with_other_vertices_counts_once() -> None:
    one, other = lane(1, 0, 20, 0.0, neighbours=(2, None)), lane(2, 0, 20, 3.0, neighbours=(1, None), backwards=True)
    wavy = np.array([[20.0, 3.0, 2.0], [10.0, 3.04, 1.5], [0.0, 3.0, 1.0]])
    other = LaneSegment(2, False, wavy, other.right, "NONE", "NONE", 1, None)
    assert len(between_neighbours(lanes(one, other))) == 1


def test_no_neighbour_no_divider_and_none_in_intersections() -> None:
    assert between_neighbours(lanes(lane(1, 0, 10, 0.0, ("SOLID_WHITE", "SOLID_WHITE")))) == []
    inside = lane(1, 0, 10, 0.0, neighbours=(2, None), crossing=True)
    assert between_neighbours(lanes(inside, lane(2, 0, 10, 3.0, neighbours=(None, 1), crossing=True))) == []


def test_a_neighbour_that_is_not_in_the_map_still_makes_a_divider() -> None:
    assert ends(between_neighbours(lanes(lane(1, 0, 10, 0.0, neighbours=(None, 99))))) == [(0.0, 10.0, 0.0)]


def test_paint_counts_in_intersections_too_and_once() -> None:
    found = painted(lanes(
        lane(1, 0, 10, 0.0, ("DASHED_WHITE", "NONE"), crossing=True), lane(2, 0, 10, 3.0, ("NONE", "DASHED_WHITE")),
        lane(3, 10, 30, 0.0, ("DASHED_WHITE", "UNKNOWN")),
    ), [])  # fmt: skip
    assert ends(found) == [(0.0, 30.0, 3.0)]


def test_paint_along_the_border_is_no_divider_but_paint_a_metre_inside_is() -> None:
    kerb = [shapely.LineString([(x, 6.2), (x + 5, 6.2)]) for x in range(-5, 30, 5)]
    both = lanes(lane(1, 0, 20, 3.0, ("SOLID_WHITE", "DASHED_WHITE")))
    assert ends(painted(both, kerb)) == [(0.0, 20.0, 3.0)]
    assert ends(painted(both, [shapely.LineString([(0, 7.2), (20, 7.2)])])) == [(0.0, 20.0, 3.0), (0.0, 20.0, 6.0)]


def test_short_pieces_of_one_line_are_kept_and_joined() -> None:
    short = [lane(n, n * 1.0, n + 1.0, 0.0, ("SOLID_YELLOW", "NONE")) for n in range(6)]
    assert ends(painted(lanes(*short), [])) == [(0.0, 6.0, 3.0)]


def test_ends_that_are_a_few_centimetres_apart_are_joined() -> None:
    found = painted(lanes(
        lane(1, 0, 10, 0.0, ("SOLID_WHITE", "NONE")), lane(2, 10.06, 20, 0.0, ("SOLID_WHITE", "NONE")),
        lane(3, 21, 30, 0.0, ("SOLID_WHITE", "NONE")),
    ), [])  # fmt: skip
    assert ends(found) == [(0.0, 20.0, 3.0), (21.0, 30.0, 3.0)]


def test_at_a_fork_no_line_is_taken_twice() -> None:
    left, right = (lane(n, 10, 20, 0.0, ("SOLID_WHITE", "NONE")) for n in (2, 3))
    bent = np.array([[10.0, 3.0, 2.0], [20.0, 8.0, 2.0]])
    right = LaneSegment(3, False, bent, right.right, "SOLID_WHITE", "NONE", None, None)
    found = painted(lanes(lane(1, 0, 10, 0.0, ("SOLID_WHITE", "NONE")), left, right), [])
    assert len(found) == 3


def test_nothing_is_nothing() -> None:
    assert between_neighbours({}) == painted({}, []) == []
