"""Ego motion, calibration and firing times of the synthetic vehicle."""

import numpy as np
import pytest

from hdmap_core.datasets.synthetic.drive import Drive, plan_drive
from hdmap_core.datasets.synthetic.sensors.rig import (
    Firing,
    camera_delay_us,
    firings,
    nuscenes_rig,
    varied_rig,
)

# Median exposure minus LiDAR stamp over all 404 keyframes of nuScenes v1.0-mini, ms.
REAL_DELAYS_MS = {
    "CAM_FRONT_LEFT": -43.1,
    "CAM_FRONT": -35.5,
    "CAM_FRONT_RIGHT": -27.5,
    "CAM_BACK_RIGHT": -20.0,
    "CAM_BACK": -10.4,
    "CAM_BACK_LEFT": -0.5,
}


def winding_route() -> np.ndarray:
    t = np.arange(0.0, 320.0, 0.5)
    heading = 0.9 * np.sin(t / 40)
    return np.cumsum(0.5 * np.stack([np.cos(heading), np.sin(heading)], axis=-1), axis=0) + 50.0


@pytest.fixture(params=range(6))
def drive(request: pytest.FixtureRequest) -> Drive:
    return plan_drive(np.random.default_rng(request.param), winding_route(), 20.0)


def test_speed_and_acceleration_are_a_cars(drive: Drive) -> None:
    speed = np.gradient(drive.distance, 0.02)
    assert speed.min() > -0.05
    assert 3.0 < speed.mean() < 11.0
    assert speed.max() < 12.5
    assert np.abs(np.gradient(speed, 0.02)).max() < 4.0
    assert drive.times[0] <= -0.2
    assert drive.times[-1] >= 20.2


def test_pose_is_on_the_ground_and_heads_along_the_route(drive: Drive) -> None:
    for time_s in (0.0, 7.3, 19.9):
        pose = drive.town_from_ego(time_s)
        assert pose[2, 3] == 0.0
        assert np.allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-12)
        assert np.linalg.det(pose[:3, :3]) == pytest.approx(1.0)
        step = drive.positions(np.array([time_s + 0.15]))[0] - drive.positions(np.array([time_s - 0.15]))[0]
        if np.hypot(*step) > 0.3:
            assert pose[:2, 0] @ step / np.hypot(*step) > 0.98
    assert 0.0005 < drive.pitch.std() < 0.012
    assert 0.0005 < drive.roll.std() < 0.012


def test_firing_model_gives_the_real_delays() -> None:
    for name, camera in nuscenes_rig().cameras.items():
        assert camera_delay_us(camera.yaw) / 1000 == pytest.approx(REAL_DELAYS_MS[name], abs=0.12)


@pytest.mark.parametrize(("sweeps", "lidar"), [(True, "all"), (False, "keyframes"), (False, "none")])
def test_firings_keep_the_rates(sweeps: bool, lidar: str) -> None:
    rig = nuscenes_rig()
    found = firings(np.random.default_rng(0), rig, 5, sweeps, lidar)
    of: dict[str, list[Firing]] = {}
    for firing in found:
        of.setdefault(firing.channel, []).append(firing)
    assert set(of) == {*rig.cameras, "LIDAR_TOP"}
    for name, events in of.items():
        stamps = np.array([event.stamp_us for event in events])
        gaps = np.diff(stamps) / 1000
        assert sum(event.is_keyframe for event in events) == 5
        assert [event.keyframe for event in events] == sorted(event.keyframe for event in events)
        if name == "LIDAR_TOP":
            assert np.allclose(gaps, 50 if lidar == "all" else 500, atol=3.0)
        elif sweeps:
            assert {round(gap / 50) for gap in gaps} == {1, 2}
            assert len(events) == 25
        else:
            assert np.allclose(gaps, 500, atol=0.5)
    for key in range(5):
        turn = next(f for f in of["LIDAR_TOP"] if f.is_keyframe and f.keyframe == key)
        for name in rig.cameras:
            shot = next(f for f in of[name] if f.is_keyframe and f.keyframe == key)
            delay = (shot.stamp_us - turn.stamp_us) / 1000
            assert REAL_DELAYS_MS[name] - 4.1 < delay < REAL_DELAYS_MS[name] + 1.8


def test_rigs_vary_within_their_limits() -> None:
    real = nuscenes_rig()
    first, again, other = (varied_rig(np.random.default_rng(seed)) for seed in (1, 1, 2))
    for name, camera in first.cameras.items():
        reference = real.cameras[name]
        assert np.array_equal(camera.intrinsics, again.cameras[name].intrinsics)
        assert not np.array_equal(camera.intrinsics, other.cameras[name].intrinsics)
        assert camera.intrinsics[0, 0] == camera.intrinsics[1, 1]
        assert abs(camera.intrinsics[0, 0] / reference.intrinsics[0, 0] - 1) <= 0.04
        assert np.abs(camera.ego_from_camera[:3, 3] - reference.ego_from_camera[:3, 3]).max() <= 0.15
        turn = camera.ego_from_camera[:3, :3] @ reference.ego_from_camera[:3, :3].T
        assert np.degrees(np.arccos((np.trace(turn) - 1) / 2)) < 1.8


def test_resizing_keeps_directions() -> None:
    camera = nuscenes_rig().cameras["CAM_FRONT"]
    small = camera.resized((450, 800))
    # The middle of a 2 x 2 block of pixels (10..11, 20..21) is the middle of pixel (5, 10).
    ray = np.linalg.solve(camera.intrinsics, [10.5, 20.5, 1.0])
    assert np.allclose(small.intrinsics @ ray, [5.0, 10.0, 1.0])
