"""Corruptions: the same every time, stronger with severity, and never written into what they are given."""

from dataclasses import replace

import numpy as np
import pytest

from hdmap_core.errors import ConfigError
from hdmap_core.geometry import CameraRig, se3
from hdmap_core.observation import Observation
from training.corruptions import CORRUPTIONS, SEVERITIES, Corruption, corrupt

NAMES = ("CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_FRONT_LEFT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_BACK_RIGHT")
SIZE = (72, 128)
OF_PIXELS = [name for name in CORRUPTIONS if name not in ("calibration_noise", "missing_camera")]


def observation(token: str = "frame-1") -> Observation:
    """Pictures with a bright sky, a grey road and a white line on it."""
    random = np.random.default_rng(7)
    picture = random.integers(90, 130, (*SIZE, 3)).astype(np.uint8)
    picture[:30] += 90
    picture[:, 60:66] = 240
    images = tuple(np.roll(picture, 9 * index, axis=1) for index in range(len(NAMES)))
    intrinsics = np.array([[80.0, 0, 63.5], [0, 80, 35.5], [0, 0, 1]])
    axes = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
    poses = [se3.se3(se3.rotation_from_euler(0, 0, yaw) @ axes, [1.0, 0, 1.5]) for yaw in range(6)]
    return Observation(images, CameraRig.from_arrays(NAMES, [intrinsics] * 6, poses, SIZE), stamp_ns=5, token=token)


def change(before: Observation, after: Observation) -> float:
    pairs = zip(before.images, after.images, strict=True)
    return float(np.mean([np.abs(a.astype(float) - b).mean() for a, b in pairs if a is not None and b is not None]))


def black(seen: Observation) -> set[str]:
    return {n for n, image in zip(NAMES, seen.images, strict=True) if image is not None and not image.any()}


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("severity", SEVERITIES)
def test_deterministic_and_pure(name: str, severity: int) -> None:
    seen = observation()
    first, second = (corrupt(seen, Corruption(name, severity)) for _ in range(2))
    for ours, theirs in zip(first.images, second.images, strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            assert ours.dtype == np.uint8 and ours.shape == (*SIZE, 3)
            np.testing.assert_array_equal(ours, theirs)
    assert (first.rig.ego_from_camera == second.rig.ego_from_camera).all()
    pristine = observation()
    for kept, image in zip(seen.images, pristine.images, strict=True):
        np.testing.assert_array_equal(kept, image)
    assert (seen.rig.ego_from_camera == pristine.rig.ego_from_camera).all()
    assert (first.token, first.stamp_ns, first.rig.names) == (seen.token, seen.stamp_ns, seen.rig.names)


@pytest.mark.parametrize("name", OF_PIXELS)
def test_severity_grows_the_change(name: str) -> None:
    frames = [observation(f"frame-{index}") for index in range(6)]
    changes = [
        np.mean([change(seen, corrupt(seen, Corruption(name, severity))) for seen in frames]) for severity in SEVERITIES
    ]
    assert 0.5 < changes[0] < changes[1] < changes[2]


@pytest.mark.parametrize("name", ["low_light", "fog", "snow", "motion_blur", "frame_lost"])
def test_cameras_frames_and_seeds_differ(name: str) -> None:
    frames = [observation(f"frame-{index}") for index in range(8)]
    usual = [corrupt(seen, Corruption(name, 2)) for seen in frames]
    assert any(change(usual[0], other) > 0 for other in usual[1:])
    assert any(change(a, corrupt(seen, Corruption(name, 2, seed=1))) > 0 for a, seen in zip(usual, frames, strict=True))


def test_brightness_and_low_light_move_the_mean() -> None:
    seen = observation()
    mean = np.mean(seen.images)
    assert np.mean(corrupt(seen, Corruption("brightness", 3)).images) > mean + 60
    assert np.mean(corrupt(seen, Corruption("low_light", 3)).images) < 0.3 * mean


def test_quantisation_leaves_few_levels() -> None:
    for severity, levels in zip(SEVERITIES, (32, 16, 8), strict=True):
        values = np.unique(corrupt(observation(), Corruption("colour_quantisation", severity)).images)
        assert len(values) <= levels and values.max() <= 255


def test_motion_blur_keeps_what_is_even_and_spreads_a_point() -> None:
    even = np.full((*SIZE, 3), 77, np.uint8)
    point = np.zeros((*SIZE, 3), np.uint8)
    point[36, 64] = 255
    seen = Observation((even, point), observation().rig.select(NAMES[:2]), stamp_ns=0, token="t")
    flat, spread = corrupt(seen, Corruption("motion_blur", 3)).images
    assert flat is not None and spread is not None
    np.testing.assert_array_equal(flat, even)
    rows, columns = np.nonzero(spread[..., 0])
    assert np.ptp(columns) >= 4 and np.ptp(columns) > np.ptp(rows)


def test_a_crash_stays_and_grows() -> None:
    dark = [black(corrupt(observation(), Corruption("camera_crash", severity))) for severity in SEVERITIES]
    assert [len(names) for names in dark] == [2, 4, 5] and dark[0] < dark[1] < dark[2]
    assert black(corrupt(observation("another frame"), Corruption("camera_crash", 1))) == dark[0]


def test_lost_frames_come_and_go() -> None:
    lost = [black(corrupt(observation(f"frame-{index}"), Corruption("frame_lost", 2))) for index in range(60)]
    assert len({frozenset(names) for names in lost}) > 10
    assert np.mean([len(names) for names in lost]) == pytest.approx(4, abs=0.6)


def test_a_missing_camera_is_none_and_one_always_stays() -> None:
    for severity in SEVERITIES:
        seen = corrupt(observation(), Corruption("missing_camera", severity))
        assert sum(image is None for image in seen.images) == severity
    one = Observation(observation().images[:1], observation().rig.select(NAMES[:1]), stamp_ns=0, token="t")
    assert corrupt(one, Corruption("missing_camera", 3)).camera_mask == (True,)


def test_a_camera_that_is_missing_already_stays_missing() -> None:
    seen = observation()
    gap = Observation((None, *seen.images[1:]), seen.rig, stamp_ns=0, token="t")
    for name in CORRUPTIONS:
        assert corrupt(gap, Corruption(name, 1)).images[0] is None


def test_calibration_noise_has_the_sigma_it_names() -> None:
    """The same error with the car's motion in the poses and without."""
    offsets, angles = [], []
    for index in range(80):
        seen = observation(f"frame-{index}")
        seen = replace(seen, rig=replace(seen.rig, mounted=seen.rig.ego_from_camera.clone()))
        rig = corrupt(seen, Corruption("calibration_noise", 3)).rig
        noisy, poses = rig.ego_from_camera.numpy(), seen.rig.ego_from_camera.numpy()
        assert rig.mounted is not None and (rig.mounted.numpy() == noisy).all()
        error = se3.inverse(poses) @ noisy
        offsets.append(error[:, :3, 3])
        skew = error[:, :3, :3]
        angles.append(np.stack([skew[:, 2, 1], skew[:, 0, 2], skew[:, 1, 0]], axis=-1))
        np.testing.assert_allclose(skew @ np.swapaxes(skew, -1, -2), np.broadcast_to(np.eye(3), skew.shape), atol=1e-9)
    assert np.std(offsets) == pytest.approx(0.5, rel=0.06)
    assert np.std(angles) == pytest.approx(0.05, rel=0.06)


@pytest.mark.parametrize("name", ["motion_blur", "brightness", "low_light", "fog", "snow"])
def test_between_two_severities_lies_what_is_between(name: str) -> None:
    frames = [observation(f"frame-{index}") for index in range(6)]
    changes = [np.mean([change(seen, corrupt(seen, Corruption(name, s))) for seen in frames]) for s in (2, 2.5, 3)]
    assert changes[0] < changes[1] < changes[2]


def test_unknown_kinds_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"no corruption 'frost'.*fog"):
        Corruption("frost", 1)
    with pytest.raises(ConfigError, match="severity 4 of fog"):
        Corruption("fog", 4)
