"""The geometry of real nuScenes: our rig against plain matrix products of calibration.json."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from hdmap_core.datasets.nuscenes import CAMERAS, NuScenesDataset
from hdmap_core.errors import DatasetError


@pytest.fixture(scope="module")
def dataset(real_frame_root: Path) -> NuScenesDataset:
    return NuScenesDataset(real_frame_root, road_plane=False)


@pytest.fixture(scope="module")
def calibration(real_frame_source: Path) -> dict:
    return json.loads((real_frame_source / "calibration.json").read_text())


def _matrix(pose: dict) -> np.ndarray:
    # Full precision: the file's matrices are rounded to 12 digits, its quaternions are not.
    w, x, y, z = np.array(pose["rotation_wxyz"]) / np.linalg.norm(pose["rotation_wxyz"])
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    matrix = np.eye(4)
    matrix[:3, :3] = np.eye(3) + 2 * w * cross + 2 * cross @ cross
    matrix[:3, 3] = pose["translation"]
    np.testing.assert_allclose(matrix, pose["matrix"], atol=1e-9)
    return matrix


def test_lidar_points_project_where_the_calibration_says(dataset: NuScenesDataset, calibration: dict) -> None:
    observation = dataset.observation(dataset.tokens[0])
    assert observation.points is not None
    lidar = calibration["lidar"]
    raw = np.fromfile(dataset.root / "samples" / "LIDAR_TOP" / lidar["file"], "<f4").reshape(-1, 5)
    homogeneous = np.c_[raw[:, :3].astype(np.float64), np.ones(len(raw))]
    in_ego = homogeneous @ _matrix(lidar["lidar_to_ego"]).T
    assert np.abs(observation.points[:, :3] - in_ego[:, :3]).max() < 1e-5
    np.testing.assert_array_equal(observation.points[:, 3:], raw[:, 3:])

    pixels, depth, visible = observation.rig.project(torch.from_numpy(in_ego[:, :3]))
    assert observation.rig.names == CAMERAS
    for index, name in enumerate(observation.rig.names):
        camera = calibration["cameras"][name]
        map_from_point = _matrix(lidar["ego_to_global"]) @ in_ego.T
        ego_then = np.linalg.inv(_matrix(camera["ego_to_global_at_camera_time"])) @ map_from_point
        in_camera = (np.linalg.inv(_matrix(camera["camera_to_ego"])) @ ego_then)[:3]
        expected = (np.array(camera["intrinsics"]) @ in_camera)[:2] / in_camera[2]
        shown = visible[index].numpy()
        assert 0.04 < shown.mean() < 0.25, f"{name} sees {shown.mean():.1%} of the sweep"
        assert np.abs(pixels[index].numpy()[shown] - expected.T[shown]).max() < 1e-3
        assert np.abs(depth[index].numpy() - in_camera[2]).max() < 1e-6


def test_skipping_the_ego_motion_would_show(dataset: NuScenesDataset, calibration: dict) -> None:
    rig = dataset.observation(dataset.tokens[0], images=False, points=False).rig
    front_left = rig.select(["CAM_FRONT_LEFT"]).ego_from_camera[0].numpy()
    calibrated = np.array(calibration["cameras"]["CAM_FRONT_LEFT"]["camera_to_ego"]["matrix"])
    moved = np.linalg.norm(front_left[:3, 3] - calibrated[:3, 3])
    assert 0.35 < moved < 0.45  # 9.2 m/s over 43 ms


def test_images_stamps_and_pose(dataset: NuScenesDataset, calibration: dict) -> None:
    observation = dataset.observation(dataset.tokens[0], points=False)
    assert observation.points is None
    assert observation.stamp_ns == calibration["lidar"]["timestamp_us"] * 1000
    stamps = [calibration["cameras"][name]["timestamp_us"] * 1000 for name in observation.rig.names]
    assert list(observation.camera_stamps_ns) == stamps
    assert [image.shape for image in observation.images if image is not None] == [(900, 1600, 3)] * 6
    front = observation.images[0]
    assert front is not None
    sky = front[100:300, 400:1200].reshape(-1, 3).mean(axis=0)
    assert sky[2] > sky[0]  # red and blue are not swapped
    assert observation.map_from_ego is not None
    np.testing.assert_allclose(observation.map_from_ego, calibration["lidar"]["ego_to_global"]["matrix"], atol=1e-9)


def test_the_map_of_the_real_frame_is_not_there(dataset: NuScenesDataset) -> None:
    with pytest.raises(DatasetError, match=r"singapore-onenorth\.json.*Map expansion pack"):
        dataset.elements(dataset.tokens[0])
