"""Pixels and ground truth must change together: draw, augment, draw again, compare."""

from pathlib import Path

import numpy as np
import pytest
import shapely
import torch
from shapely import MultiPolygon, Polygon
from torch import Tensor

from hdmap_core.config import parse_config
from hdmap_core.elements import MapClass, MapElement
from hdmap_core.errors import ConfigError
from hdmap_core.geometry import BEVGrid, CameraRig, raster, se3
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


# --- images: the ego frame changes, the pixels do not ---
SIZE = (40, 64)
CAMERAS = ("LEFT", "AHEAD", "BEHIND")
AREA = MultiPolygon([Polygon([(2, 1), (8, 1), (8, 5), (2, 5)], [[(4, 2), (5, 2), (5, 4), (4, 4)]])])


def camera_rig() -> CameraRig:
    poses = []
    for yaw in np.radians([90.0, 0.0, 180.0]):
        forward, left = np.array([np.cos(yaw), np.sin(yaw), 0]), np.array([-np.sin(yaw), np.cos(yaw), 0])
        poses.append(se3.se3(np.stack([-left, [0.0, 0.0, -1.0], forward], axis=1), 0.4 * forward + [0.1, 0.2, 1.5]))
    return CameraRig.from_arrays(CAMERAS, [np.array([[30.0, 0, 31], [0, 31, 15], [0, 0, 1]])] * 3, poses, SIZE)


def seen() -> Keyframe:
    """Three cameras, everything that a keyframe can have; all arrays read-only where they can be."""
    pixels = np.random.default_rng(0).integers(1, 256, (1, 3, 3, *SIZE), dtype=np.uint8)
    pixels[0, :, :, :10] = 0
    inputs = ModelInput(
        images=torch.from_numpy(pixels),
        projection=camera_rig().projection().float()[None],
        camera_mask=torch.ones(1, 3, dtype=torch.bool),
    )
    points = np.random.default_rng(1).uniform(-5, 5, (7, 5)).astype(np.float32)
    points.flags.writeable = False
    return Keyframe("a", inputs, ELEMENTS, {"drivable_area": AREA, "road_segment": MultiPolygon()}, points)


def parts(frame: Keyframe) -> tuple[Tensor, Tensor, Tensor]:
    """(N, 3, H, W) images, (N, 3, 4) projection, (N) mask."""
    inputs = frame.inputs
    assert inputs.images is not None and inputs.projection is not None and inputs.camera_mask is not None
    return inputs.images[0], inputs.projection[0], inputs.camera_mask[0]


def changed(frame: Keyframe, seed: int = 0, **strengths: float) -> Keyframe:
    return augment_keyframe(frame, NONE.model_copy(update=strengths), np.random.default_rng(seed))


def pixels_of(points: np.ndarray, projection: Tensor) -> np.ndarray:
    """(P, 2) points on the ground -> (N, P, 3): (u z, v z, z), which says behind and ahead apart."""
    homogeneous = np.concatenate([points, np.zeros((len(points), 1)), np.ones((len(points), 1))], axis=1)
    return homogeneous @ projection.double().numpy().transpose(0, 2, 1)


@pytest.mark.parametrize(
    ("mirror", "turn", "sign"), [(0, 0, (1, 1)), (1, 0, (1, -1)), (0, 1, (-1, -1)), (1, 1, (-1, 1))]
)
def test_what_lay_under_a_pixel_still_does(mirror: int, turn: int, sign: tuple[int, int]) -> None:
    before = seen()
    after = changed(before, mirror=mirror, turn=turn)
    images, projection, mask = parts(after)
    assert torch.equal(images, parts(before)[0]) and mask.all()
    for old, new in zip(before.elements, after.elements, strict=True):
        np.testing.assert_allclose(new.points, old.points * np.array(sign), atol=1e-6)
        expected = pixels_of(old.points, parts(before)[1])
        np.testing.assert_allclose(pixels_of(new.points, projection), expected, atol=1e-3)
        assert (np.abs(expected[..., :2]).max() > 10) and (expected[..., 2] > 1).any(), "some of it is in view"
    area = after.areas["drivable_area"]
    expected = shapely.get_coordinates(AREA) * np.array(sign)
    np.testing.assert_array_equal(shapely.get_coordinates(area), expected)
    assert area.area == AREA.area and after.areas["road_segment"].is_empty and len(area.geoms[0].interiors) == 1
    assert before.points is not None and after.points is not None
    np.testing.assert_array_equal(after.points, before.points * np.array([*sign, 1, 1, 1], np.float32))
    assert after.points.dtype == np.float32


def test_points_of_the_lidar_keep_their_pixels_and_depth() -> None:
    before = seen()
    after = changed(before, mirror=1)
    ends = []
    for frame in (before, after):
        assert frame.points is not None
        homogeneous = np.append(frame.points[:, :3], np.ones((7, 1)), axis=1)
        ends.append(homogeneous @ parts(frame)[1].double().numpy().transpose(0, 2, 1))
    np.testing.assert_allclose(ends[1], ends[0], atol=1e-4)


@pytest.mark.parametrize("seed", range(6))
def test_blind_takes_exactly_one_camera(seed: int) -> None:
    before = seen()
    images, projection, mask = parts(changed(before, seed, blind=1))
    assert mask.sum() == 2
    assert not images[~mask].any()
    assert torch.equal(images[mask], parts(before)[0][mask])
    assert torch.equal(projection, parts(before)[1])


def test_blind_takes_every_camera_at_times() -> None:
    lost = {int((~parts(changed(seen(), seed, blind=1))[2]).nonzero()) for seed in range(30)}
    assert lost == {0, 1, 2}


def test_a_camera_that_was_missing_stays_missing() -> None:
    frame = seen()
    assert frame.inputs.images is not None and frame.inputs.camera_mask is not None
    frame.inputs.images[0, 1], frame.inputs.camera_mask[0, 1] = 0, False
    for seed in range(4):
        images, _, mask = parts(changed(frame, seed, blind=1, colour=0.5))
        assert not mask[1] and not images[1].any()


def test_colour_leaves_black_black_and_geometry_alone() -> None:
    before = seen()
    after = changed(before, colour=0.4)
    images, projection, mask = parts(after)
    original = parts(before)[0]
    assert not images[original == 0].any(), "what no camera saw stays unseen"
    assert (images != original).float().mean() > 0.5 and images.dtype == torch.uint8
    assert torch.equal(projection, parts(before)[1]) and mask.all()
    curves = {tuple(images[n, 0][original[n, 0] == value].unique().tolist()) for n in range(3) for value in (120,)}
    assert len(curves) == 3 and all(len(curve) == 1 for curve in curves), "one curve per camera, each its own"


def test_everything_at_once_leaves_the_originals(tmp_path: Path) -> None:
    """Also when they are memory maps that nobody may write to."""
    frame = seen()
    for name in ("images", "projection"):
        np.save(tmp_path / f"{name}.npy", getattr(frame.inputs, name).numpy())
        mapped = np.load(tmp_path / f"{name}.npy", mmap_mode="c")  # as torch wants it: writable, but of a copy
        setattr(frame.inputs, name, torch.from_numpy(mapped))
    before = [getattr(frame.inputs, name).clone() for name in ("images", "projection", "camera_mask")]
    elements, area = [e.points.copy() for e in frame.elements], shapely.get_coordinates(AREA).copy()
    after = changed(frame, mirror=1, turn=1, blind=1, colour=0.4)
    assert after.inputs is not frame.inputs and not torch.equal(parts(after)[1], parts(frame)[1])
    for name, old in zip(("images", "projection", "camera_mask"), before, strict=True):
        assert torch.equal(getattr(frame.inputs, name), old), name
    for element, points in zip(frame.elements, elements, strict=True):
        np.testing.assert_array_equal(element.points, points)
    np.testing.assert_array_equal(shapely.get_coordinates(frame.areas["drivable_area"]), area)
    again = changed(frame, mirror=1, turn=1, blind=1, colour=0.4)
    assert all(torch.equal(one, two) for one, two in zip(parts(after), parts(again), strict=True))
