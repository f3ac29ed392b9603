"""Observations on the road: cameras and points turn together, in data sets and firing cycles alike."""

from pathlib import Path

import numpy as np
import torch

from hdmap_core.datasets.nuscenes import CAMERAS, NuScenesDataset
from hdmap_core.datasets.nuscenes.firing_cycles import observe_cycle
from hdmap_core.geometry import se3
from hdmap_core.geometry.road_plane import road_from_points
from hdmap_core.observation.road_plane import on_the_road


def _body_tilt(dataset: NuScenesDataset, token: str) -> np.ndarray:
    """(4, 4) road from ego of a synthetic town, whose roads are level."""
    pose = dataset.map_from_ego(token)
    level = se3.se3(se3.rotation_from_euler(0, 0, se3.yaw_of(pose)), pose[:3, 3])
    return se3.inverse(level) @ pose


def _degrees_between(one: np.ndarray, other: np.ndarray) -> float:
    turn = one[:3, :3] @ other[:3, :3].T
    return float(np.rad2deg(np.arccos(min(1.0, (np.trace(turn) - 1) / 2))))


def test_lidar_puts_cameras_and_points_on_the_road(sensor_world: Path) -> None:
    with_plane, without = NuScenesDataset(sensor_world), NuScenesDataset(sensor_world, road_plane=False)
    for token in with_plane.tokens[:3]:
        road, ego = (dataset.observation(token, images=False) for dataset in (with_plane, without))
        turned = (road.rig.ego_from_camera @ torch.linalg.inv(ego.rig.ego_from_camera)).numpy()
        tilt = _body_tilt(without, token)
        assert _degrees_between(tilt, np.eye(4)) > 0.02 > _degrees_between(turned[0], tilt)
        np.testing.assert_allclose(turned, np.broadcast_to(turned[0], turned.shape), atol=1e-9)
        assert road.rig.mounted is not None and ego.rig.mounted is not None
        np.testing.assert_allclose(road.rig.mounted, turned @ ego.rig.mounted.numpy(), atol=1e-9)
        assert road.points is not None and ego.points is not None
        moved = se3.transform_points(turned[0], ego.points[:, :3].astype(np.float64))
        np.testing.assert_allclose(road.points[:, :3], moved, atol=1e-5)
        np.testing.assert_array_equal(road.points[:, 3:], ego.points[:, 3:])
        again = road_from_points(road.points)
        assert again is not None and _degrees_between(again, np.eye(4)) < 0.01


def test_a_sweep_shows_cameras_the_ground_though_nobody_takes_points(sensor_world: Path) -> None:
    dataset = NuScenesDataset(sensor_world)
    for token in dataset.tokens[:3]:
        alone, asked = (
            dataset.observation(token, images=False, points=points, lidar_ground=not points) for points in (False, True)
        )
        assert alone.points is None and alone.relief is not None and asked.relief is None
        np.testing.assert_allclose(alone.rig.ego_from_camera, asked.rig.ego_from_camera, atol=1e-9)
        x, y = np.meshgrid(np.linspace(-20, 20, 9), np.linspace(-3, 3, 5))
        assert np.abs(alone.relief.at(x, y)).max() < 0.1, "the town is flat"


def test_without_lidar_the_poses_before_it_count(sensor_world: Path) -> None:
    with_plane, without = NuScenesDataset(sensor_world), NuScenesDataset(sensor_world, road_plane=False)
    tokens = with_plane.scenes[0].sample_tokens

    def tilt(token: str) -> np.ndarray:
        road, ego = (each.observation(token, images=False, points=False).rig for each in (with_plane, without))
        return (road.ego_from_camera[0] @ torch.linalg.inv(ego.ego_from_camera[0])).numpy()

    assert _degrees_between(tilt(tokens[0]), np.eye(4)) < 1e-6  # the first one has none
    assert _degrees_between(tilt(tokens[-1]), np.eye(4)) > 0.01


def test_a_firing_cycle_is_on_the_road_too(sensor_world: Path) -> None:
    dataset = NuScenesDataset(sensor_world)
    frames = dataset.tables.sensor_frames(dataset.scenes[0], CAMERAS)
    anchors = [frame for frame in frames if frame.channel == "CAM_FRONT"]
    alone = observe_cycle([frame for frame in frames if frame.stamp_ns > anchors[-1].stamp_ns - 60e6], anchors[-1])
    turned = observe_cycle(frames, anchors[-1]).rig.ego_from_camera[0] @ torch.linalg.inv(alone.rig.ego_from_camera[0])
    assert 0.01 < _degrees_between(turned.numpy(), np.eye(4)) < 1.0


def test_with_nothing_known_the_observation_stays(sensor_world: Path) -> None:
    observation = NuScenesDataset(sensor_world, road_plane=False)[0]
    bare = NuScenesDataset(sensor_world, road_plane=False).observation(observation.token, images=False, points=False)
    assert on_the_road(bare) is bare
