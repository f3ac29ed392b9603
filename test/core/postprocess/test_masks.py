"""Masks, drawn as the training targets are, must give the elements back."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.morphology import skeletonize

from hdmap_core.elements import MapClass, MapElement
from hdmap_core.geometry import BEVGrid, polyline, raster
from hdmap_core.postprocess import MaskDecodeConfig
from hdmap_core.postprocess.masks import decode_masks
from hdmap_core.postprocess.tracing import join_paths, trace_skeleton

GRID = BEVGrid()
FINE = BEVGrid(resolution=0.15)
CLASSES = (MapClass.DIVIDER, MapClass.PED_CROSSING, MapClass.BOUNDARY)
WIDTH = 0.45


def masks(dividers=(), crossings=(), boundaries=(), islands=()) -> np.ndarray:
    layers = np.zeros((3, *FINE.shape), np.float32)
    layers[0] = raster.draw_lines(FINE, dividers, WIDTH)
    for crossing in crossings:
        layers[1] = np.maximum(layers[1], raster.fill_polygon(FINE, crossing))
    layers[2] = raster.draw_lines(FINE, boundaries, WIDTH) | raster.draw_lines(FINE, islands, WIDTH, closed=True)
    return layers


def decode(probability: np.ndarray, **changes) -> list[MapElement]:
    return decode_masks(probability, MaskDecodeConfig(**changes), classes=CLASSES, grid=GRID)


def dense(points: np.ndarray, closed: bool = False) -> np.ndarray:
    return polyline.resample(np.asarray(points, np.float64), 400, closed)


def chamfer(a: np.ndarray, b: np.ndarray) -> float:
    distance = np.linalg.norm(a[:, None] - b[None], axis=-1)
    return float((distance.min(0).mean() + distance.min(1).mean()) / 2)


def assert_same_shape(element: MapElement, points: np.ndarray, closed: bool = False, tolerance: float = 0.12) -> None:
    assert element.closed is closed
    assert chamfer(dense(element.points, closed), dense(points, closed)) < tolerance


def curve(x: np.ndarray, bend: float, offset: float = 0.0) -> np.ndarray:
    return np.stack([x, offset + bend * np.sin(x / 9)], axis=1)


@settings(max_examples=15, deadline=None)
@given(bend=st.floats(-5, 5), offset=st.floats(-8, 8), start=st.floats(-28, -5), length=st.floats(6, 30))
def test_curve_comes_back(bend: float, offset: float, start: float, length: float) -> None:
    truth = curve(np.linspace(start, min(start + length, 29), 40), bend, offset)
    found = decode(masks(dividers=[truth]))
    assert len(found) == 1 and found[0].label is MapClass.DIVIDER
    assert_same_shape(found[0], truth)
    assert found[0].score == pytest.approx(1 - np.exp(-polyline.length(truth) / 5), abs=0.05)
    ends = np.stack([found[0].points[0], found[0].points[-1]])
    reach = min(
        np.linalg.norm(ends - truth[[0, -1]], axis=1).max(), np.linalg.norm(ends[::-1] - truth[[0, -1]], axis=1).max()
    )
    assert reach < 0.7


@pytest.mark.parametrize("radius", [3.0, 8.0])
def test_island_comes_back_closed_and_once(radius: float) -> None:
    angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    ring = np.stack([4 + radius * np.cos(angle), -2 + radius * np.sin(angle)], axis=1)
    found = decode(masks(islands=[ring]))
    assert [element.label for element in found] == [MapClass.BOUNDARY]
    assert_same_shape(found[0], ring, closed=True)
    assert np.linalg.norm(found[0].points[0] - found[0].points[-1]) > 0.3, "a ring does not repeat its first point"


def test_long_ring_between_other_lines_stays_apart() -> None:
    ring = np.array([[-15, -1.0], [15, -1], [15, 1], [-15, 1]])
    lines = [np.array([[-30.0, y], [30, y]]) for y in (-6.0, 6.0)]
    found = decode(masks(boundaries=lines, islands=[ring]))
    assert sorted(element.closed for element in found) == [False, False, True]
    assert_same_shape(next(element for element in found if element.closed), ring, closed=True)


@pytest.mark.parametrize("turn", [0.0, 0.4, 1.2])
def test_crossing_comes_back_as_rectangle(turn: float) -> None:
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    corners = np.array([[-2, -5], [2, -5], [2, 5], [-2, 5.0]]) @ rotation.T + [6, 1]
    (found,) = decode(masks(crossings=[corners]))
    assert found.label is MapClass.PED_CROSSING and len(found.points) == 4
    assert_same_shape(found, corners, closed=True)


def test_crossing_that_the_border_cuts() -> None:
    corners = np.array([[26, -20], [40, -20], [40, 4], [26, 4.0]])
    (found,) = decode(masks(crossings=[corners]))
    assert_same_shape(found, np.array([[26, -15], [30, -15], [30, 4], [26, 4.0]]), closed=True, tolerance=0.2)
    assert np.abs(found.points).max(axis=0) == pytest.approx([30, 15], abs=0.2)


def test_bent_crossing_keeps_its_shape() -> None:
    corners = np.array([[0, 0], [10, 0], [10, 3], [3, 3], [3, 10], [0, 10.0]])
    (found,) = decode(masks(crossings=[corners]))
    assert_same_shape(found, corners, closed=True, tolerance=0.25)


@pytest.mark.parametrize(("gap", "elements"), [(1.5, 1), (4.0, 2)])
def test_gap(gap: float, elements: int) -> None:
    lines = [np.array([[-20, 1.0], [-gap / 2, 1]]), np.array([[gap / 2, 1.0], [20, 1]])]
    found = decode(masks(dividers=lines))
    assert len(found) == elements
    if elements == 1:
        assert_same_shape(found[0], np.array([[-20, 1.0], [20, 1]]))


def test_fork_keeps_the_straight_line_whole() -> None:
    straight = np.array([[-25, 0.0], [25, 0]])
    branch = np.array([[0, 0.0], [12, 10]])
    found = sorted(decode(masks(boundaries=[straight, branch])), key=lambda e: polyline.length(e.points))
    assert len(found) == 2
    assert_same_shape(found[1], straight, tolerance=0.2)
    assert polyline.length(found[0].points) == pytest.approx(polyline.length(branch), abs=2.0)
    assert not any(element.closed for element in found)


def test_bar_between_two_lines_is_no_ring() -> None:
    lines = [np.array([[-20, -5.0], [20, -5]]), np.array([[-20, 5.0], [20, 5]]), np.array([[0, -5.0], [0, 5]])]
    found = decode(masks(dividers=lines))
    assert not any(element.closed for element in found)
    total = sum(polyline.length(element.points) for element in found)
    assert total == pytest.approx(90, abs=4), "no stretch twice, none lost"


def test_lines_that_cross_become_two() -> None:
    lines = [np.array([[-12, -9.0], [12, 9]]), np.array([[-12, 9.0], [12, -9]])]
    found = decode(masks(dividers=lines))
    assert len(found) == 2
    for truth in lines:
        assert min(chamfer(dense(e.points), dense(truth)) for e in found) < 0.2


@pytest.mark.parametrize("value", [0.0, 0.19, np.nan])
def test_nothing_to_find(value: float) -> None:
    assert decode(np.full((3, *FINE.shape), value, np.float32)) == []


def test_all_ones_gives_valid_elements() -> None:
    found = decode(np.ones((3, *FINE.shape), np.float32))
    assert sum(element.label is MapClass.PED_CROSSING for element in found) == 1
    assert all(np.isfinite(element.points).all() and 0 <= element.score <= 1 for element in found)


def test_nan_inside_a_crossing_counts_as_nothing() -> None:
    layers = masks(crossings=[np.array([[-2, -5], [2, -5], [2, 5], [-2, 5.0]])])
    layers[1, 98:102, 198:202] = np.nan
    (found,) = decode(layers)
    assert 0.9 < found.score < 1.0


def test_noise_is_decoded_alike_every_time() -> None:
    noise = np.random.default_rng(4).random((3, *FINE.shape)).astype(np.float32)
    first, second = decode(noise, threshold=0.7), decode(noise, threshold=0.7)
    assert len(first) == len(second) > 0
    for a, b in zip(first, second, strict=True):
        assert (a.label, a.closed, a.score) == (b.label, b.closed, b.score)
        np.testing.assert_array_equal(a.points, b.points)


def test_score_is_the_mean_probability() -> None:
    layers = masks(dividers=[np.array([[-20, 0.0], [20, 0]])], crossings=[np.array([[5, 2], [9, 2], [9, 9], [5, 9.0]])])
    found = decode(layers * np.float32(0.7))
    assert [element.score for element in found] == pytest.approx([0.7, 0.7], abs=1e-3)


def test_a_short_line_has_a_lower_score_than_a_long_one() -> None:
    layers = masks(boundaries=[np.array([[-20, 0.0], [20, 0]]), np.array([[-2, 6.0], [1, 6]])])
    short, long = sorted(decode(layers), key=lambda element: polyline.length(element.points))
    assert short.score < 0.6 < 0.9 < long.score


def test_small_things_are_dropped() -> None:
    layers = masks(dividers=[np.array([[0, 0.0], [0.7, 0]])], crossings=[np.array([[5, 2], [6, 2], [6, 3], [5, 3.0]])])
    assert decode(layers) == []
    assert len(decode(layers, min_length=0.3, min_area=0.5)) == 2


def test_ragged_crossings_become_quadrilaterals() -> None:
    """Half of the outline's cells are bitten out or stick out; the border of the range cuts the second crossing."""
    crossings = np.array([[-2, -5], [2, -5], [2, 5], [-2, 5.0]]), np.array([[24, 10], [28, 10], [28, 20], [24, 20.0]])
    layers = masks(crossings=crossings)
    rng = np.random.default_rng(0)
    edge = cv2.morphologyEx(layers[1], cv2.MORPH_GRADIENT, np.ones((3, 3)))
    flipped = cv2.dilate(((edge > 0) & (rng.random(edge.shape) < 0.12)).astype(np.uint8), np.ones((3, 3))) > 0
    layers[1][flipped] = (rng.random(edge.shape) < 0.5)[flipped]
    found = sorted(decode(layers), key=lambda element: element.points[:, 0].mean())
    truth = crossings[0], np.array([[24, 10], [28, 10], [28, 15], [24, 15.0]])
    assert len(found) == 2
    for element, corners in zip(found, truth, strict=True):
        assert element.closed and len(element.points) == 4
        assert_same_shape(element, corners, closed=True, tolerance=0.25)
        assert (np.abs(element.points) <= [30.001, 15.001]).all()


@pytest.mark.parametrize(("gap", "elements"), [(5.0, 1), (8.0, 2)])
def test_a_parked_car_does_not_cut_a_boundary(gap: float, elements: int) -> None:
    lines = [np.array([[-20, 1.0], [-gap / 2, 1]]), np.array([[gap / 2, 1.2], [20, 1.2]])]
    found = decode(masks(boundaries=lines))
    assert len(found) == elements
    if elements == 1:
        assert_same_shape(found[0], np.array([[-20, 1.0], [20, 1.2]]), tolerance=0.2)


def test_a_boundary_goes_round_a_corner_that_is_hidden() -> None:
    lines = [np.array([[-20, 0.0], [-1.5, 0]]), np.array([[0, 1.5], [0, 12.0]])]
    assert len(decode(masks(boundaries=lines))) == 1


def test_a_side_street_stays_open() -> None:
    """The ends of its two kerbs face the same way, not each other."""
    kerbs = [np.array([[0, 12.0], [0, 0]]), np.array([[5.0, 12.0], [5, 0]])]
    assert len(decode(masks(boundaries=kerbs))) == 2


def test_the_edges_of_a_median_stay_two_lines() -> None:
    """Not one in its middle, though all cells between them are above the threshold."""
    edges = [np.array([[-30, y], [30, y]]) for y in (-0.6, 0.6)]
    probability = masks(boundaries=edges)
    probability[2] = cv2.GaussianBlur(probability[2], (0, 0), 2)
    assert probability[2][100, 150:250].min() > MaskDecodeConfig().threshold
    found = sorted(decode(probability), key=lambda element: element.points[0, 1])
    assert len(found) == 2
    for element, edge in zip(found, edges, strict=True):
        assert_same_shape(element, edge, tolerance=0.2)


def test_the_edges_of_a_median_meet_at_its_tip() -> None:
    edges = [np.array([[-30, y], [5.0, y]]) for y in (-1.0, 1.0)]
    (found,) = decode(masks(boundaries=edges))
    assert_same_shape(found, np.array([[-30, -1.0], [5, -1], [5, 1], [-30, 1]]), tolerance=0.2)


def test_cells_as_large_as_the_grids_own() -> None:
    layers = np.zeros((3, *GRID.shape), np.float32)
    truth = curve(np.linspace(-20, 20, 50), 3.0)
    layers[0] = raster.draw_lines(GRID, [truth], 0.6)
    (found,) = decode(layers)
    assert_same_shape(found, truth, tolerance=0.2)


def test_tracing_cuts_at_forks_and_visits_the_rest_once() -> None:
    skeleton = np.zeros((20, 30), bool)
    skeleton[5, 3:25] = skeleton[5:15, 12] = True
    paths = trace_skeleton(skeleton)
    assert sorted(len(path) for path in paths) == [7, 7, 10]
    visited = [tuple(cell) for path in paths for cell in path.astype(int)]
    assert len(set(visited)) == len(visited)
    assert all(skeleton[row, column] for column, row in visited)


def test_tracing_a_loop_ends_where_it_began() -> None:
    skeleton = np.zeros((20, 30), bool)
    skeleton[4, 5:20] = skeleton[14, 5:20] = skeleton[5:14, 4] = skeleton[5:14, 20] = True
    (path,) = trace_skeleton(skeleton)
    assert len(path) == skeleton.sum() + 1
    np.testing.assert_array_equal(path[0], path[-1])
    assert np.abs(np.diff(path, axis=0)).max() == 1


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(-20, 20), st.floats(-20, 20)), min_size=0, max_size=6), st.integers(0, 2**31))
def test_joining_loses_no_point(starts: list[tuple[float, float]], seed: int) -> None:
    random = np.random.default_rng(seed)
    paths = [np.array(start) + np.cumsum(random.normal(size=(12, 2)), axis=0) for start in starts]
    joined = join_paths(paths, max_gap=15.0, min_cosine=-1.1)
    assert sorted(map(tuple, np.concatenate([*joined, np.empty((0, 2))]))) == sorted(
        map(tuple, np.concatenate([*paths, np.empty((0, 2))]))
    )


@pytest.mark.parametrize("offset", [0.0, 4.0, 8.0, 20.0])
@pytest.mark.parametrize("turn", [-0.6, 0.0, 0.6])
def test_joining_does_not_depend_on_the_order(offset: float, turn: float) -> None:
    along = np.arange(30.0)
    left = np.stack([along, np.zeros(30)], axis=1)
    right = np.stack([40 + along * np.cos(turn), offset + along * np.sin(turn)], axis=1)
    for max_turn in (20.0, 40.0):
        counts = {
            len(join_paths([*pair], max_gap=25.0, min_cosine=np.cos(np.radians(max_turn))))
            for first, second in ((left, right), (left[::-1], right), (left, right[::-1]))
            for pair in ((first, second), (second, first))
        }
        assert len(counts) == 1


def test_joining_prefers_the_nearer_end_and_turns_paths_round() -> None:
    left = np.stack([np.linspace(0, 10, 11), np.zeros(11)], axis=1)
    near = np.stack([np.linspace(20, 12, 9), np.zeros(9)], axis=1)  # listed backwards
    far = np.stack([np.linspace(14, 20, 7), np.full(7, 0.5)], axis=1)
    joined = join_paths([left, near, far], max_gap=6.0, min_cosine=0.8)
    assert sorted(len(path) for path in joined) == [7, 20]
    longest = max(joined, key=len)
    assert (np.diff(longest[:, 0]) > 0).all() or (np.diff(longest[:, 0]) < 0).all()


def plainly_traced(skeleton: np.ndarray) -> list[list[tuple[int, int]]]:
    """`trace_skeleton` as one would write it down: sets of (row, column), one neighbour after the other."""
    steps = ((0, 1), (1, 0), (0, -1), (-1, 0), (1, 1), (1, -1), (-1, -1), (-1, 1))
    cells = {(int(row), int(column)) for row, column in np.argwhere(skeleton)}

    def degree(cell: tuple[int, int]) -> int:
        return sum((cell[0] + r, cell[1] + c) in cells for r, c in steps)

    forks = [cell for cell in cells if degree(cell) > 2]
    cells -= {(row + r, column + c) for row, column in forks for r, c in (*steps, (0, 0))}
    inner = {cell: degree(cell) > 1 for cell in cells}
    remaining, paths = set(cells), []
    for start in sorted(sorted(cells), key=inner.__getitem__):
        path: list[tuple[int, int]] = []
        cell: tuple[int, int] | None = start if start in remaining else None
        while cell is not None:
            remaining.discard(cell)
            path.append(cell)
            around = ((cell[0] + r, cell[1] + c) for r, c in steps)
            cell = next((each for each in around if each in remaining), None)
        if inner[start] and len(path) > 8 and np.abs(np.subtract(path[0], path[-1])).max() <= 1:
            path.append(path[0])
        if path:
            paths.append([(column, row) for row, column in path])
    return paths


@pytest.mark.parametrize("seed", range(4))
def test_tracing_is_what_it_says(seed: int) -> None:
    """On noise and on lines up to the border, cell by cell and in the same order."""
    rng = np.random.default_rng(seed)
    noise = cv2.GaussianBlur(rng.random((60, 90), dtype=np.float32), (0, 0), 1 + seed)
    skeleton = skeletonize(noise > np.quantile(noise, 0.6))
    skeleton[0, 10:40] = skeleton[20:50, -1] = True
    cv2.circle(canvas := skeleton.astype(np.uint8), (45, 30), 12, 1)
    for mask in (skeleton, canvas > 0, np.zeros_like(skeleton)):
        traced = [[tuple(cell) for cell in path.astype(int).tolist()] for path in trace_skeleton(mask)]
        assert traced == plainly_traced(mask)
