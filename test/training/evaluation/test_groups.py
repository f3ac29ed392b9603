"""What a scene's description says about weather and light, in nuScenes' own manner of writing."""

from pathlib import Path

import pytest

from hdmap_core.datasets.nuscenes import NuScenesDataset
from hdmap_core.datasets.synthetic.presets import SynthConfig, plan_towns
from hdmap_core.datasets.synthetic.render_town import TownWork, describe
from training.evaluation.groups import frame_groups, group_of


@pytest.mark.parametrize(
    ("description", "weather", "time_of_day"),
    [
        ("Night, after rain, many pedestrians, PMD, ped with animal", "rain", "night"),
        ("Parked truck, construction, intersection, turn left, following a van", "dry", "day"),
        ("Rain, wait at intersection, several peds", "rain", "day"),
        ("Difficult lighting, train station, drain cover, nightclub", "dry", "day"),
        ("synthetic town 100000, train", "dry", "day"),
        ("Heavy snowfall", "snow", "day"),
        ("foggy night", "fog", "night"),
        ("", "dry", "day"),
        ("Dusk, synthetic town 7, val", "dry", "dusk"),
        ("Night, after rain, synthetic town 7, val", "rain", "night"),
        ("Rain, synthetic town 12, train", "rain", "day"),
        ("Low sun, industrial dust", "dry", "day"),
    ],
)
def test_descriptions(description: str, weather: str, time_of_day: str) -> None:
    assert (group_of("weather", description), group_of("time of day", description)) == (weather, time_of_day)


def test_light() -> None:
    assert group_of("light", "Low sun, synthetic town 7, val") == "low sun"
    assert group_of("light", "Overcast, parked cars") == "overcast"
    assert group_of("light", "Parked truck, turn left") == "not said"


def test_groups_of_a_folder_cover_every_frame_once(synthetic_root: Path) -> None:
    dataset = NuScenesDataset(synthetic_root)
    groups = frame_groups(dataset, dataset.tokens)
    assert set(groups) == {"weather", "time of day", "light", "city", "cameras", "scene"}
    for members in groups.values():
        assert sorted(token for tokens in members.values() for token in tokens) == sorted(dataset.tokens)
    assert list(groups["cameras"]) == ["6"] and len(groups["scene"]) == 2


def test_scenes_of_the_second_edition_say_their_weather() -> None:
    config = SynthConfig(edition=2, towns={"train": 3}, keyframes=1, image_size=(45, 80), lidar="none")
    for plan in plan_towns(config):
        (row,) = describe(config, plan, {})["tables"]["scene"]
        look = TownWork(config, plan).scene(0).town.appearance.weather
        assert (group_of("time of day", row["description"]) == "night") == (look.time_of_day == "night")
        assert (group_of("weather", row["description"]) == "rain") == (look.wetness > 0)
        assert (group_of("weather", row["description"]) == "fog") == ("fog" in look.words)
