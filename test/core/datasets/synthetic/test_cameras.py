"""The renderer: pixels where the pinhole says, occlusion, horizon, determinism."""

import dataclasses
import math

import cv2
import numpy as np
import pytest

from hdmap_core.datasets.synthetic.sensors.cameras import TownRenderer, mover_poses
from hdmap_core.datasets.synthetic.town import Box, Mover
from hdmap_core.errors import CalibrationError

MIDDLE = 80.0
K = np.array([[1266.4, 0.0, 816.3], [0.0, 1266.4, 491.5], [0.0, 0.0, 1.0]])
SIZE = (900, 1600)


def camera_at(x: float, y: float, yaw: float = 0.0, pitch: float = 0.0, roll: float = 0.0, z: float = 1.5):
    """Town from optical frame; positive pitch looks up, positive roll leans right."""
    level = np.array([[math.sin(yaw), 0.0, math.cos(yaw)], [-math.cos(yaw), 0.0, math.sin(yaw)], [0.0, -1.0, 0.0]])
    tilt, _ = cv2.Rodrigues(np.array([pitch, 0.0, 0.0]))
    lean, _ = cv2.Rodrigues(np.array([0.0, 0.0, roll]))
    pose = np.eye(4)
    pose[:3, :3] = level @ tilt @ lean
    pose[:3, 3] = x, y, z
    return pose


def project(point: tuple[float, float, float], pose: np.ndarray, intrinsics: np.ndarray = K) -> np.ndarray:
    camera = np.linalg.inv(pose)
    rotation, _ = cv2.Rodrigues(camera[:3, :3])
    pixels, _ = cv2.projectPoints(np.array([point], np.float64), rotation, camera[:3, 3], intrinsics, None)
    return pixels.reshape(2)


@pytest.fixture(scope="module")
def spotted(crossroads_town):
    """An undecorated town with one white spot of 0.3 m on the asphalt: (renderer, town with it, spot positions)."""
    look = dataclasses.replace(crossroads_town().appearance, paint_wear=0.0, haze_per_m=0.0)
    spots = [(MIDDLE + x, MIDDLE + y) for x, y in ((0.013, 2.008), (-1.018, -2.989), (6.02, 0.511), (4.011, 5.02))]
    half = 0.15 * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    town = dataclasses.replace(
        crossroads_town(look), markings=(), crossings=(), lanes=(), stop_lines=tuple(half + spot for spot in spots)
    )
    return TownRenderer(town), spots


@pytest.mark.parametrize("attitude", [(0.0, 0.0, 0.0), (0.1, -0.02, 0.03), (-0.1, 0.03, -0.05), (0.05, -0.3, 0.5)])
def test_ground_spot_appears_where_the_pinhole_says(spotted, attitude, spot_offset):
    renderer, spots = spotted
    yaw, pitch, roll = attitude
    pose = camera_at(MIDDLE - 9.0, MIDDLE, yaw, pitch, roll)
    image = renderer.render(K, pose, SIZE, 0.0)
    checked = 0
    for x, y in spots:
        corners = np.array(
            [project((x + 0.15 * a, y + 0.15 * b, 0.0), pose) for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
        )
        if (off := spot_offset(image, corners)) is not None:
            assert off < 1.0, (x, y)
            checked += 1
    assert checked >= 2


def test_smaller_images_show_the_same_place(spotted):
    """Half-size intrinsics in the centre-at-integer convention must shift the picture by nothing."""
    renderer, _ = spotted
    pose = camera_at(MIDDLE - 9.0, MIDDLE)
    half = K.copy()
    half[:2] *= 0.5
    half[:2, 2] -= 0.25
    large = renderer.render(K, pose, SIZE, 0.0)
    small = renderer.render(half, pose, (450, 800), 0.0)
    reduced = cv2.resize(large, (800, 450), interpolation=cv2.INTER_AREA)
    assert np.abs(reduced.astype(int) - small).mean() < 4.0


def test_horizon_row(spotted):
    renderer, _ = spotted
    for pitch, roll in ((0.0, 0.0), (0.04, 0.0), (-0.03, 0.05)):
        image = renderer.render(K, camera_at(MIDDLE, MIDDLE, 0.7, pitch, roll), SIZE, 0.0).astype(int)
        for u in (40, 800, 1560):
            # Where a level ray lands: the sky above is bluer than the land and the asphalt below.
            above = K[1, 2] + K[1, 1] * math.tan(pitch) - math.tan(roll) * (u - K[0, 2])
            column = image[:, u, 2] - image[:, u, 1]
            sky, land = column[: max(int(above) - 70, 1)], column[int(above) + 8 : int(above) + 60]
            assert np.median(sky) > np.median(land) + 5


def test_box_hides_what_is_behind_it(crossroads_town):
    red = Box((MIDDLE, MIDDLE), 0.3, (2.0, 2.0, 3.0), (0.7, 0.02, 0.02), "barrier")
    blue = Box((MIDDLE + 12.0, MIDDLE), 0.1, (2.0, 6.0, 3.0), (0.02, 0.02, 0.7), "barrier")
    pose = camera_at(MIDDLE - 10.0, MIDDLE)
    for order in ((red, blue), (blue, red)):
        image = TownRenderer(crossroads_town(boxes=order), 0.1).render(K, pose, SIZE, 0.0).astype(int)
        u, v = np.rint(project((MIDDLE, MIDDLE, 0.6), pose)).astype(int)
        assert image[v, u, 0] > image[v, u, 2] + 60
        u, v = np.rint(project((MIDDLE + 11.0, MIDDLE + 2.6, 0.6), pose)).astype(int)
        assert image[v, u, 2] > image[v, u, 0] + 60
    silhouette = (image[..., 0] - image[..., 2]) > 60
    corners = [project((MIDDLE + x, MIDDLE + y, 0.0), pose) for x, y in _corners(red)]
    assert np.flatnonzero(silhouette.any(axis=0))[[0, -1]] == pytest.approx(
        [min(c[0] for c in corners), max(c[0] for c in corners)], abs=1.5
    )


def _corners(box: Box) -> list[tuple[float, float]]:
    cos, sin = math.cos(box.yaw), math.sin(box.yaw)
    half = (0.5 * box.size[0], 0.5 * box.size[1])
    return [(a * half[0] * cos - b * half[1] * sin, a * half[0] * sin + b * half[1] * cos)
            for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))]  # fmt: skip


def test_movers_move_and_a_mover_around_the_camera_is_left_out(crossroads_town):
    route = np.array([[10.0, MIDDLE - 1.75], [150.0, MIDDLE - 1.75]])
    car = Mover(route, 60.0, 10.0, (4.5, 1.9, 1.5), (0.7, 0.02, 0.02))
    centres, yaws = mover_poses((car,), 1.0)
    assert centres[0] == pytest.approx((80.0, MIDDLE - 1.75)) and yaws[0] == pytest.approx(0.0)
    renderer = TownRenderer(crossroads_town(movers=(car,)), 0.1)
    pose = camera_at(65.0, MIDDLE - 1.75)

    def redness(time_s: float) -> int:
        image = renderer.render(K, pose, SIZE, time_s).astype(int)
        return int(((image[..., 0] - image[..., 1]) > 60).sum())

    assert redness(1.0) > redness(3.0) > 100
    assert redness(-0.5) == 0


def test_near_plane_cuts_cleanly(crossroads_town):
    """A wall beside the camera, half of it behind: it fills its side of the picture and nothing of the other."""
    wall = Box((MIDDLE, MIDDLE + 3.0), 0.0, (40.0, 1.0, 8.0), (0.7, 0.02, 0.02), "barrier")
    image = TownRenderer(crossroads_town(boxes=(wall,)), 0.1).render(K, camera_at(MIDDLE, MIDDLE), SIZE, 0.0)
    red = (image[..., 0].astype(int) - image[..., 2]) > 50
    assert red[500, :400].all() and not red[:, 900:].any()


def test_same_input_same_bytes(furnished_town):
    pose = camera_at(50.0, MIDDLE - 1.75, 0.4, 0.01, 0.01)
    first, second = TownRenderer(furnished_town), TownRenderer(furnished_town)
    image = first.render(K, pose, SIZE, 0.7)
    assert image.shape == (*SIZE, 3) and image.dtype == np.uint8
    first.render(K, pose, (256, 704), 3.0)
    assert first.render(K, pose, SIZE, 0.7).tobytes() == image.tobytes() == second.render(K, pose, SIZE, 0.7).tobytes()


@pytest.mark.parametrize("attitude", [(0.0, -math.pi / 2, 0.0), (1.0, 0.0, math.pi), (0.3, 1.2, 0.2), (2.0, 0.0, 1.57)])
def test_any_attitude_can_be_drawn(furnished_town, attitude):
    image = TownRenderer(furnished_town, 0.2).render(K, camera_at(MIDDLE, MIDDLE, *attitude), (225, 400), 0.0)
    assert image.shape == (225, 400, 3) and image.std() > 1.0


def test_refuses_what_is_no_camera(spotted):
    with pytest.raises(CalibrationError, match="positive focal"):
        spotted[0].render(-K, np.eye(4), SIZE, 0.0)
