"""Rasters of a perfect network must give back the lines that were drawn, as the published procedure does."""

from types import ModuleType

import cv2
import numpy as np
import pytest

from hdmap_core.elements import MapClass, MapElement
from hdmap_core.geometry import BEVGrid, polyline
from hdmap_core.postprocess.dense import DenseDecodeConfig, class_mask, decode_dense

GRID = BEVGrid(resolution=0.15)
SMALL = BEVGrid((-15, 15), (-7.5, 7.5), 0.15)
D, C, B = CLASSES = (MapClass.DIVIDER, MapClass.PED_CROSSING, MapClass.BOUNDARY)


def decode(rasters, grid: BEVGrid = SMALL, **changes) -> list[MapElement]:
    config = DenseDecodeConfig(**changes)
    return decode_dense(rasters.semantic, rasters.embedding, rasters.direction, config, classes=CLASSES, grid=grid)


def chamfer(a: np.ndarray, b: np.ndarray) -> float:
    a, b = (polyline.resample(np.asarray(line, np.float64), 300) for line in (a, b))
    distance = np.linalg.norm(a[:, None] - b[None], axis=-1)
    return float((distance.min(0).mean() + distance.min(1).mean()) / 2)


def straight(*points: tuple[float, float]) -> np.ndarray:
    return np.array(points, np.float64)


def shuffled(points: np.ndarray, seed: int) -> np.ndarray:
    return points[::-1] if seed % 2 else points


def test_eight_lines_are_those_of_the_published_procedure(published: ModuleType) -> None:
    lines = published.eight_lines(SMALL)
    rasters = published.clean_rasters(lines, SMALL)
    ours = decode(rasters)
    theirs = published.published_lines(rasters)
    assert [element.label for element in ours] == [CLASSES[channel - 1] for channel, _, _ in theirs]
    for element, (_, score, cells) in zip(ours, theirs, strict=True):
        assert chamfer(element.points, SMALL.to_metres(cells.astype(np.float64))) < 0.15
        assert element.score == pytest.approx(score, abs=2e-3)  # DBSCAN calls some cells noise
        assert not element.closed
    for channel, points in lines:
        of_class = [element for element in ours if element.label is CLASSES[channel - 1]]
        best = min(of_class, key=lambda element: chamfer(element.points, points))
        assert chamfer(best.points, points) < 0.1
        assert polyline.length(best.points) == pytest.approx(polyline.length(points), abs=0.7)
        assert len(best.points) <= 10


@pytest.mark.parametrize("seed", range(6))
def test_random_bends_come_back(published: ModuleType, seed: int) -> None:
    random = np.random.default_rng(seed)
    x = np.linspace(-14, 14, 40)
    lines = [
        (
            1 + index % 3,
            shuffled(np.stack([x, y + random.uniform(-0.8, 0.8) * np.sin(x / random.uniform(3, 9))], 1), seed),
        )
        for index, y in enumerate((-6, -3.5, -1, 1.5, 4, 6.3))
    ]
    rasters = published.clean_rasters(lines, SMALL, seed)
    found = decode(rasters)
    assert len(found) == len(lines)
    for channel, points in lines:
        assert min(chamfer(e.points, points) for e in found if e.label is CLASSES[channel - 1]) < 0.1


def test_score_is_the_mean_over_all_cells(published: ModuleType) -> None:
    rasters = published.clean_rasters([(1, straight((-10, 0), (10, 0)))], SMALL)
    (element,) = decode(rasters)
    assert element.score == pytest.approx(rasters.semantic[1][rasters.instance == 1].mean(), abs=1e-6)


def test_a_gap_is_bridged_within_one_instance_only(published: ModuleType) -> None:
    rasters = published.clean_rasters([(1, straight((-13, 0), (13, 0))), (1, straight((-13, 4), (13, 4)))], SMALL)
    hidden = (slice(None), slice(None), slice(80, 120))
    rasters.semantic[hidden] = np.array([1, 0, 0, 0], np.float32)[:, None, None]
    found = decode(rasters)
    assert len(found) == 2
    assert all(polyline.length(element.points) == pytest.approx(26, abs=0.7) for element in found)
    assert len(decode(rasters, max_gap=3.0)) == 4


def test_a_line_on_both_sides_of_another_is_cut_and_joined_straight(published: ModuleType) -> None:
    rasters = published.clean_rasters([(3, straight((-13, -6), (13, 6))), (3, straight((-13, 6), (13, -6)))], SMALL)
    alike = np.zeros_like(rasters.embedding)  # embeddings that do not help
    found = decode_dense(rasters.semantic, alike, rasters.direction, DenseDecodeConfig(), classes=CLASSES, grid=SMALL)
    assert len(found) == 2
    for points in (straight((-13, -6), (13, 6)), straight((-13, 6), (13, -6))):
        assert min(chamfer(element.points, points) for element in found) < 0.15


def test_right_angle_stays_one_line(published: ModuleType) -> None:
    corner = straight((-12, -5), (6, -5), (6, 6))
    (found,) = decode(published.clean_rasters([(3, corner)], SMALL))
    assert chamfer(found.points, corner) < 0.12


def test_island_ends_where_it_begins(published: ModuleType) -> None:
    angle = np.linspace(0, 2 * np.pi, 60)
    ring = np.stack([2 + 8 * np.cos(angle), 5 * np.sin(angle)], axis=1)
    (found,) = decode(published.clean_rasters([(3, ring)], SMALL))
    assert chamfer(found.points, ring) < 0.12
    np.testing.assert_array_equal(found.points[0], found.points[-1])


@pytest.mark.parametrize(("across", "num"), [(True, 1), (False, 2)])
def test_a_stub_across_the_predicted_direction_is_dropped(published: ModuleType, across: bool, num: int) -> None:
    line, stub = straight((-13, 0), (13, 0)), straight((2, 0), (2, 1.8))
    rasters = published.clean_rasters([(1, line), (1, stub)], SMALL)
    rasters.embedding[:] = 0
    if across:
        rasters.direction[:] = 0
        rasters.direction[[1, 19]] = 0.5  # forward and backward everywhere
    found = decode(rasters, max_spur=2.5, min_length=0.8, min_share=0.0)
    assert len(found) == num
    assert max(polyline.length(element.points) for element in found) == pytest.approx(26, abs=0.7)


def test_side_branches_are_dropped_by_their_share(published: ModuleType) -> None:
    rasters = published.clean_rasters([(1, straight((-13, 0), (13, 0))), (1, straight((2, 0), (2, 6)))], SMALL)
    rasters.embedding[:] = 0
    assert len(decode(rasters)) == 1
    assert len(decode(rasters, min_share=0.15)) == 2


def test_small_areas_and_morphology() -> None:
    mask = np.zeros((60, 60), bool)
    mask[5:15, 5:15] = True
    mask[30:35, 5:45] = True
    mask[30:35, 20:22] = False  # a crack that closing mends
    config = DenseDecodeConfig()
    assert not class_mask(mask, config)[5:15, 5:15].any(), "an area of exactly min_area is dropped"
    assert not class_mask(mask, config)[30:35, 5:20].any() and class_mask(mask, config)[30:35, 22:45].all()
    closed = class_mask(mask, config.model_copy(update={"morphology": "close"}))
    assert closed[32, 5:45].all()
    thin = np.zeros((60, 60), bool)
    thin[10:13] = True
    assert class_mask(thin, config).any()
    assert not class_mask(thin, config.model_copy(update={"morphology": "open"})).any()


def test_nothing_is_changed_and_repeats(published: ModuleType) -> None:
    rasters = published.clean_rasters(published.eight_lines(GRID), GRID)
    before = [rasters.semantic.copy(), rasters.embedding.copy(), rasters.direction.copy()]
    for array in (rasters.semantic, rasters.embedding, rasters.direction):
        array.flags.writeable = False
    first, second = decode(rasters, GRID), decode(rasters, GRID)
    for array, was in zip((rasters.semantic, rasters.embedding, rasters.direction), before, strict=True):
        np.testing.assert_array_equal(array, was)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.points, b.points)
        assert (a.label, a.score) == (b.label, b.score)


def test_background_noise_and_nan() -> None:
    random = np.random.default_rng(0)
    shape = SMALL.shape
    direction = np.full((37, *shape), 1 / 37, np.float32)
    smooth = np.stack([cv2.GaussianBlur(random.normal(size=shape), (0, 0), 8) for _ in range(20)])
    semantic, embedding = np.split((smooth / smooth.std()).astype(np.float32), [4])
    config = DenseDecodeConfig()

    def decoded(semantic: np.ndarray) -> list[MapElement]:
        return decode_dense(semantic, embedding, direction, config, classes=CLASSES, grid=SMALL)

    background = np.zeros((4, *shape), np.float32)
    background[0] = 1
    assert decoded(background) == []
    assert decoded(np.full((4, *shape), np.nan, np.float32)) == []
    found = decoded(np.exp(semantic) / np.exp(semantic).sum(axis=0))
    assert found
    for element in found:  # whatever it is, it is valid
        assert polyline.length(element.points) >= config.min_length and 0 <= element.score <= 1


def test_rasters_must_fit() -> None:
    wrong = np.zeros((4, 10, 10), np.float32)
    with pytest.raises(ValueError, match=r"expected \(4, 100, 200\)"):
        decode_dense(wrong, wrong, wrong, DenseDecodeConfig(), classes=CLASSES, grid=SMALL)
