"""Turned, shifted and zoomed views: what is projected must stay on the same pixels, ground truth must stay complete."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hdmap_core.datasets.nuscenes import NuScenesDataset
from hdmap_core.geometry import BEVGrid, raster, se3
from hdmap_core.model_io import ModelInput
from hdmap_core.models import ModelConfig
from hdmap_core.preprocess import ground_grid, ground_pixels, image_inputs
from training.config import AugmentConfig, TrainConfig
from training.data.augment import augment, moved
from training.data.batches import make_batch
from training.data.keyframes import Keyframe, load_keyframes

GRID = BEVGrid((-15.0, 15.0), (-9.0, 9.0), 0.3)
NONE = AugmentConfig(mirror=0, turn=0, blind=0, colour=0)


@pytest.fixture(scope="module")
def frame(synthetic_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Keyframe:
    """A real keyframe of the synthetic world with images, LiDAR-like points and its map."""
    cache = tmp_path_factory.mktemp("stores")
    keyframes = load_keyframes(
        synthetic_root, "train", ModelConfig(name="x", grid=GRID), keep_inputs=False, cache=cache, workers=1
    )
    truth = keyframes[0]
    observation = NuScenesDataset(synthetic_root).observation(truth.token, points=False)
    points = np.random.default_rng(0).uniform(-9, 9, (30, 5)).astype(np.float32)
    return replace(truth, inputs=image_inputs(observation, (48, 96)), points=points)


def motion(degrees: float, x: float, y: float) -> np.ndarray:
    return se3.se3(se3.rotation_from_euler(0, 0, np.radians(degrees)), [x, y, 0.0])


def projected(frame: Keyframe, ground: np.ndarray) -> np.ndarray:
    """(N, P, 3) homogeneous pixels of (P, 2) points on the ground."""
    assert frame.inputs.projection is not None
    points = np.pad(np.pad(ground, ((0, 0), (0, 1))), ((0, 0), (0, 1)), constant_values=1.0)
    return np.einsum("nij,pj->npi", frame.inputs.projection[0].double().numpy(), points)


def along(elements) -> np.ndarray:
    """(P, 2) points every 20 cm on all elements."""
    found = []
    for element in elements:
        path = np.concatenate([element.points, element.points[:1]]) if element.closed else element.points
        for a, b in pairwise(path):
            steps = max(2, int(np.linalg.norm(b - a) / 0.2))
            found.append(a + np.linspace(0, 1, steps)[:, None] * (b - a))
    return np.concatenate(found)


def distance_to(points: np.ndarray, lines: np.ndarray) -> np.ndarray:
    return np.sqrt(((points[:, None] - lines[None]) ** 2).sum(-1)).min(axis=1)


@settings(max_examples=15, deadline=None)
@given(degrees=st.floats(-180, 180), x=st.floats(-4, 4), y=st.floats(-4, 4))
def test_any_place_keeps_its_pixel(frame: Keyframe, degrees: float, x: float, y: float) -> None:
    change = motion(degrees, x, y)
    new = moved(frame, change, GRID)
    there = np.random.default_rng(1).uniform((-15, -9), (15, 9), (50, 2))
    here = se3.transform_points(change, np.pad(there, ((0, 0), (0, 1))))[:, :2]
    old_pixels, new_pixels = projected(frame, here), projected(new, there)
    np.testing.assert_allclose(new_pixels, old_pixels, atol=1e-2 + 1e-5 * np.abs(old_pixels).max())
    assert new.points is not None and frame.points is not None
    np.testing.assert_allclose(
        se3.transform_points(change, new.points[:, :3].astype(float)), frame.points[:, :3], atol=1e-4
    )
    np.testing.assert_array_equal(new.points[:, 3:], frame.points[:, 3:])


@pytest.mark.parametrize(("degrees", "x", "y"), [(0, 0, 0), (30, 0, 0), (-75, 1.5, -2), (180, 0, 3), (12, -3, 1)])
def test_elements_lie_where_they_lay(frame: Keyframe, degrees: float, x: float, y: float) -> None:
    """Inside both grids the lines are the same; near the new grid's border the cut is another."""
    change = motion(degrees, x, y)
    new = moved(frame, change, GRID)
    assert new.elements
    after = se3.transform_points(change, np.pad(along(new.elements), ((0, 0), (0, 1))))[:, :2]
    before = along(frame.elements)
    well_inside = (np.abs(after) < (14.5, 8.5)).all(axis=1)
    assert well_inside.sum() > 20
    # Crossings are closed along the border of whichever grid cuts them, so a little differs there.
    back = se3.transform_points(se3.inverse(change), np.pad(after, ((0, 0), (0, 1))))[:, :2]
    both = well_inside & (np.abs(back) < (14.5, 8.5)).all(axis=1)
    assert distance_to(after[both], before).max() < 0.15
    for element in new.elements:
        assert (np.abs(element.points) <= np.array([15.0, 9.0]) + 1e-4).all()


def test_corners_of_a_turned_grid_have_their_ground_truth(frame: Keyframe, synthetic_root: Path) -> None:
    """Turning what was cut before would lose them: the new cut reaches beyond the old grid."""
    new = moved(frame, motion(90, 0, 0), GRID)
    far = np.abs(along(new.elements)[:, 0]) > 9.5
    assert far.any(), "places that the old grid did not have"
    assert frame.cut is not None
    again = frame.cut(motion(90, 0, 0))[0]
    assert [e.label for e in again] == [e.label for e in new.elements]


def test_no_motion_is_no_change(frame: Keyframe) -> None:
    new = moved(frame, np.eye(4), GRID)
    for a, b in zip(new.elements, frame.elements, strict=True):
        np.testing.assert_allclose(a.points, b.points, atol=1e-4)
    for layer, area in frame.areas.items():
        assert new.areas[layer].area == pytest.approx(area.area, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize(("degrees", "x", "y"), [(0, 1.2, -0.6), (90, 0, 0), (25, 0.9, 1.5)])
def test_ground_pixels_go_along(degrees: float, x: float, y: float) -> None:
    """Draw a line, move the pixels, draw the moved line: the same pixels within one of their neighbours."""
    fine = ground_grid(GRID)
    line = np.array([[-6.0, -3.0], [5.0, 2.0]])
    ground = np.stack([raster.draw_lines(fine, [line], 0.9) * np.uint8(200)] * 3 + [np.full(fine.shape, 255, np.uint8)])
    change = motion(degrees, x, y)
    frame = Keyframe("a", ModelInput(ground=torch.from_numpy(ground)[None]), [], {}, cut=lambda _: ([], {}))
    found = moved(frame, change, GRID).inputs.ground
    assert found is not None
    there = se3.transform_points(se3.inverse(change), np.pad(line, ((0, 0), (0, 1))))[:, :2]
    expected = raster.draw_lines(fine, [there], 0.9) * np.uint8(200)
    near = cv2.dilate(expected, np.ones((3, 3), np.uint8))
    drawn = found[0, 0].numpy()
    assert drawn.any() and (near[drawn > 0] > 0).mean() > 0.99
    assert abs((drawn > 0).sum() / (expected > 0).sum() - 1) < 0.15
    assert (found[0, 3].numpy() == 255).mean() > 0.5


def test_what_was_not_seen_is_black(frame: Keyframe, synthetic_root: Path) -> None:
    observation = NuScenesDataset(synthetic_root).observation(frame.token, points=False)
    ground = torch.from_numpy(ground_pixels(observation, GRID))[None]
    seen = replace(frame, inputs=ModelInput(ground=ground))
    new = moved(seen, motion(90, 0, 0), GRID).inputs.ground
    assert new is not None
    assert (new[0, :, :, :39] == 0).all() and (new[0, :, :, -39:] == 0).all(), "beyond the old grid"


def test_without_a_map_the_view_cannot_move(frame: Keyframe) -> None:
    with pytest.raises(ValueError, match=r"has no map; set augment\.rotate"):
        augment(replace(frame, cut=None), NONE.model_copy(update={"rotate": 5.0}), np.random.default_rng(0), GRID)


@pytest.mark.parametrize("seed", range(4))
def test_a_zoomed_image_shows_things_where_they_are_projected(frame: Keyframe, seed: int) -> None:
    """A smooth bump is painted into every camera; after the zoom it is where the projection says."""
    assert frame.inputs.images is not None and frame.inputs.projection is not None
    rows, columns = np.indices((48, 96))
    at = np.array([40.0, 25.0])
    bump = 250 * np.exp(-((columns - at[0]) ** 2 + (rows - at[1]) ** 2) / 18)
    images = torch.from_numpy(np.broadcast_to(bump, (1, 6, 3, 48, 96)).astype(np.uint8).copy())
    painted = replace(frame, inputs=replace(frame.inputs, images=images))
    new = augment(painted, NONE.model_copy(update={"zoom": 0.2}), np.random.default_rng(seed), GRID)
    assert new.inputs.images is not None and new.inputs.projection is not None
    checked = 0
    for camera in range(6):
        old = frame.inputs.projection[0, camera].double().numpy()
        ray = np.linalg.solve(old[:, :3], np.append(at, 1.0) * 7.0 - old[:, 3])  # a point seen at `at`, 7 m away
        u, v, depth = new.inputs.projection[0, camera].double().numpy() @ np.append(ray, 1.0)
        pixels = new.inputs.images[0, camera, 0].double().numpy()
        if not (8 < u / depth < 87 and 8 < v / depth < 39):
            continue
        checked += 1
        centre = (pixels * columns).sum() / pixels.sum(), (pixels * rows).sum() / pixels.sum()
        np.testing.assert_allclose((u / depth, v / depth), centre, atol=0.25)
    assert checked >= 3
    assert not torch.equal(new.inputs.images, images) and len(new.elements) == len(frame.elements)


def test_everything_together_is_seeded_and_leaves_the_frame(frame: Keyframe) -> None:
    everything = AugmentConfig(mirror=0.5, turn=0.5, blind=0.5, colour=0.3, rotate=30, shift=2, zoom=0.2)
    before = frame.inputs.images.clone(), frame.inputs.projection.clone(), frame.points.copy()
    first, second = (augment(frame, everything, np.random.default_rng((1, 2)), GRID) for _ in range(2))
    assert torch.equal(first.inputs.images, second.inputs.images)
    assert torch.equal(first.inputs.projection, second.inputs.projection)
    for a, b in zip(first.elements, second.elements, strict=True):
        np.testing.assert_array_equal(a.points, b.points)
    other = augment(frame, everything, np.random.default_rng((1, 3)), GRID)
    assert not torch.equal(first.inputs.projection, other.inputs.projection)
    assert torch.equal(frame.inputs.images, before[0]) and torch.equal(frame.inputs.projection, before[1])
    np.testing.assert_array_equal(frame.points, before[2])


def test_mirrored_after_turning(frame: Keyframe) -> None:
    """Places keep their pixels through all changes of the bird's-eye view at once."""
    config = NONE.model_copy(update={"mirror": 1, "turn": 1, "rotate": 40.0, "shift": 2.0})
    new = augment(frame, config, np.random.default_rng(5), GRID)
    assert new.points is not None and frame.points is not None
    homogeneous = [
        np.pad(points[:, :3], ((0, 0), (0, 1)), constant_values=1.0) for points in (frame.points, new.points)
    ]
    pixels = [
        np.einsum("nij,pj->npi", f.inputs.projection[0].double().numpy(), p.astype(float))
        for f, p in zip((frame, new), homogeneous, strict=True)
    ]
    np.testing.assert_allclose(pixels[1], pixels[0], atol=0.02)


def test_auxiliary_targets_follow_the_images(
    image_config: Callable[..., TrainConfig], image_keyframes: Callable[[TrainConfig], list[Keyframe]]
) -> None:
    config = image_config()
    frames = image_keyframes(config)
    zoomed = [augment(f, NONE.model_copy(update={"zoom": 0.3}), np.random.default_rng(i)) for i, f in enumerate(frames)]
    plain, changed = (make_batch(group, config, (16, 24)).targets.auxiliary for group in (frames, zoomed))
    assert plain is not None and changed is not None
    assert plain.image_lines is not None and changed.image_lines is not None
    assert not torch.equal(plain.image_lines, changed.image_lines) and changed.image_lines.any()
    assert torch.equal(plain.bev_lines, changed.bev_lines)
