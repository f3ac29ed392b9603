"""The road's plane from poses and from points, against roads that are known."""

from pathlib import Path

import numpy as np
import pytest

from hdmap_core.datasets.nuscenes import NuScenesDataset
from hdmap_core.geometry import se3
from hdmap_core.geometry.road_plane import road_from_points, road_from_poses

STAMPS = [k * 250_000_000 for k in range(17)]
WAY_M = 2.0 * np.arange(17)


def _poses(roll: np.ndarray | float, pitch: np.ndarray | float, z: np.ndarray | float = 0.0) -> list[np.ndarray]:
    roll, pitch, z = (np.broadcast_to(values, 17) for values in (roll, pitch, z))
    return [
        se3.se3(se3.rotation_from_euler(r, p, 0.7), [np.cos(0.7) * way, np.sin(0.7) * way, height])
        for r, p, height, way in zip(roll, pitch, z, WAY_M, strict=True)
    ]


def _angles(road: np.ndarray) -> np.ndarray:
    """Roll and pitch in degrees."""
    return np.rad2deg([np.arctan2(road[2, 1], road[2, 2]), np.arcsin(-road[2, 0])])


def test_one_pose_and_a_road_that_is_tilted_turn_nothing() -> None:
    tilted = _poses(0.02, -0.01)
    np.testing.assert_allclose(road_from_poses(tilted[:1], STAMPS[:1]), np.eye(4), atol=1e-12)
    np.testing.assert_allclose(road_from_poses(tilted, STAMPS), np.eye(4), atol=1e-12)


def test_what_the_springs_do_is_taken_off() -> None:
    sway = np.deg2rad(0.25) * np.sin(2 * np.pi * np.arange(17) / 8 + np.pi / 2)  # at its crest at last, mean about 0
    found = _angles(road_from_poses(_poses(0.02 + sway, -0.01 - sway), STAMPS))
    np.testing.assert_allclose(found, [0.25, -0.25], atol=0.07)


def test_poses_older_than_the_window_do_not_count() -> None:
    poses = _poses(0.0, 0.0)
    late = [stamp + 60_000_000_000 for stamp in STAMPS[8:]]
    nodding = _poses(0.0, np.where(np.arange(17) < 8, 0.1, 0.0))
    for tried in (poses, nodding):
        np.testing.assert_allclose(road_from_poses(tried, [*STAMPS[:8], *late]), np.eye(4), atol=1e-12)


def test_a_hill_is_road_where_the_poses_have_heights() -> None:
    height = WAY_M**2 / 600  # from level to a climb of 6 degrees
    hill = _poses(0.0, -np.arctan(2 * WAY_M / 600), height)
    assert np.abs(_angles(road_from_poses(hill, STAMPS))).max() < 0.03


def test_a_hill_without_heights_is_not_taken_for_springs() -> None:
    pitch = -np.arctan(2 * WAY_M / 600)
    assert np.rad2deg(np.abs(pitch[-1] - pitch.mean())) > 3
    assert np.abs(_angles(road_from_poses(_poses(0.0, pitch), STAMPS))).max() < 0.02


def test_standing_still_divides_by_nothing() -> None:
    poses = [se3.se3(se3.rotation_from_euler(0.0, pitch, 0.0), [1.0, 2.0, 3.0]) for pitch in (0.0, 0.0, 0.0, 0.004)]
    found = _angles(road_from_poses(poses, STAMPS[:4]))
    assert found[1] == pytest.approx(np.rad2deg(0.003), rel=0.1) and found[0] == 0


def _ground(road_from_ego: np.ndarray) -> np.ndarray:
    """Points of a street with pavements, walls and the own car, in the ego frame."""
    rng = np.random.default_rng(0)
    xy = rng.uniform((-30, -15), (40, 15), (6000, 2))
    height = np.where(np.abs(xy[:, 1]) > 6, 0.15, 0.0) + rng.normal(0, 0.02, len(xy))
    wall = np.c_[rng.uniform(-30, 40, 1500), rng.choice([-7.5, 7.5], 1500), rng.uniform(0, 3, 1500)]
    car = np.c_[rng.uniform(-2, 2, (500, 2)), rng.uniform(0.5, 1.5, 500)]
    return se3.transform_points(se3.inverse(road_from_ego), np.concatenate([np.c_[xy, height], wall, car]))


def test_the_ground_of_a_lidar() -> None:
    true = se3.se3(se3.rotation_from_euler(0.008, -0.012, 0.0), [0.0, 0.0, 0.06])
    found = road_from_points(_ground(true))
    assert found is not None
    np.testing.assert_allclose(_angles(found), _angles(true), atol=0.06)
    assert found[2, 3] == pytest.approx(0.06, abs=0.03)
    np.testing.assert_allclose(found[:3, :3] @ found[:3, :3].T, np.eye(3), atol=1e-12)


def test_too_little_ground_or_none_tells_nothing() -> None:
    assert road_from_points(np.zeros((0, 5), np.float32)) is None
    assert road_from_points(_ground(np.eye(4))[:150]) is None
    assert road_from_points(np.random.default_rng(0).uniform((-15, -8, 1), (30, 8, 3), (3000, 3))) is None


def test_the_real_keyframes_ground_is_nearly_its_ego_plane(real_frame_root: Path) -> None:
    """Though its pose has 0.6 degrees of pitch and 1.2 of roll, which one pose alone must not turn into a tilt."""
    dataset = NuScenesDataset(real_frame_root, road_plane=False)
    observation = dataset.observation(dataset.tokens[0], images=False)
    assert observation.points is not None and observation.map_from_ego is not None
    seen = road_from_points(observation.points)
    assert seen is not None and np.abs(_angles(seen)).max() < 0.3
    np.testing.assert_allclose(road_from_poses([observation.map_from_ego], [0]), np.eye(4), atol=1e-12)
