"""Lenses and sensors: each fault does what its name says, and a perfect camera nothing."""

import dataclasses

import numpy as np
import pytest

from hdmap_core.datasets.synthetic.light.weather import draw_optics
from hdmap_core.datasets.synthetic.sensors.optics import Optics, developer_of
from hdmap_core.datasets.synthetic.sensors.rig import Camera, nuscenes_rig
from hdmap_core.datasets.synthetic.town import Appearance, Weather

AXES = np.eye(3)


@pytest.fixture(scope="module")
def look(crossroads_town) -> Appearance:
    return crossroads_town().appearance


@pytest.fixture(scope="module")
def camera() -> Camera:
    return nuscenes_rig().resized((225, 400)).cameras["CAM_FRONT"]


def developed(optics: Optics, camera: Camera, look: Appearance, image: np.ndarray, speed: float = 0.0) -> np.ndarray:
    result = image.copy()
    developer_of(optics, camera, None, look).develop(result, AXES, camera.intrinsics, speed, 0.5)
    return result.astype(float)


def flat(value: int) -> np.ndarray:
    return np.full((225, 400, 3), value, np.uint8)


def test_a_perfect_camera_changes_nothing_but_noise(camera, look):
    image = np.random.default_rng(0).integers(40, 200, (225, 400, 3)).astype(np.uint8)
    assert np.abs(developed(Optics(noise=0.0), camera, look, image) - image).max() <= 2


def test_exposure_white_balance_and_vignetting(camera, look):
    brighter = developed(Optics(exposure_error=0.5, noise=0.0), camera, look, flat(100))
    assert brighter.mean() == pytest.approx(100 * 2 ** (0.5 / 2.2), rel=0.02)
    warm = developed(Optics(white_balance=(1.2, 1.0, 0.8), noise=0.0), camera, look, flat(100)).mean(axis=(0, 1))
    assert warm[0] > 105 and warm[2] < 95 and abs(warm[1] - 100) < 2
    dark_corners = developed(Optics(vignetting=0.4, noise=0.0), camera, look, flat(150))
    assert dark_corners[:8, :8].mean() < 0.85 * dark_corners[108:116, 196:204].mean()


def test_noise_and_blur_grow_with_their_numbers(camera, look):
    spread = [developed(Optics(noise=n), camera, look, flat(100)).std() for n in (0.5, 1.0, 3.0)]
    assert spread[0] < spread[1] < spread[2]
    edge = flat(50)
    edge[:, 200:] = 200
    wide = dataclasses.replace(camera, intrinsics=camera.intrinsics)
    sharp, soft = (developed(Optics(defocus_px=d, noise=0.0), wide, look, edge) for d in (0.0, 5.0))
    assert np.abs(np.diff(sharp[100, :, 0])).max() > 1.5 * np.abs(np.diff(soft[100, :, 0])).max()


def test_motion_smears_what_passes_beside(look):
    rig = nuscenes_rig().resized((225, 400))
    edge = flat(50)
    edge[:, 200:] = 200
    steepest = {
        (name, speed): np.abs(
            np.diff(developed(Optics(exposure_s=0.02, noise=0.0), rig.cameras[name], look, edge, speed)[100, :, 0])
        ).max()
        for name in ("CAM_FRONT", "CAM_BACK_LEFT")
        for speed in (0.0, 12.0)
    }
    assert steepest["CAM_BACK_LEFT", 12.0] < 0.5 * steepest["CAM_BACK_LEFT", 0.0]
    assert steepest["CAM_FRONT", 12.0] > 0.9 * steepest["CAM_FRONT", 0.0]


def test_drops_and_dirt_sit_in_places_that_follow_from_the_seed(camera, look):
    image = np.zeros((225, 400, 3), np.uint8)
    image[::2] = 200
    clean, first, again, other = (
        developed(Optics(drops=d, dirt=d, noise=0.0, seed=seed), camera, look, image)
        for d, seed in ((0.0, 0), (1.0, 1), (1.0, 1), (1.0, 2))
    )
    changed = np.abs(first - clean).max(axis=2) > 30
    assert 0.005 < changed.mean() < 0.5
    assert (first == again).all() and (first != other).any()


def test_the_low_sun_blinds_only_who_looks_at_it(camera, look):
    sunny = dataclasses.replace(look, glare=1.0, sun_azimuth=0.0, sun_elevation=0.15)
    bright = flat(245)
    towards = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
    image = flat(80)
    image[:112] = bright[:112]
    seen = []
    for axes in (towards, towards @ np.diag([-1.0, 1.0, -1.0])):
        result = image.copy()
        developer_of(Optics(noise=0.0), camera, None, sunny).develop(result, axes, camera.intrinsics, 0.0, 0.0)
        seen.append(float(result[150:].mean()))
    assert seen[0] > seen[1] + 10 and seen[1] == pytest.approx(80, abs=2)


def test_night_cameras_expose_longer_and_are_noisier(look):
    night = dataclasses.replace(look, weather=Weather("night"))
    drawn = [draw_optics(np.random.default_rng(3), a, ["A", "B"]) for a in (look, night)]
    assert drawn[0]["A"].exposure_s < drawn[1]["A"].exposure_s and drawn[0]["A"].noise < drawn[1]["A"].noise
    assert drawn[0]["A"] != drawn[0]["B"] and all(o.drops == 0.0 for o in drawn[0].values())
    assert drawn[0] == draw_optics(np.random.default_rng(3), look, ["A", "B"])
