"""Weather and time of day in the pictures: lamps at night, mirrors in the wet, depth in fog, shadows of the sun."""

import dataclasses
import math
from typing import get_args

import numpy as np
import pytest

from hdmap_core.datasets.synthetic.formats.tables import describe_scene
from hdmap_core.datasets.synthetic.ground.picture import bake_ground
from hdmap_core.datasets.synthetic.ground.wear import SHADE_TEXEL_M, blocked_light
from hdmap_core.datasets.synthetic.light.sky import bake_sky
from hdmap_core.datasets.synthetic.light.weather import look_of_scene
from hdmap_core.datasets.synthetic.presets import PRESETS, Condition, plan_towns
from hdmap_core.datasets.synthetic.render_town import TownWork
from hdmap_core.datasets.synthetic.sensors.cameras import TownRenderer
from hdmap_core.datasets.synthetic.town import Appearance, Box, Mover, Paving, Weather
from training.evaluation.groups import group_of

MIDDLE = 80.0
K = np.array([[316.0, 0.0, 199.5], [0.0, 316.0, 112.0], [0.0, 0.0, 1.0]])
SIZE = (225, 400)
NIGHT = Weather("night", words=("night",))


def camera_at(x: float, y: float, yaw: float = 0.0) -> np.ndarray:
    pose = np.eye(4)
    pose[:3, :3] = [[math.sin(yaw), 0.0, math.cos(yaw)], [-math.cos(yaw), 0.0, math.sin(yaw)], [0.0, -1.0, 0.0]]
    pose[:3, 3] = x, y, 1.5
    return pose


def texel_mean(texture, x: float, y: float, reach: float = 0.6) -> float:
    column, row = int(x / texture.texel_m), int(y / texture.texel_m)
    half = int(reach / texture.texel_m)
    return float(texture.levels[0][row - half : row + half, column - half : column + half].mean())


@pytest.fixture(scope="module")
def look(crossroads_town) -> Appearance:
    return dataclasses.replace(crossroads_town().appearance, haze_per_m=0.0, shades_objects=True)


def with_look(town, look: Appearance, **changes: object):
    return dataclasses.replace(town, appearance=dataclasses.replace(look, **changes))


def test_night_is_dark_but_below_the_lamps(crossroads_town, look):
    lamp = Box((100.0, 90.0), 0.0, (0.18, 0.18, 6.0), (0.3, 0.3, 0.3), "pole")
    sign = Box((40.0, 90.0), 0.0, (0.18, 0.18, 3.5), (0.3, 0.3, 0.3), "pole")
    town = crossroads_town(boxes=(lamp, sign))
    day = bake_ground(with_look(town, look), 0.1)
    night = bake_ground(with_look(town, look, weather=NIGHT), 0.1)
    below, beside_sign = texel_mean(night, 100.0, 84.5), texel_mean(night, 40.0, 84.5)
    assert below > 2.0 * beside_sign
    assert beside_sign < 0.5 * texel_mean(day, 40.0, 84.5)
    assert (
        bake_sky(dataclasses.replace(look, weather=NIGHT, sky=(0.01, 0.01, 0.02), horizon=(0.02, 0.02, 0.02))).mean()
        < 70
    )


def test_headlights_brighten_the_road_before_a_vehicle(crossroads_town, look):
    route = np.array([[20.0, MIDDLE + 1.75], [150.0, MIDDLE + 1.75]])
    car = Mover(route, 40.0, 0.0, (4.5, 1.9, 1.5), (0.3, 0.3, 0.3))
    pose = camera_at(50.0, MIDDLE - 3.0)
    dark, lit = (
        TownRenderer(with_look(crossroads_town(movers=movers), look, weather=NIGHT), 0.2).render(K, pose, SIZE, 0.0)
        for movers in ((), (car,))
    )
    # 8 m before the car, on its lane: 20 m ahead of the camera and 4.75 m to its left.
    column, row = int(K[0, 2] - 316 * 4.75 / 20), int(K[1, 2] + 316 * 1.5 / 20)
    window = (slice(row - 1, row + 2), slice(column - 6, column + 7))
    assert lit[window].mean() > 1.3 * dark[window].mean() + 3


def test_lamps_shine_in_the_picture_and_are_hidden_by_walls(crossroads_town, look):
    lamp = Box((100.0, 80.0), 0.0, (0.18, 0.18, 6.0), (0.3, 0.3, 0.3), "pole")
    wall = Box((90.0, 80.0), 0.0, (1.0, 30.0, 12.0), (0.3, 0.3, 0.3), "barrier")
    views = [
        TownRenderer(with_look(crossroads_town(boxes=boxes), look, weather=NIGHT), 0.2).render(
            K, camera_at(70.0, 80.0), SIZE, 0.0
        )
        for boxes in ((lamp,), (lamp, wall))
    ]
    assert views[0][:100].max() > 240 and views[1][:100].max() < 200


def test_wet_ground_is_darker_near_by_and_mirrors_far_away(crossroads_town, look):
    grey = dataclasses.replace(look, sun_strength=0.0, paint_wear=0.0)
    wet = dataclasses.replace(grey, weather=Weather(wetness=1.0, words=("rain",)))
    texture_dry, texture_wet = (bake_ground(with_look(crossroads_town(), a), 0.2) for a in (grey, wet))
    assert texel_mean(texture_wet, 60.0, 84.0) < 0.8 * texel_mean(texture_dry, 60.0, 84.0)
    house = Box((MIDDLE + 40.0, MIDDLE), 0.0, (4.0, 30.0, 20.0), (0.9, 0.05, 0.05), "barrier")

    def redness(appearance: Appearance, boxes: tuple[Box, ...]) -> np.ndarray:
        town = with_look(crossroads_town(boxes=boxes), appearance)
        image = TownRenderer(town, 0.2).render(K, camera_at(MIDDLE, MIDDLE), SIZE, 0.0).astype(float)
        return (image[..., 0] - image[..., 2])[130:150, 150:250]

    assert redness(wet, (house,)).mean() > redness(wet, ()).mean() + 8
    assert abs(redness(grey, (house,)).mean() - redness(grey, ()).mean()) < 3


def test_fog_hides_with_distance(crossroads_town, look):
    boxes = tuple(Box((MIDDLE + d, MIDDLE + a), 0.0, (0.5, 4.0, 4.0), (0.03, 0.03, 0.03), "barrier")
                  for d, a in ((12.0, 6.0), (30.0, 0.0), (70.0, -10.0)))  # fmt: skip
    foggy = dataclasses.replace(look, sun_strength=0.0, haze_per_m=0.035, sky=(0.7,) * 3, horizon=(0.7,) * 3)
    image = TownRenderer(with_look(crossroads_town(boxes=boxes), foggy), 0.2).render(
        K, camera_at(MIDDLE, MIDDLE), SIZE, 0.0
    )
    seen = [
        float(image[int(K[1, 2]) - 2, int(K[0, 2] - 316 * a / d)].mean())
        for d, a in ((12.0, 6.0), (30.0, 0.0), (70.0, -10.0))
    ]
    sky = float(image[5, 200].mean())
    assert seen[0] + 20 < seen[1] and seen[1] + 20 < seen[2] and abs(seen[2] - sky) < 30


@pytest.mark.parametrize("azimuth", [0.0, 1.2, -2.0, 2.9])
def test_shadows_fall_away_from_the_sun(crossroads_town, look, azimuth):
    post = Box((60.0, 60.0), 0.3, (2.0, 2.0, 6.0), (0.3, 0.3, 0.3), "barrier")
    sunny = dataclasses.replace(look, sun_azimuth=azimuth, sun_elevation=0.7, sun_strength=1.0)
    blocked = blocked_light(with_look(crossroads_town(boxes=(post,)), sunny))
    rows, columns = np.nonzero(blocked > 0.5)
    middle = (np.array([columns.mean(), rows.mean()]) + 0.5) * SHADE_TEXEL_M - (60.0, 60.0)
    assert middle @ (math.cos(azimuth), math.sin(azimuth)) < -2.0
    assert abs(middle @ (-math.sin(azimuth), math.cos(azimuth))) < 0.3
    edges = [(b > 0.05) & (b < 0.95) for b in (blocked, blocked_light(
        with_look(crossroads_town(boxes=(post,)), sunny, shadow_softness_m=1.0)))]  # fmt: skip
    assert edges[1].sum() > 2 * edges[0].sum()


def test_vehicles_cast_moving_shadows(crossroads_town, look):
    route = np.array([[20.0, MIDDLE], [150.0, MIDDLE]])
    truck = Mover(route, 70.0, 0.0, (7.0, 2.4, 3.5), (0.5, 0.5, 0.5), "truck")
    sunny = dataclasses.replace(look, sun_azimuth=math.pi / 2, sun_elevation=0.6, sun_strength=1.0)
    clear, shaded = (
        TownRenderer(with_look(crossroads_town(movers=m), sunny), 0.2).render(K, camera_at(75.0, MIDDLE), SIZE, 0.0)
        for m in ((), (truck,))
    )
    # The sun stands to the left; the shadow lies to the right of the truck, 15 m ahead.
    column, row = int(K[0, 2] + 316 * 2.6 / 15), int(K[1, 2] + 316 * 1.5 / 15)
    window = (slice(row - 1, row + 2), slice(column - 3, column + 4))
    assert shaded[window].mean() < 0.85 * clear[window].mean()


def test_paving_has_edges_that_are_no_lines_of_the_map(crossroads_town, look):
    plain, repaved = (
        bake_ground(with_look(crossroads_town(), look, paving=paving), 0.2).levels[0].astype(int)
        for paving in (Paving(), Paving(resurfaced=6.0, contrast=1.0, walkway="brick", grass_edge_m=0.2))
    )
    changed = np.abs(plain - repaved).max(axis=2) > 25
    road = changed[int(73.5 / 0.2) : int(86.5 / 0.2)]
    assert 0.05 < road.mean() < 0.95
    # Walkways lie within 3 m of the asphalt; beyond them nothing changes but a hand's breadth of grass.
    assert changed[: int(50 / 0.2), : int(60 / 0.2)].mean() < 0.01


def test_conditions_take_turns_and_descriptions_say_them(look):
    looks = [look_of_scene(look, 300_000, place) for place in range(24)]
    plan = plan_towns(PRESETS["tiny"])[0]
    said = [describe_scene(plan, a.weather) for a in looks]
    for dozen in (said[:12], said[12:]):
        assert sorted({group_of("time of day", d) for d in dozen}) == ["day", "dusk", "night"]
        assert sorted({group_of("weather", d) for d in dozen}) == ["dry", "fog", "rain"]
        assert sorted({group_of("light", d) for d in dozen}) == ["low sun", "not said", "overcast"]
    assert [a.weather.time_of_day == "night" for a in looks] == [group_of("time of day", d) == "night" for d in said]
    assert all((a.weather.wetness > 0) == (group_of("weather", d) == "rain") for a, d in zip(looks, said, strict=True))
    assert len({a.sun_azimuth for a in looks}) == 24
    assert looks[3] == look_of_scene(look, 300_000, 3) != look_of_scene(look, 300_001, 3)
    assert describe_scene(plan, Weather()) == f"synthetic town {plan.seed}, {plan.split}"


def test_a_condition_can_be_asked_for(look):
    looks = {condition: look_of_scene(look, 300_000, 5, condition) for condition in get_args(Condition)}
    plan = plan_towns(PRESETS["tiny"])[0]
    said = {condition: describe_scene(plan, a.weather) for condition, a in looks.items()}
    assert {c for c in said if group_of("time of day", said[c]) == "night"} == {"night", "rain-at-night"}
    assert {c for c in said if group_of("time of day", said[c]) == "dusk"} == {"dusk"}
    assert {c for c in said if group_of("weather", said[c]) == "rain"} == {"rain", "rain-at-night"}
    assert {c for c in said if group_of("weather", said[c]) == "fog"} == {"fog"}
    assert {c: group_of("light", said[c]) for c in ("clear", "low-sun", "overcast")} == {
        "clear": "not said", "low-sun": "low sun", "overcast": "overcast",
    }  # fmt: skip
    assert look_of_scene(look, 300_000, 5) in looks.values(), "as the one whose turn it is"
    assert len({a.sun_azimuth for a in looks.values()}) == len({a.asphalt for a in looks.values()}) == 1


def test_the_first_edition_knows_no_weather():
    config = PRESETS["tiny"]
    scene = TownWork(config, plan_towns(config)[0]).scene(0)
    assert scene.optics == {} and scene.own_car is None and scene.developers() == {}
    look = scene.town.appearance
    assert look.weather == Weather() and look.paving == Paving() and not look.shades_objects and not look.glare
