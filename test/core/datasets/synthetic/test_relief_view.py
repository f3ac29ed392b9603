"""The ground of a relief in pictures: places, crests, kerbs, and things that stand on it."""

import dataclasses
import math

import cv2
import numpy as np
import pytest

from hdmap_core.datasets.synthetic.ground.relief import Relief
from hdmap_core.datasets.synthetic.ground.terrain import raised_mask
from hdmap_core.datasets.synthetic.sensors.cameras import TownRenderer
from hdmap_core.datasets.synthetic.town import Box, Town

MIDDLE = 80.0
K = np.array([[1266.4, 0.0, 816.3], [0.0, 1266.4, 491.5], [0.0, 0.0, 1.0]])
SIZE = (900, 1600)
HILLS = {
    "plane": lambda x, y: 0.0 * x,
    "uphill": lambda x, y: 0.07 * x,
    "downhill": lambda x, y: -0.06 * x,
    "sidelong": lambda x, y: 0.05 * y,
    "dip": lambda x, y: (x - MIDDLE) ** 2 / 600.0 + 0.02 * np.abs(y - MIDDLE),
}


def on_hill(town: Town, height, lift: float = 0.0) -> Town:
    x, y = np.meshgrid(np.linspace(0, 160, 321), np.linspace(0, 160, 321))
    base = height(x, y).astype(np.float32)
    relief = Relief(town.size, base, np.full_like(base, lift), raised_mask(town))
    return dataclasses.replace(town, relief=relief)


def camera_on(town: Town, x: float, y: float, pitch: float = 0.0, roll: float = 0.0) -> np.ndarray:
    """An optical frame 1.5 m above the ground that looks east."""
    level = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
    tilt, _ = cv2.Rodrigues(np.array([pitch, 0.0, 0.0]))
    lean, _ = cv2.Rodrigues(np.array([0.0, 0.0, roll]))
    pose = np.eye(4)
    pose[:3, :3] = level @ tilt @ lean
    pose[:3, 3] = x, y, float(town.relief.smooth(np.array([x, y]))) + 1.5
    return pose


def project(points: np.ndarray, pose: np.ndarray) -> np.ndarray:
    camera = (np.atleast_2d(points) - pose[:3, 3]) @ pose[:3, :3] @ K.T
    return camera[:, :2] / camera[:, 2:]


def clear_town(crossroads_town, **parts) -> Town:
    look = dataclasses.replace(crossroads_town().appearance, paint_wear=0.0, haze_per_m=0.0)
    bare = dataclasses.replace(crossroads_town(look), markings=(), crossings=(), lanes=(), stop_lines=())
    return dataclasses.replace(bare, **parts)


@pytest.mark.parametrize("hill", HILLS)
@pytest.mark.parametrize("attitude", [(0.0, 0.0), (-0.04, 0.03)])
def test_paint_appears_where_its_place_on_the_hill_projects(crossroads_town, hill, attitude, spot_offset) -> None:
    spots = [(MIDDLE + x, MIDDLE + y) for x, y in ((0.013, 2.008), (-1.018, -2.989), (6.02, 0.511), (14.0, 4.02))]
    half = 0.15 * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    town = on_hill(clear_town(crossroads_town, stop_lines=tuple(half + spot for spot in spots)), HILLS[hill])
    pose = camera_on(town, MIDDLE - 9.0, MIDDLE, *attitude)
    image = TownRenderer(town).render(K, pose, SIZE, 0.0)
    checked = 0
    for spot in spots:
        ring = half + spot
        corners = project(np.c_[ring, town.relief.smooth(ring)], pose)
        if (off := spot_offset(image, corners)) is not None:
            assert off < 1.1, spot
            checked += 1
    assert checked >= 3


def ridge(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """3 m high, across the road 15 m east of the middle."""
    return 3.0 * np.exp(-(((x - MIDDLE - 15.0) / 9.0) ** 2)) + 0.0 * y


def test_a_crest_hides_the_ground_and_the_feet_behind_it(crossroads_town) -> None:
    bar = np.array([[-0.5, -5.0], [0.5, -5.0], [0.5, 5.0], [-0.5, 5.0]])
    before, behind = (bar + np.array([MIDDLE + ahead, MIDDLE]) for ahead in (2.0, 30.0))
    tower = Box((MIDDLE + 40.0, MIDDLE), 0.0, (2.0, 4.0, 9.0), (0.7, 0.02, 0.02), "barrier")
    for height, hides in ((ridge, True), (HILLS["plane"], False)):
        town = on_hill(clear_town(crossroads_town, stop_lines=(before, behind), boxes=(tower,)), height)
        pose = camera_on(town, MIDDLE - 12.0, MIDDLE)
        image = TownRenderer(town, 0.1).render(K, pose, SIZE, 0.0).astype(int)
        at = np.array([[MIDDLE + 2.0, MIDDLE + 2.0], [MIDDLE + 30.0, MIDDLE + 3.5]])
        (near_u, near_v), (far_u, far_v) = np.rint(project(np.c_[at, town.relief.smooth(at)], pose)).astype(int)
        assert image[near_v, near_u].min() > 130
        assert (image[far_v, far_u].min() > 130) != hides
        red = (image[..., 0] - image[..., 2]) > 50
        foot = float(town.relief.smooth(np.array(tower.centre)))
        u, v = (
            np.rint(project(np.array([[*tower.centre, foot + 0.5], [*tower.centre, foot + 8.0]]), pose)).astype(int).T
        )
        assert red[v[1], u[1]]
        assert red[v[0], u[0]] != hides
        # It ends at the crest, nowhere else.
        lowest = np.flatnonzero(red.any(axis=1))[-1]
        places = np.stack([np.linspace(MIDDLE - 5, MIDDLE + 38, 400), np.full(400, MIDDLE)], axis=1)
        crest = project(np.c_[places, town.relief.smooth(places)], pose)[:, 1].min()
        base = project(np.array([*tower.centre, foot]), pose)[0, 1]
        assert lowest == pytest.approx(min(crest, base), abs=4.0)


def test_kerbs_have_faces_and_walkways_lie_above_them(crossroads_town) -> None:
    edge = MIDDLE - 7.0
    flat = clear_town(crossroads_town)
    pose = camera_on(on_hill(flat, HILLS["plane"]), MIDDLE - 50.0, MIDDLE - 3.0, -0.2)
    pose[:3, :3] = (
        np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, -1.0, 0.0]]) @ cv2.Rodrigues(np.array([-0.2, 0, 0]))[0]
    )
    pictures = {
        lift: TownRenderer(on_hill(flat, HILLS["plane"], lift)).render(K, pose, SIZE, 0.0).astype(int)
        for lift in (0.0, 0.18)
    }
    x = MIDDLE - 50.0
    (_, foot), (_, top) = project(np.array([[x, edge, 0.0], [x, edge, 0.18]]), pose)
    assert foot - top > 30
    column = 816
    asphalt = pictures[0.18][int(foot) + 30, column].mean()
    face = pictures[0.18][int((foot + top) / 2) - 8 : int((foot + top) / 2) + 8, column].mean()
    kerb = pictures[0.18][int(top) - 12 : int(top) - 6, column].mean()
    assert face > asphalt + 15 and kerb > face + 10
    # Below the foot both towns look the same; above it the walkway of the raised one is nearer.
    assert np.abs(pictures[0.0][int(foot) + 12 :] - pictures[0.18][int(foot) + 12 :]).max() <= 3
    assert np.abs(pictures[0.0][int(top) - 40 : int(foot)] - pictures[0.18][int(top) - 40 : int(foot)]).mean() > 8


def test_a_level_relief_looks_like_flat_ground(furnished_town) -> None:
    pose = camera_on(on_hill(furnished_town, HILLS["plane"]), 50.0, MIDDLE - 1.75, 0.01, 0.01)
    flat = TownRenderer(furnished_town).render(K, pose, SIZE, 0.0).astype(int)
    level = TownRenderer(on_hill(furnished_town, HILLS["plane"])).render(K, pose, SIZE, 0.0).astype(int)
    assert np.abs(flat - level).mean() < 1.5


@pytest.mark.parametrize(("size", "pitch"), [((225, 400), 0.0), ((256, 704), 0.3), ((101, 333), -0.6)])
def test_any_size_and_tilt_gives_the_same_bytes_twice(furnished_town, size, pitch) -> None:
    town = on_hill(furnished_town, HILLS["dip"], 0.12)
    camera = K.copy()
    camera[:2] *= size[1] / SIZE[1]
    pose = camera_on(town, 50.0, MIDDLE - 1.75, pitch, 0.1)
    first, second = (TownRenderer(town, 0.2).render(camera, pose, size, 0.7) for _ in range(2))
    assert first.shape == (*size, 3) and first.tobytes() == second.tobytes() and first.std() > 1.0


@pytest.mark.parametrize("attitude", [(-math.pi / 2, 0.0), (0.0, math.pi), (1.2, 0.2), (0.0, 1.57)])
def test_any_attitude_can_be_drawn(furnished_town, attitude) -> None:
    town = on_hill(furnished_town, HILLS["dip"], 0.12)
    image = TownRenderer(town, 0.2).render(K, camera_on(town, MIDDLE, MIDDLE, *attitude), (225, 400), 0.0)
    assert image.shape == (225, 400, 3) and image.std() > 1.0
