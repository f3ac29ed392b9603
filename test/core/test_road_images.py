"""The experiment that looks for the road's plane in images: planes that are known, and pictures that tell nothing."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

from hdmap_core.geometry import CameraRig, se3
from hdmap_core.geometry.bev_grid import BEVGrid
from hdmap_core.geometry.ground_view import ground_view
from hdmap_core.observation import Observation

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"
SIZE = (225, 400)
TEXTURE = cv2.GaussianBlur(np.random.default_rng(0).uniform(0, 255, (800, 800)).astype(np.float32), (0, 0), 6.0)
TEXTURE = cv2.normalize(TEXTURE, None, 0, 255, cv2.NORM_MINMAX)
PLANE = np.array([np.tan(np.deg2rad(0.4)), np.tan(np.deg2rad(-0.3)), 0.0])
MOVED = se3.se3(se3.rotation_from_euler(0.002, -0.004, 0.02), [3.0, 0.1, 0.02])


@pytest.fixture(scope="module")
def road_images(load_module: Callable[[Path], ModuleType]) -> ModuleType:
    return load_module(EXPERIMENTS / "road_images.py")


def _observation(yaws: dict[str, float], world_from_ego: np.ndarray, plain: bool = False) -> Observation:
    """Cameras 1.5 m up that look level at the textured plane; its world is the first ego frame."""
    optical = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
    poses = [
        se3.se3(se3.rotation_from_euler(0, 0, yaw) @ optical, [0.4 * np.cos(yaw), 0.4 * np.sin(yaw), 1.5])
        for yaw in yaws.values()
    ]
    matrix = np.array([[300.0, 0, 199.5], [0, 300.0, 112.0], [0, 0, 1]])
    rig = CameraRig.from_arrays(tuple(yaws), [matrix] * len(yaws), poses, SIZE)
    u, v = np.meshgrid(np.arange(SIZE[1]), np.arange(SIZE[0]))
    pixels = np.stack([u, v, np.ones_like(u)], axis=-1) @ np.linalg.inv(matrix).T
    images = []
    for pose in poses:
        world = world_from_ego @ pose
        rays, eye = pixels @ world[:3, :3].T, world[:3, 3]
        climb = rays[..., 2] - rays[..., :2] @ PLANE[:2]
        reach = (PLANE[:2] @ eye[:2] + PLANE[2] - eye[2]) / np.where(np.abs(climb) < 1e-6, 1e-6, climb)
        at = ((eye + reach[..., None] * rays)[..., :2] * 10 + 400).astype(np.float32)
        seen = cv2.remap(TEXTURE, at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        grey = np.where(reach > 0, seen, 128.0).astype(np.uint8) * (not plain)
        images.append(np.repeat(grey[..., None], 3, axis=-1))
    return Observation(tuple(images), rig, 0, "drawn")


AHEAD_AND_BEHIND = {"front": 0.0, "back": np.pi, "left": np.pi / 2, "right": -np.pi / 2}


@pytest.fixture
def trusting(road_images: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """So much trust in each place that the prior counts for nothing, and time to get there."""
    monkeypatch.setattr(road_images, "INDEPENDENT", 10.0)
    monkeypatch.setattr(road_images, "STEPS", 30)
    return road_images


def test_two_sets_tell_the_plane(trusting: ModuleType) -> None:
    now = trusting.sighting(_observation(AHEAD_AND_BEHIND, np.eye(4)))
    before = trusting.sighting(_observation(AHEAD_AND_BEHIND, se3.inverse(MOVED)))
    found = trusting.plane_from_motion(now, before, MOVED, np.zeros(3))
    assert np.rad2deg(np.abs(found - PLANE)[:2]).max() < 0.05
    np.testing.assert_array_equal(found, trusting.plane_from_motion(now, before, MOVED, np.zeros(3)))


def test_the_prior_holds_it_back_but_not_off(road_images: ModuleType) -> None:
    now = road_images.sighting(_observation(AHEAD_AND_BEHIND, np.eye(4)))
    before = road_images.sighting(_observation(AHEAD_AND_BEHIND, se3.inverse(MOVED)))
    found = road_images.plane_from_motion(now, before, MOVED, np.zeros(3))
    left = np.linalg.norm(found[:2] - PLANE[:2]) / np.linalg.norm(PLANE[:2])
    assert 0.1 < left < 0.8


def test_pictures_without_texture_leave_what_was_known(road_images: ModuleType) -> None:
    now = road_images.sighting(_observation(AHEAD_AND_BEHIND, np.eye(4), plain=True))
    mean = np.array([0.004, -0.002, 0.01])
    np.testing.assert_allclose(road_images.plane_from_motion(now, now, MOVED, mean), mean, atol=1e-12)


def test_a_car_that_stands_learns_nothing(road_images: ModuleType) -> None:
    now = road_images.sighting(_observation(AHEAD_AND_BEHIND, np.eye(4)))
    np.testing.assert_allclose(road_images.plane_from_motion(now, now, np.eye(4), np.zeros(3)), 0.0, atol=1e-9)


def test_no_camera_in_common_leaves_what_was_known(road_images: ModuleType) -> None:
    front, back = ({name: AHEAD_AND_BEHIND[name]} for name in ("front", "back"))
    now = road_images.sighting(_observation(front, np.eye(4)))
    before = road_images.sighting(_observation(back, se3.inverse(MOVED)))
    np.testing.assert_array_equal(road_images.plane_from_motion(now, before, MOVED, PLANE), PLANE)


def test_seams_tell_something_too(trusting: ModuleType) -> None:
    ring = tuple(f"at {k}" for k in range(8))
    yaws = {name: 2 * np.pi * k / 8 for k, name in enumerate(ring)}  # each sees 67 degrees
    found = trusting.plane_from_seams(trusting.sighting(_observation(yaws, np.eye(4))), ring, np.zeros(3))
    assert np.linalg.norm(found[:2] - PLANE[:2]) < 0.5 * np.linalg.norm(PLANE[:2])


def test_a_surface_that_is_flat_is_the_ground_view(
    load_module: Callable[[Path], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    ways = load_module(EXPERIMENTS / "road_ways.py")
    grid, observation = BEVGrid((-9.0, 9.0), (-6.0, 6.0), 0.15), _observation(AHEAD_AND_BEHIND, np.eye(4))
    columns, rows = np.arange(grid.shape[1]), np.arange(2 * grid.shape[0])
    x, y = np.meshgrid(grid.x_range[0] + 0.15 * (columns + 0.5), grid.y_range[0] + 0.075 * (rows + 0.5))
    surface = ways.surface_view(observation, np.stack([x, y, np.zeros_like(x)], axis=-1))
    flat = ground_view(observation.images, observation.rig, grid)
    assert (surface[..., 3] == flat[..., 3]).mean() > 0.85  # its borders are known to 0.6 m
    both = (surface[..., 3] > 0) & (flat[..., 3] > 0)
    assert both.mean() > 0.3
    assert np.abs(surface[both][:, :3].astype(int) - flat[both][:, :3]).mean() < 1.5
