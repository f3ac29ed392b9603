"""The fused map: it merges, closes gaps, forgets what is contradicted or far away, and lies where the world is."""

import numpy as np
import pytest

from hdmap_core.elements import MapClass, MapElement
from hdmap_core.fusion.cropping import cropped
from hdmap_core.fusion.evidence import EvidenceTiles
from hdmap_core.fusion.ground import to_fixed
from hdmap_core.fusion.local_map import LocalMap
from hdmap_core.geometry import BEVGrid, polyline, se3
from hdmap_core.postprocess.masks import trust_in_length

REGION = BEVGrid()
CLASSES = (MapClass.DIVIDER, MapClass.PED_CROSSING, MapClass.BOUNDARY)


def pose(x: float, y: float = 0.0, yaw: float = 0.0, z: float = 0.0) -> np.ndarray:
    return se3.se3(se3.rotation_from_euler(0, 0, yaw), [x, y, z])


def world(far: float = 120.0) -> list[MapElement]:
    """In the fixed frame: two kerbs, a divider between them that ends at a crossing and begins again behind it."""
    return [
        MapElement(MapClass.BOUNDARY, np.array([[-40, -5], [far, -5]])),
        MapElement(MapClass.BOUNDARY, np.array([[-40, 5], [far, 5]])),
        MapElement(MapClass.DIVIDER, np.array([[-40, 0], [20, 0]])),
        MapElement(MapClass.DIVIDER, np.array([[26, 0], [far, 0]])),
        MapElement(MapClass.PED_CROSSING, np.array([[21, -5], [25, -5], [25, 5], [21, 5]]), closed=True),
    ]


def seen(at: np.ndarray, elements: list[MapElement], noise: float = 0.0, seed: int = 0) -> list[MapElement]:
    generator = np.random.default_rng(seed)
    found = cropped(elements, se3.inverse(at), REGION)
    return [
        MapElement(e.label, e.points + generator.normal(0, noise, 2).astype(np.float32), e.closed, 0.9) for e in found
    ]


def count(elements: list[MapElement], label: MapClass) -> int:
    return sum(element.label is label for element in elements)


def distance_to(element: MapElement, truth: MapElement) -> float:
    """Mean distance of the element from the line of the truth, metres."""
    points = polyline.resample(element.points.astype(np.float64), 100, element.closed)
    line = polyline.resample(truth.points.astype(np.float64), 2000, truth.closed)
    return float(np.linalg.norm(points[:, None] - line[None], axis=-1).min(axis=1).mean())


@pytest.mark.parametrize("start", [pose(0.0), pose(3000.25, 4000.5, 2.0, 30.0)])
def test_a_drive_with_noise_gives_each_line_once_and_where_it_is(start: np.ndarray) -> None:
    fused = LocalMap(CLASSES, reach=np.inf)
    for step in range(30):
        at = pose(2.5 * step, np.sin(step / 6), 0.05 * np.sin(step / 3))
        fused.update(seen(at, world(), 0.25, step), start @ at, REGION)
    found = fused.elements()
    assert [count(found, label) for label in CLASSES] == [2, 1, 2]
    truth_from_map = se3.inverse(start) @ fused.fixed_from_map
    for element in found:
        moved = MapElement(element.label, to_fixed(element.points.astype(np.float64), truth_from_map), element.closed)
        nearest = min(distance_to(moved, truth) for truth in world() if truth.label is element.label)
        assert nearest < 0.2  # one map is 0.25 m off in x and in y
    assert fused.fixed_from_map[2, 3] == pytest.approx(start[2, 3])
    numbers = [element.track_id for element in found]
    assert len(set(numbers)) == len(numbers) and 0 not in numbers


def test_a_gap_behind_a_parked_car_closes_when_a_later_map_sees_it() -> None:
    fused = LocalMap(CLASSES, reach=100.0)
    whole = MapElement(MapClass.BOUNDARY, np.array([[-30.0, 4.0], [30.0, 4.0]]))
    pieces = [
        MapElement(MapClass.BOUNDARY, np.array([[-30.0, 4.0], [-5.0, 4.0]])),
        MapElement(MapClass.BOUNDARY, np.array([[5.0, 4.0], [30.0, 4.0]])),
    ]
    for _ in range(3):
        fused.update(pieces, pose(0), REGION)
    assert count(fused.elements(), MapClass.BOUNDARY) == 2
    fused.update([whole], pose(1), REGION)
    fused.update([whole], pose(2), REGION)
    assert count(fused.elements(), MapClass.BOUNDARY) == 1


def test_what_is_seen_once_and_contradicted_goes() -> None:
    fused = LocalMap(CLASSES, reach=100.0)
    ghost = MapElement(MapClass.DIVIDER, np.array([[-10.0, 2.0], [10.0, 2.0]]), score=0.9)
    fused.update([ghost], pose(0), REGION)
    assert count(fused.elements(), MapClass.DIVIDER) == 1
    for step in range(1, 6):
        fused.update([], pose(step), REGION)
    assert fused.elements() == []


def test_what_a_map_with_a_camera_less_does_not_show_counts_against_nothing() -> None:
    fused = LocalMap(CLASSES, reach=100.0)
    line = MapElement(MapClass.DIVIDER, np.array([[-10.0, 2.0], [10.0, 2.0]]), score=0.9)
    fused.update([line], pose(0), REGION)
    for step in range(1, 6):
        fused.update([], pose(step), REGION, full=False)
    assert count(fused.elements(), MapClass.DIVIDER) == 1


def test_a_standing_car_is_no_stronger_witness_than_a_moving_one() -> None:
    """A hundred maps from one place are the same look again: a few from elsewhere outweigh them."""
    fused = LocalMap(CLASSES, reach=100.0)
    ghost = MapElement(MapClass.DIVIDER, np.array([[-10.0, 2.0], [10.0, 2.0]]), score=0.9)
    for _ in range(100):
        fused.update([ghost], pose(0), REGION)
    for step in range(1, 41):
        fused.update([], pose(step * 0.5), REGION)
    assert fused.elements() == []


def test_maps_between_two_strides_cost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    added = []
    add = EvidenceTiles.add
    monkeypatch.setattr(EvidenceTiles, "add", lambda *arguments: (added.append(1), add(*arguments)))
    fused = LocalMap(CLASSES, reach=100.0)
    for step in range(101):
        fused.update(seen(pose(0.1 * step), world()), pose(0.1 * step), REGION)
    assert len(added) == 11


def test_a_divider_that_was_drawn_through_a_crossing_ends_there_once_the_crossing_is_seen() -> None:
    """From afar the line is seen before the stripes are."""
    fused = LocalMap(CLASSES, reach=100.0)
    through = MapElement(MapClass.DIVIDER, np.array([[-20.0, 0.0], [60.0, 0.0]]))
    for step in range(10):
        fused.update(seen(pose(step), [through]), pose(step), REGION)
    assert count(fused.elements(), MapClass.DIVIDER) == 1
    for step in range(10, 16):
        fused.update(seen(pose(step), world()), pose(step), REGION)
    assert count(fused.elements(), MapClass.DIVIDER) == 2


def test_a_piece_that_the_border_leaves_short_is_no_less_sure_where_it_is() -> None:
    """Tracing lowers the score of short lines, and would do it again when the fused map is traced."""
    fused = LocalMap(CLASSES, reach=100.0)
    line = np.array([[27.5, 2.0], [30.0, 2.0]])
    fused.update([MapElement(MapClass.DIVIDER, line, score=0.7 * trust_in_length(2.5))], pose(0), REGION)
    (found,) = fused.elements()
    assert found.score == pytest.approx(0.7 * trust_in_length(2.5), rel=0.4)


def test_what_is_far_behind_is_forgotten_and_nothing_where_reach_is_endless() -> None:
    ends = {}
    for reach in (50.0, np.inf):
        fused = LocalMap(CLASSES, reach)
        for x in range(0, 200, 2):
            fused.update(seen(pose(x), world(400.0)), pose(x), REGION)
        lines = [element.points for element in fused.elements() if element.label is MapClass.BOUNDARY]
        ends[reach] = float(np.concatenate(lines)[:, 0].min())
    assert ends[50.0] > 198 - 50 - 20
    assert ends[np.inf] < -25


def test_numbering_the_fused_map_costs_no_more_the_longer_the_drive() -> None:
    """What was forgotten is not kept as a place of a line that goes on."""
    fused = LocalMap(CLASSES, reach=50.0)
    known = []
    for x in range(0, 600, 5):
        fused.update(seen(pose(x), world(700.0)), pose(x), REGION)
        fused.elements()
        known.append(len(fused._tracker))
    assert known[-1] < 1.2 * known[40]


def test_numbers_stay_while_the_map_grows() -> None:
    fused = LocalMap(CLASSES, reach=80.0)
    numbers: dict[float, set[int]] = {-5.0: set(), 5.0: set()}
    for x in range(0, 100, 2):
        fused.update(seen(pose(x), world(400.0), 0.1, x), pose(x), REGION)
        for element in fused.elements():
            if element.label is MapClass.BOUNDARY:
                numbers[5.0 if element.points[:, 1].mean() > 0 else -5.0].add(element.track_id)
    assert [len(each) for each in numbers.values()] == [1, 1]


def test_reset_forgets_all() -> None:
    fused = LocalMap(CLASSES, reach=80.0)
    fused.update(seen(pose(0), world()), pose(0), REGION)
    fused.reset()
    assert fused.elements() == [] and fused.extent is None


def test_cutting_at_the_border() -> None:
    line = MapElement(MapClass.DIVIDER, np.array([[-50.0, 0], [0, 0], [0, 40], [10, 40], [10, 0], [50, 0]]), score=0.5)
    pieces = cropped([line], np.eye(4), REGION)
    assert [polyline.length(piece.points) for piece in pieces] == pytest.approx([45.0, 35.0])
    ring = MapElement(MapClass.BOUNDARY, np.array([[0, 0], [10, 0], [10, 10], [0, 10]]), closed=True)
    assert cropped([ring], pose(3), REGION)[0].closed
    cut = cropped([ring], pose(25), REGION)
    assert [piece.closed for piece in cut] == [False]
    crossing = MapElement(MapClass.PED_CROSSING, np.array([[28, 0], [34, 0], [34, 4], [28, 4]]), closed=True)
    (half,) = cropped([crossing], np.eye(4), REGION)
    assert half.closed and np.ptp(half.points, axis=0).tolist() == [2.0, 4.0]
    assert cropped([crossing], pose(10), REGION) == []


def test_tiles_give_back_what_was_added_wherever_it_lies() -> None:
    tiles = EvidenceTiles(1, 0.5)
    for corner in (np.array([-7.0, 3.0]), np.array([-100.0, -40.0]), np.array([1000.0, 2000.0])):
        window = tiles.window(corner, corner + 10)
        looks = np.random.default_rng(0).random(window.shape, np.float32)
        tiles.add(window, (looks / 2)[None], looks, memory=9.0)
        evidence, read = tiles.read(window)
        np.testing.assert_array_equal(read, looks)
        np.testing.assert_array_equal(evidence[0], looks / 2)
    before = len(tiles.blocks(1))
    tiles.forget_beyond(np.array([1000.0, 2000.0]), 100.0)
    assert 0 < len(tiles.blocks(1)) < before


def test_old_looks_fade() -> None:
    tiles = EvidenceTiles(1, 1.0)
    window = tiles.window(np.zeros(2), np.ones(2))
    ones = np.ones(window.shape, np.float32)
    for _ in range(50):
        tiles.add(window, ones[None], ones, memory=5.0)
    for _ in range(5):
        tiles.add(window, 0 * ones[None], ones, memory=5.0)
    evidence, looks = tiles.read(window)
    assert looks.max() <= 5.0 + 1e-4
    assert (evidence[0] / looks).max() < 0.45


def test_a_long_drive_is_traced_in_blocks_to_the_same_map(monkeypatch: pytest.MonkeyPatch) -> None:
    """Across a bend, so that lines meet borders at an angle, with a crossing on one of the borders."""
    lines = [np.stack([x := np.arange(-40.0, 260.0), 0.002 * x**2 + y], axis=1) for y in (-5.0, 0.0, 5.0)]
    labels = (MapClass.BOUNDARY, MapClass.DIVIDER, MapClass.BOUNDARY)
    town = [MapElement(label, line) for label, line in zip(labels, lines, strict=True)]
    border = 96.0  # ten tiles of 9.6 m
    ring = np.array([[border - 2, 8], [border + 3, 8], [border + 3, 28], [border - 2, 28]])
    town.append(MapElement(MapClass.PED_CROSSING, ring, closed=True))
    fused = LocalMap(CLASSES, reach=np.inf)
    for x in np.arange(0.0, 220.0, 4.0):
        at = pose(x, 0.002 * x**2, np.arctan(0.004 * x))
        fused.update(seen(at, town), at, REGION)
    at_once = fused.elements()
    monkeypatch.setattr("hdmap_core.fusion.local_map._BLOCK_TILES", 10)
    in_blocks = fused.elements()
    for label in CLASSES:
        assert count(in_blocks, label) == count(at_once, label)
    for element in in_blocks:
        same = [other for other in at_once if other.label is element.label]
        assert min(max(distance_to(element, other), distance_to(other, element)) for other in same) < 0.1
        assert element.track_id in {other.track_id for other in at_once}


def test_a_drive_of_many_kilometres_fits_into_memory() -> None:
    """Diagonally, 60 km: more cells on a side than any grid may have."""
    fused = LocalMap(CLASSES, reach=np.inf)
    line = MapElement(MapClass.DIVIDER, np.array([[-30.0, 0.0], [30.0, 0.0]]), score=0.9)
    for along in (0.0, 30.0, 60.0, 60000.0, 60030.0):
        place = along / np.sqrt(2)
        fused.update([line], pose(place, place, np.pi / 4), REGION)
    found = fused.elements()
    lengths = sorted(polyline.length(element.points) for element in found)
    assert lengths == pytest.approx([90.0, 120.0], abs=2.0)
