"""Blobs of probability, as a network makes them, must become clean outlines."""

import numpy as np
import pytest
import shapely
import shapely.affinity
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from hdmap_core.postprocess.crossings import best_rectangle, crossing_outlines

SHAPE = (200, 400)
ROWS, COLUMNS = np.mgrid[: SHAPE[0], : SHAPE[1]]
RANGE = shapely.box(-0.5, -0.5, SHAPE[1] - 0.5, SHAPE[0] - 0.5)


def rectangle(x: float, y: float, length: float, width: float, turn: float) -> shapely.Polygon:
    box = shapely.box(-length / 2, -width / 2, length / 2, width / 2)
    return shapely.affinity.translate(shapely.affinity.rotate(box, np.degrees(turn), origin=(0, 0)), x, y)


def drawn(*shapes: shapely.Geometry, blur: float = 1.5, peak: float = 0.95) -> np.ndarray:
    """(Y, X) float32: 1 inside of the shapes, blurred. Past the border of the range a shape goes on."""
    rim = 20
    x, y = np.meshgrid(np.arange(-rim, SHAPE[1] + rim), np.arange(-rim, SHAPE[0] + rim))
    inside = shapely.contains_xy(shapely.union_all(shapes), x, y)
    return np.ascontiguousarray(gaussian_filter(inside * np.float32(peak), blur)[rim:-rim, rim:-rim])


def outlines(layer: np.ndarray, threshold: float = 0.2, level: float = 0.6, min_cells: float = 80) -> list[np.ndarray]:
    return [outline for outline, _ in crossing_outlines(layer.astype(np.float32), threshold, level, min_cells)]


def assert_clean(found: list[np.ndarray]) -> None:
    for outline in found:
        polygon = shapely.Polygon(outline)
        assert np.isfinite(outline).all() and len(outline) >= 3
        assert polygon.is_valid and polygon.is_simple and polygon.area > 0
        assert RANGE.buffer(1e-3).covers(polygon)


def assert_convex(outline: np.ndarray) -> None:
    polygon = shapely.Polygon(outline)
    assert polygon.convex_hull.area == pytest.approx(polygon.area, rel=1e-6)


@settings(max_examples=30, deadline=None)
@given(
    x=st.floats(90, 310),
    y=st.floats(80, 120),
    length=st.floats(25, 90),
    width=st.floats(16, 40),
    turn=st.floats(0, np.pi),
    noise=st.floats(0, 0.25),
    seed=st.integers(0, 2**31),
)
def test_a_rectangle_comes_back(
    x: float, y: float, length: float, width: float, turn: float, noise: float, seed: int
) -> None:
    truth = rectangle(x, y, length, width, turn)
    rough = noise * gaussian_filter(np.random.default_rng(seed).standard_normal(SHAPE), 2) * 8
    layer = drawn(truth)
    (found,) = outlines(np.clip(layer * (1 - np.abs(rough)), 0, 1))
    assert len(found) == 4
    assert_clean([found])
    assert_convex(found)
    distance = shapely.hausdorff_distance(shapely.LinearRing(found), truth.exterior, densify=0.2)
    assert distance < 1.5 + 6 * noise, "cells"


@settings(max_examples=30, deadline=None)
@given(
    x=st.floats(-15, 415), y=st.sampled_from([-5.0, 5.0, 100.0, 195.0, 205.0]), length=st.floats(40, 90),
    turn=st.floats(0, np.pi),
)  # fmt: skip
def test_what_the_border_cuts_is_cut_by_it(x: float, y: float, length: float, turn: float) -> None:
    whole = rectangle(x, y, length, 25, turn)
    truth = shapely.intersection(whole, RANGE)
    found = outlines(drawn(whole))
    if truth.area < 150:
        assert len(found) <= 1
    else:
        assert len(found) == 1
        overlap = shapely.Polygon(found[0]).intersection(truth).area / shapely.Polygon(found[0]).union(truth).area
        assert overlap > 0.65
        assert len(found[0]) <= 7
    assert_clean(found)
    for outline in found:
        assert_convex(outline)


def test_rags_and_bites_change_little() -> None:
    truth = rectangle(200, 100, 80, 26, 0.3)
    rng = np.random.default_rng(3)
    layer = drawn(truth)
    for _ in range(12):  # along the edge
        at = truth.exterior.interpolate(rng.uniform(0, truth.length))
        near = np.hypot(COLUMNS - at.x, ROWS - at.y) < rng.uniform(1.5, 3.5)
        layer[near] = 0.9 if rng.random() < 0.5 else 0.05
    layer[95:99, 235:262] = 0.9  # a spur
    (found,) = outlines(layer)
    assert len(found) == 4
    assert shapely.hausdorff_distance(shapely.LinearRing(found), truth.exterior, densify=0.2) < 3


@pytest.mark.parametrize("gap", [4.0, 7.0])
def test_crossings_that_only_touch_are_apart(gap: float) -> None:
    """The valley between them is above the threshold, below the level of the outline."""
    pair = rectangle(150, 100, 60, 25, 0.4), rectangle(150, 100, 60, 25, 0.4)
    away = np.array([-np.sin(0.4), np.cos(0.4)]) * (25 + gap)
    pair = pair[0], shapely.affinity.translate(pair[1], *away)
    layer = drawn(*pair, blur=2.5)
    assert len(outlines(layer, threshold=0.9)) <= 2
    found = outlines(np.maximum(layer, 0.3 * drawn(shapely.union_all(pair).convex_hull)), level=0.8)
    assert len(found) == 2
    assert_clean(found)
    for truth in pair:
        assert min(shapely.hausdorff_distance(shapely.LinearRing(o), truth.exterior, densify=0.2) for o in found) < 3.5


def test_crossings_that_meet_at_a_corner_are_joined_as_in_the_truth() -> None:
    corner = rectangle(200, 60, 90, 24, 0.0), rectangle(165, 90, 24, 80, 0.0)
    truth = shapely.union_all(corner)
    (found,) = outlines(drawn(*corner))
    assert_clean([found])
    assert 6 <= len(found) <= 10
    polygon = shapely.Polygon(found)
    assert polygon.intersection(truth).area / polygon.union(truth).area > 0.9


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31), fineness=st.floats(0.5, 8), threshold=st.floats(0.05, 0.9), level=st.floats(0.1, 0.99)
)
def test_whatever_the_mask_outlines_are_sound(seed: int, fineness: float, threshold: float, level: float) -> None:
    noise = gaussian_filter(np.random.default_rng(seed).random(SHAPE), fineness)
    noise = (noise - noise.min()) / (noise.max() - noise.min())
    assert_clean(outlines(noise, threshold, level, min_cells=20))


def odd_masks() -> dict[str, np.ndarray]:
    empty = np.zeros(SHAPE, np.float32)
    masks = {"nothing": empty, "all": empty + 1, "level": empty + 0.3}
    masks["one cell"], masks["a hair"], masks["a ring"] = empty.copy(), empty.copy(), empty.copy()
    masks["one cell"][10, 10] = 1
    masks["a hair"][50, 10:300] = 1
    masks["a ring"][(np.hypot(COLUMNS - 200, ROWS - 100) < 60) & (np.hypot(COLUMNS - 200, ROWS - 100) > 45)] = 1
    masks["a corner of the range"] = ((COLUMNS + ROWS) < 30).astype(np.float32)
    masks["chess"] = ((COLUMNS // 9 + ROWS // 9) % 2).astype(np.float32)
    return masks


@pytest.mark.parametrize("name", odd_masks())
def test_odd_masks(name: str) -> None:
    assert_clean(outlines(odd_masks()[name], min_cells=1))


def test_the_score_is_the_mean_probability_of_the_blob() -> None:
    layer = 0.7 * (drawn(rectangle(100, 100, 60, 30, 0.0), blur=0.01) > 0)
    ((_, score),) = crossing_outlines(layer.astype(np.float32), 0.2, 0.87, 80)
    assert score == pytest.approx(0.7)


def test_no_rectangle_without_evidence() -> None:
    contour = np.array([[10, 10], [40, 10], [40, 30], [10, 30]], np.int32)[:, None]
    assert best_rectangle(np.full((60, 60), -1, np.float32), contour) is None
