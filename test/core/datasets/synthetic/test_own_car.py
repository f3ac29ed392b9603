"""The own car's body: seen where its outline is, under every camera, and nowhere else."""

import dataclasses

import numpy as np
import pytest

from hdmap_core.datasets.synthetic.light.shading import Lighting
from hdmap_core.datasets.synthetic.sensors.own_car import body_view, draw_own_car, fitted_below
from hdmap_core.datasets.synthetic.sensors.rig import Camera, Rig, nuscenes_rig, varied_rig

SKY = np.array([0.5, 0.6, 0.8])


@pytest.fixture(scope="module")
def light(crossroads_town) -> Lighting:
    return Lighting.of(crossroads_town().appearance)


def lifted(rig: Rig, height: float) -> Rig:
    cameras = {}
    for name, camera in rig.cameras.items():
        pose = camera.ego_from_camera.copy()
        pose[2, 3] += height
        cameras[name] = Camera(camera.intrinsics, pose, camera.image_size)
    return dataclasses.replace(rig, cameras=cameras)


def rays_meet_box(
    camera: Camera, rows: np.ndarray, columns: np.ndarray, low: np.ndarray, high: np.ndarray
) -> np.ndarray:
    pixels = np.stack([columns, rows, np.ones_like(rows)], axis=1).astype(float)
    rays = pixels @ np.linalg.inv(camera.intrinsics).T @ camera.ego_from_camera[:3, :3].T
    eye = camera.ego_from_camera[:3, 3]
    with np.errstate(divide="ignore"):
        a, b = (low - eye) / rays, (high - eye) / rays
    return np.minimum(a, b).max(axis=1) <= np.maximum(a, b).min(axis=1)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("height", [-0.3, 0.0, 0.8])
def test_the_body_is_drawn_where_rays_meet_it(light, seed, height):
    """So the road beyond its outline stays free but for what the body hides."""
    rng = np.random.default_rng(seed)
    rig = lifted(varied_rig(rng), height).resized((225, 400))
    car = draw_own_car(rng, rig)
    low = np.array([-car.rear_m, -0.5 * car.width_m - 0.25, 0.0]) - 0.02
    high = np.array([car.front_m, 0.5 * car.width_m + 0.25, max(car.roof_m, car.lip_m, 1.1 * car.bonnet_m)]) + 0.02
    for camera in rig.cameras.values():
        view = body_view(car, camera, light, SKY)
        if view is None:
            continue
        rows, columns = np.nonzero(view.kept[..., 0] < 100)
        assert rays_meet_box(camera, rows + view.top, columns + view.left, low, high).all()


def test_as_on_the_real_vehicle_a_strip_of_the_rear_is_seen_and_nothing_in_front(light):
    rig = nuscenes_rig()
    tops = []
    for seed in range(12):
        car = draw_own_car(np.random.default_rng(seed), rig)
        views = {name: body_view(car, camera, light, SKY) for name, camera in rig.cameras.items()}
        assert views["CAM_FRONT"] is None
        if views["CAM_BACK"] is not None:
            covered = (views["CAM_BACK"].kept < 128).any(axis=2)
            tops.append(views["CAM_BACK"].top + int(np.flatnonzero(covered.any(axis=1))[0]))
    # The real keyframe's begins at row 852 of 900.
    assert len(tops) >= 7 and min(tops) > 640 and 740 < np.median(tops) < 890


def test_every_camera_stands_above_the_roof_whatever_its_height():
    for height in (-0.3, 0.0, 0.9):
        rig = lifted(nuscenes_rig(), height)
        car = fitted_below(draw_own_car(np.random.default_rng(1), rig), rig, 0.05)
        eyes = np.array([camera.ego_from_camera[:3, 3] for camera in rig.cameras.values()])
        gaps = eyes[:, 2] - car.height_at(eyes[:, 0], eyes[:, 1])
        assert gaps.min() == pytest.approx(0.05, abs=1e-6)


def test_the_paint_mirrors_what_stands_beyond_it(light):
    rig = nuscenes_rig()
    drawn = draw_own_car(np.random.default_rng(2), rig)
    car = dataclasses.replace(drawn, lip_m=drawn.roof_m, gloss=1.0, colour=(0.05, 0.05, 0.05))
    camera = rig.cameras["CAM_BACK"]
    view = body_view(car, camera, light, SKY)
    assert view is not None
    images = [np.full((900, 1600, 3), value, np.uint8) for value in (20, 220)]
    for image in images:
        view.draw(image)
    assert (images[1][-8:, 800] > images[0][-8:, 800] + 3).all()
    assert (images[0][: view.top] == 20).all()
