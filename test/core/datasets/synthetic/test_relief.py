"""Heights of a town: what a relief answers, and what is drawn for the second edition."""

import numpy as np
import pytest
from shapely import Point, contains_xy

from hdmap_core.datasets.synthetic.curve import lengths_along, resample
from hdmap_core.datasets.synthetic.ground.picture import GroundTexture
from hdmap_core.datasets.synthetic.ground.relief import FLAT, Relief
from hdmap_core.datasets.synthetic.ground.relief_ground import ReliefGround
from hdmap_core.datasets.synthetic.ground.terrain import draw_relief
from hdmap_core.datasets.synthetic.light.shading import Lighting
from hdmap_core.datasets.synthetic.town import Town
from hdmap_core.datasets.synthetic.world import generate_town

SEEDS = (2, 5)


@pytest.fixture(scope="module", params=SEEDS)
def town(request: pytest.FixtureRequest) -> Town:
    return generate_town(request.param, edition=2)


def inclined(east: float, north: float) -> Relief:
    x, y = np.meshgrid(np.linspace(0, 160, 81), np.linspace(0, 120, 61))
    raised = np.zeros((120, 160), np.uint8)
    raised[:, 80:] = 255
    return Relief(
        (160.0, 120.0), (east * x + north * y).astype(np.float32), np.full((61, 81), 0.15, np.float32), raised
    )


def relief_lift(relief: Relief, points: np.ndarray) -> np.ndarray:
    low, high = relief.sheets(points[:, 0], points[:, 1])
    return high - low


def test_heights_and_slopes_of_a_plane() -> None:
    relief = inclined(0.06, -0.03)
    points = np.random.default_rng(0).uniform((2, 2), (158, 118), (500, 2))
    plane = 0.06 * points[:, 0] - 0.03 * points[:, 1]
    assert np.allclose(relief.smooth(points), plane, atol=1e-5)
    assert np.allclose(relief.height(points), plane + 0.15 * (points[:, 0] > 80), atol=1e-5)
    assert np.allclose(relief.slope(points), (0.06, -0.03), atol=1e-4)
    low, high = relief.sheets(points[:, 0], points[:, 1])
    assert np.allclose(low, plane, atol=0.003) and np.allclose(high - low, 0.15, atol=1e-3)


def test_one_point_and_many_are_answered_alike_and_borders_go_on() -> None:
    relief = inclined(0.05, 0.01)
    points = np.array([[10.3, 20.7], [79.0, 3.0], [-50.0, 60.0], [500.0, 60.0]])
    assert [float(relief.height(point)) for point in points] == relief.height(points).tolist()
    assert relief.height(points)[2] == relief.height(np.array([0.0, 60.0]))
    assert relief.height(points)[3] == relief.height(np.array([160.0, 60.0]))


def test_the_first_edition_is_flat() -> None:
    town = generate_town(2)
    assert town.relief is FLAT and town.relief.is_flat
    assert not town.relief.height(np.random.default_rng(0).uniform(0, 320, (50, 2))).any()


def test_streets_have_the_grades_and_vertical_curves_of_streets(town: Town) -> None:
    grades, bends = [], []
    for route in town.routes:
        line = resample(route, 4.0)
        step = float(np.diff(lengths_along(line)).mean())
        heights = town.relief.smooth(line)
        grades.append(np.abs(np.diff(heights)) / step)
        bends.append(np.abs(np.diff(heights, 2)) / step**2)
    grade, bend = np.concatenate(grades), np.concatenate(bends)
    assert np.quantile(grade, 0.8) < 0.04 and grade.max() < 0.10
    assert grade.max() > 0.015
    assert 1 / np.quantile(bend, 0.98) > 200.0


def test_roads_are_without_steps_and_fall_to_their_sides(town: Town) -> None:
    inside = town.drivable.buffer(-0.5)
    points = np.random.default_rng(1).uniform(5, 315, (40000, 2))
    points = points[contains_xy(inside, points)]
    for step in ((0.1, 0.0), (0.0, 0.1)):
        rise = np.abs(town.relief.height(points + step) - town.relief.height(points))
        assert rise.max() < 0.1 * 0.15
    slopes = np.linalg.norm(town.relief.slope(points), axis=1)
    assert 0.01 < np.median(slopes) < 0.05


def test_kerbs_are_up_to_18_cm_high_and_dropped_where_people_cross(town: Town) -> None:
    assert town.relief.lift.min() >= 0.0 and town.relief.lift.max() <= 0.1801
    corners = np.array([crossing.corners for crossing in town.crossings])
    walk = corners[:, 3] - corners[:, 0]
    walk /= np.linalg.norm(walk, axis=1, keepdims=True)
    # At the kerb, where the crossing meets it and six metres aside.
    landings = corners[:, :2].mean(axis=1) - 0.6 * walk
    aside = corners[:, 1] - corners[:, 0]
    aside /= np.linalg.norm(aside, axis=1, keepdims=True)
    at, beside = (relief_lift(town.relief, places) for places in (landings, landings + 6.0 * aside))
    assert np.mean(at < 0.03) > 0.7
    assert np.median(beside) > 2.0 * np.median(at)


def test_everything_but_the_road_is_raised(town: Town) -> None:
    points = np.random.default_rng(2).uniform(2, 318, (5000, 2))
    clear = np.array([town.drivable.boundary.distance(Point(p)) > 0.3 for p in points])
    assert (town.relief.is_raised(points[clear]) != contains_xy(town.drivable, points[clear])).all()


def test_same_draw_same_relief_and_mirrors_agree(town: Town) -> None:
    again = draw_relief(np.random.default_rng([3, 21]), town)
    assert again.base.tobytes() == draw_relief(np.random.default_rng([3, 21]), town).base.tobytes()
    assert again.base.tobytes() != town.relief.base.tobytes()
    other = generate_town(town.seed, drives_left=True, edition=2)
    points = np.random.default_rng(4).uniform(0, 320, (2000, 2))
    assert np.allclose(other.relief.height(points * (-1, 1) + (320, 0)), town.relief.height(points), atol=1e-9)


def test_kerbs_faces_in_shade_are_darker_than_the_ground_though_they_face_a_low_sun() -> None:
    relief = inclined(0.0, 0.0)
    light = Lighting(np.array([-0.98, 0.0, 0.2]), sun=1.0, sky=0.4)
    levels = (np.full((600, 800, 3), 100, np.uint8),)
    faces = [
        ReliefGround(
            GroundTexture(levels, 0.2, (0, 0, 0), np.full((600, 800), blocked, np.float32)), relief, light
        ).faces[300, 402]
        for blocked in (0.0, 1.0)
    ]
    assert (faces[0] > 110).all() and (faces[1] < 85).all()
