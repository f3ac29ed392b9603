"""Pixels and ground truth must change together: draw, augment, draw again, compare."""

import numpy as np
import pytest
import torch

from hdmap_core.config import parse_config
from hdmap_core.elements import MapClass, MapElement
from hdmap_core.errors import ConfigError
from hdmap_core.geometry import BEVGrid, raster
from hdmap_core.model_io import ModelInput
from training.config import AugmentConfig, TrainConfig
from training.data.augment import augment as augment_keyframe
from training.data.keyframes import Keyframe

FINE = BEVGrid((-12.0, 12.0), (-6.0, 6.0), 0.15)
NONE = AugmentConfig(mirror=0, turn=0, blind=0, colour=0)
ELEMENTS = [
    MapElement(MapClass.DIVIDER, np.array([[-10.0, 1], [3, 2], [9, 5]])),
    MapElement(MapClass.PED_CROSSING, np.array([[4.0, -5], [7, -4], [6, 0], [3, -1]]), closed=True, score=1.0),
    MapElement(MapClass.BOUNDARY, np.array([[-11.0, -5], [-2, -3]])),
]


def augment(
    ground: np.ndarray, elements: list[MapElement], config: AugmentConfig, random: np.random.Generator
) -> tuple[np.ndarray, list[MapElement]]:
    frame = Keyframe("a", ModelInput(ground=torch.from_numpy(ground)[None]), elements, {})
    changed = augment_keyframe(frame, config, random)
    assert changed.inputs.ground is not None
    return changed.inputs.ground[0].numpy(), changed.elements


def draw(elements: list[MapElement]) -> np.ndarray:
    """(4, Y, X) uint8: one channel per element, everything seen."""
    layers = [raster.draw_lines(FINE, [e.points], 0.15, closed=e.closed) * np.uint8(200) for e in elements]
    return np.stack([*layers, np.full(FINE.shape, 255, np.uint8)])


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Share of the drawn cells of `a` that have one of `b` within a cell."""
    near = np.zeros_like(b, dtype=bool)
    for rows in (-1, 0, 1):
        for columns in (-1, 0, 1):
            near |= np.roll(b > 0, (rows, columns), axis=(-2, -1))
    return float(near[a > 0].mean())


@pytest.mark.parametrize(
    ("mirror", "turn", "sign"), [(0, 0, (1, 1)), (1, 0, (1, -1)), (0, 1, (-1, -1)), (1, 1, (-1, 1))]
)
def test_pixels_and_elements_agree(mirror: int, turn: int, sign: tuple[int, int]) -> None:
    config = NONE.model_copy(update={"mirror": mirror, "turn": turn})
    pixels, elements = augment(draw(ELEMENTS), ELEMENTS, config, np.random.default_rng(0))
    for before, after in zip(ELEMENTS, elements, strict=True):
        np.testing.assert_allclose(after.points, before.points * np.array(sign), atol=1e-6)
        assert (after.label, after.closed, after.score) == (before.label, before.closed, before.score)
        assert after.points.dtype == np.float32
    again = draw(elements)
    for channel in range(3):
        assert overlap(pixels[channel], again[channel]) > 0.98
        assert overlap(again[channel], pixels[channel]) > 0.98
    assert pixels.shape == (4, *FINE.shape) and pixels.dtype == np.uint8


def test_nothing_asked_changes_nothing() -> None:
    ground = draw(ELEMENTS)
    pixels, elements = augment(ground, ELEMENTS, NONE, np.random.default_rng(0))
    np.testing.assert_array_equal(pixels, ground)
    assert all((a.points == b.points).all() for a, b in zip(elements, ELEMENTS, strict=True))


@pytest.mark.parametrize("seed", range(5))
def test_blind_hides_a_sector_and_leaves_the_truth(seed: int) -> None:
    ground = np.full((4, *FINE.shape), 255, np.uint8)
    pixels, elements = augment(ground, ELEMENTS, NONE.model_copy(update={"blind": 1}), np.random.default_rng(seed))
    hidden = pixels[3] == 0
    assert (pixels[:, hidden] == 0).all() and (pixels[:, ~hidden] == 255).all()
    rows, columns = np.indices(FINE.shape)
    disc = np.hypot(rows - 39.5, columns - 79.5) < 39
    assert 35 / 360 < hidden[disc].mean() < 75 / 360
    assert len(elements) == len(ELEMENTS)


def test_colour_leaves_geometry_and_unseen_places() -> None:
    ground = draw(ELEMENTS)
    ground[:, :20] = 0
    pixels, _ = augment(ground, ELEMENTS, NONE.model_copy(update={"colour": 0.3}), np.random.default_rng(3))
    np.testing.assert_array_equal(pixels[3], ground[3])
    assert (pixels[:, :20] == 0).all(), "unseen places stay black"
    assert (pixels[:3] != ground[:3]).any()
    np.testing.assert_array_equal(pixels[:3][ground[:3] == 0], 0)


def test_seeded_and_without_side_effects() -> None:
    ground = draw(ELEMENTS)
    before = ground.copy()
    everything = AugmentConfig(mirror=0.5, turn=0.5, blind=0.5, colour=0.3)
    first = augment(ground, ELEMENTS, everything, np.random.default_rng((1, 2)))
    second = augment(ground, ELEMENTS, everything, np.random.default_rng((1, 2)))
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1][0].points, second[1][0].points)
    np.testing.assert_array_equal(ground, before)


@pytest.mark.parametrize(
    ("grid", "augmentation", "fits"),
    [
        ({"x_range": [0, 60]}, {}, False),
        ({"x_range": [0, 60]}, {"turn": 0}, True),
        ({"y_range": [-12, 18]}, {"turn": 0}, False),
        ({"y_range": [-12, 18]}, {"turn": 0, "mirror": 0}, True),
        ({}, {}, True),
    ],
)
def test_only_symmetric_grids_may_be_mirrored(grid: dict, augmentation: dict, fits: bool) -> None:
    content = {"model": {"name": "x", "grid": grid}, "data": {"root": "x"}, "augment": augmentation}
    if fits:
        parse_config(TrainConfig, content, "recipe")
        return
    with pytest.raises(ConfigError, match="needs a grid that is symmetric about the car"):
        parse_config(TrainConfig, content, "recipe")
