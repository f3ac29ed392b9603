"""What decoding does to polylines besides ranking them: repeats, duplicates, simplification."""

from typing import Any

import numpy as np
import pytest
import shapely
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hdmap_core.elements import MapClass, MapElement
from hdmap_core.geometry import BEVGrid, polyline
from hdmap_core.model_io import ModelOutput, VectorOutput
from hdmap_core.postprocess import DecodeConfig, VectorDecodeConfig
from hdmap_core.postprocess.decode import decode
from hdmap_core.postprocess.vectors import simplified, without_duplicates, without_repeat

GRID = BEVGrid()
CLASSES = (MapClass.DIVIDER, MapClass.PED_CROSSING, MapClass.BOUNDARY, MapClass.CENTERLINE)
SQUARE = np.array([[0, 0], [4, 0], [4, 4], [0, 4]], dtype=np.float32)


def line(
    y: float, score: float, label: MapClass = MapClass.DIVIDER, num: int = 20, reverse: bool = False
) -> MapElement:
    points = np.stack([np.linspace(-20, 20, num), np.full(num, y)], axis=1).astype(np.float32)
    return MapElement(label, points[::-1].copy() if reverse else points, score=score)


def tensors(elements: list[MapElement]) -> tuple[torch.Tensor, torch.Tensor]:
    """One query per element, sure of its class."""
    logits = torch.full((len(elements), len(CLASSES)), -9.0)
    for query, element in enumerate(elements):
        logits[query, CLASSES.index(element.label)] = torch.tensor(element.score).logit()
    points = GRID.normalise(torch.from_numpy(np.stack([element.points for element in elements])))
    return logits, points


def decoded_tensors(logits: torch.Tensor, points: torch.Tensor, **settings: Any) -> list[MapElement]:
    """Sorted by class, then by score."""
    output = ModelOutput(vectors=VectorOutput(logits[None, None], points[None, None]))
    return decode(output, DecodeConfig(**settings), classes=CLASSES, grid=GRID)


def decoded(elements: list[MapElement], **changes: float) -> list[MapElement]:
    return decoded_tensors(*tensors(elements), score_threshold=0.01, vectors=VectorDecodeConfig(**changes))


def test_ring_that_repeats_its_first_point_loses_the_repeat() -> None:
    ring = polyline.closed_ring(polyline.resample(SQUARE, 19, closed=True))
    ring[-1] += 0.03
    (found,) = decoded([MapElement(MapClass.PED_CROSSING, ring, score=0.9)])
    assert found.closed
    np.testing.assert_allclose(found.points, ring[:-1], atol=1e-5)


@pytest.mark.parametrize("label", [MapClass.DIVIDER, MapClass.BOUNDARY, MapClass.CENTERLINE])
def test_open_lines_keep_a_repeat(label: MapClass) -> None:
    ring = polyline.closed_ring(polyline.resample(SQUARE, 19, closed=True))
    (found,) = decoded([MapElement(label, ring, score=0.9)])
    assert (found.label, found.closed, len(found.points)) == (label, False, 20)


def test_ring_of_distinct_points_is_left_as_it_is() -> None:
    ring = polyline.resample(SQUARE, 20, closed=True)
    assert without_repeat(ring) is ring
    triangle = SQUARE[[0, 1, 0]]
    assert without_repeat(triangle) is triangle, "three points are needed"
    point = np.ones((20, 2), dtype=np.float32)
    assert without_repeat(point) is point


def test_published_protocol_is_the_default() -> None:
    twice = [line(1.0, 0.9), line(1.0, 0.8)]
    assert [e.score for e in decoded(twice)] == pytest.approx([0.9, 0.8])
    assert len(decoded(twice)[0].points) == 20
    assert DecodeConfig().vectors == VectorDecodeConfig()
    assert DecodeConfig.model_validate({"head": "masks", "score_threshold": 0.1}).vectors == VectorDecodeConfig()


def test_of_duplicates_the_best_stays() -> None:
    elements = [
        line(0.0, 0.6),
        line(0.3, 0.9, reverse=True),  # the same line the other way round
        line(3.0, 0.5),
        line(0.0, 0.4, MapClass.BOUNDARY),  # another class
    ]
    found = decoded(elements, duplicate_distance=0.5)
    assert [(e.label, round(e.score, 3)) for e in found] == [
        (MapClass.DIVIDER, 0.9),
        (MapClass.DIVIDER, 0.5),
        (MapClass.BOUNDARY, 0.4),
    ]
    assert len(decoded(elements, duplicate_distance=0.2)) == 4


def test_what_is_dropped_drops_nothing() -> None:
    """Of three lines side by side the middle one goes, and the third, near only to that one, stays."""
    elements = [line(0.0, 0.9), line(0.4, 0.8), line(0.8, 0.7)]
    assert [e.score for e in without_duplicates(elements, 0.5)] == [0.9, 0.7]


def test_rings_are_compared_whole_and_from_any_start() -> None:
    ring = polyline.resample(SQUARE, 20, closed=True)
    first = MapElement(MapClass.PED_CROSSING, ring, True, 0.9)
    turned = MapElement(MapClass.PED_CROSSING, np.roll(ring, 7, axis=0)[::-1].copy(), True, 0.8)
    beside = MapElement(MapClass.PED_CROSSING, ring + np.float32(2.0), True, 0.7)
    assert without_duplicates([first, turned, beside], 0.3) == [first, beside]
    assert without_duplicates([], 0.3) == []


@given(st.lists(st.tuples(st.floats(-10, 10), st.floats(0.1, 1.0)), min_size=1, max_size=12), st.floats(0.1, 3.0))
@settings(max_examples=30, deadline=None)
def test_suppression_leaves_no_duplicates_and_loses_no_line(places: list[tuple[float, float]], distance: float) -> None:
    elements = sorted((line(y, score) for y, score in places), key=lambda e: -e.score)
    kept = without_duplicates(elements, distance)
    assert kept[0] is elements[0]
    heights = np.array([e.points[0, 1] for e in kept])
    gaps = np.abs(heights[:, None] - heights)[np.triu_indices(len(kept), 1)]
    assert (gaps > distance - 1e-4).all()
    for element in elements:
        assert np.abs(heights - element.points[0, 1]).min() <= distance + 1e-4
    assert without_duplicates(kept, distance) == kept


def test_limit_counts_what_is_left() -> None:
    elements = [line(0.0, 0.9), line(0.0, 0.8), line(5.0, 0.7)]
    cleaning = VectorDecodeConfig(duplicate_distance=0.5)
    found = decoded_tensors(*tensors(elements), max_elements=2, vectors=cleaning)
    assert [e.points[0, 1] for e in found] == pytest.approx([0.0, 5.0], abs=1e-4)


def test_one_class_per_query() -> None:
    logits, points = tensors([line(0.0, 0.9), line(5.0, 0.8)])
    logits[0, 2] = 1.0
    assert len(decoded_tensors(logits, points)) == 2 * len(CLASSES)
    found = decoded_tensors(logits, points, vectors=VectorDecodeConfig(one_class_per_query=True))
    assert [(e.label, round(e.score, 3)) for e in found] == [(MapClass.DIVIDER, 0.9), (MapClass.DIVIDER, 0.8)]


def test_low_scores_are_dropped() -> None:
    found = decoded_tensors(*tensors([line(0.0, 0.9), line(5.0, 0.3)]), score_threshold=0.5)
    assert [round(e.score, 3) for e in found] == [0.9]


@given(st.integers(0, 1000), st.floats(0.05, 2.0), st.booleans())
@settings(max_examples=40, deadline=None)
def test_simplified_stays_within_the_tolerance(seed: int, tolerance: float, closed: bool) -> None:
    rng = np.random.default_rng(seed)
    if closed:
        angle = np.linspace(0, 2 * np.pi, 20, endpoint=False)
        points = (5 + rng.random(20))[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    else:
        points = np.cumsum(rng.normal(size=(20, 2)), axis=0)
    element = MapElement(MapClass.PED_CROSSING if closed else MapClass.DIVIDER, points, closed, 0.5)
    simple = simplified(element, tolerance)
    assert (simple.label, simple.closed, simple.score) == (element.label, closed, 0.5)
    assert 2 <= len(simple.points) <= 20
    assert {tuple(p) for p in simple.points.tolist()} <= {tuple(p) for p in element.points.tolist()}
    path = shapely.linestrings(polyline.closed_ring(simple.points) if closed else simple.points)
    assert shapely.distance(path, shapely.points(element.points)).max() <= tolerance + 1e-5
    if not closed:
        np.testing.assert_array_equal(simple.points[[0, -1]], element.points[[0, -1]])


def test_simplification_finds_the_corners() -> None:
    middle_first = np.roll(polyline.resample(SQUARE, 20, closed=True), -2, axis=0)  # starts within a side
    (straight, ring) = decoded(
        [MapElement(MapClass.PED_CROSSING, middle_first, True, 0.9), line(1.0, 0.8)], tolerance=0.05
    )
    assert sorted(np.round(ring.points, 3).tolist()) == sorted(SQUARE.tolist())
    np.testing.assert_allclose(straight.points, [[-20, 1], [20, 1]], atol=1e-4)


@pytest.mark.parametrize("closed", [False, True])
def test_what_would_vanish_is_left_as_it_is(closed: bool) -> None:
    dot = MapElement(MapClass.PED_CROSSING if closed else MapClass.DIVIDER, np.ones((5, 2)), closed)
    assert len(simplified(dot, 1.0).points) >= (3 if closed else 2)
    tiny = MapElement(MapClass.PED_CROSSING, SQUARE / 100, True)
    assert simplified(tiny, 1.0) is tiny


def test_suppression_and_simplification_together() -> None:
    elements = [line(0.0, 0.9), line(0.1, 0.8), line(5.0, 0.7)]
    assert [len(e.points) for e in decoded(elements)] == [20, 20, 20]
    cleaned = decoded(elements, duplicate_distance=0.5, tolerance=0.1)
    assert [(round(e.score, 3), len(e.points)) for e in cleaned] == [(0.9, 2), (0.7, 2)]
