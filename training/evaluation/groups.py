"""Which frames are compared with which: by scene, city, weather, time of day and number of cameras.

nuScenes says weather and light only in the free text of a scene ("Night, after rain, many pedestrians"). As usual in
the field, a scene is rainy if its text speaks of rain, and everything else is dry; likewise for the night. Here whole
words are looked for: "train station" is no rain. Our own synthetic scenes say more: fog, dusk, a low sun, overcast.
"""

import re
from collections.abc import Mapping, Sequence

from hdmap_core.datasets.protocol import MapDataset

_WEATHER = {
    "rain": r"\brain(s|y|ing|fall)?\b",
    "snow": r"\bsnow(s|y|ing|fall)?\b",
    "fog": r"\b(fog|foggy|mist|misty)\b",
}
_TIMES = {"night": r"\bnight(time)?\b", "dusk": r"\b(dusk|dawn|twilight)\b"}
_LIGHT = {"low sun": r"\blow sun\b", "overcast": r"\b(overcast|cloudy)\b"}


def weather_of(description: str) -> str:
    """`rain`, `snow`, `fog`, or `dry` if the description speaks of none of them."""
    return _first_said(_WEATHER, description, "dry")


def time_of_day_of(description: str) -> str:
    """`night`, `dusk` or `day`."""
    return _first_said(_TIMES, description, "day")


def light_of(description: str) -> str:
    """`low sun`, `overcast`, or `not said`."""
    return _first_said(_LIGHT, description, "not said")


def _first_said(patterns: Mapping[str, str], description: str, otherwise: str) -> str:
    for name, pattern in patterns.items():
        if re.search(pattern, description, re.IGNORECASE):
            return name
    return otherwise


def frame_groups(dataset: MapDataset, tokens: Sequence[str]) -> dict[str, dict[str, list[str]]]:
    """What is compared -> group -> frame tokens; groups in order of their names.

    Raises:
        DatasetError: if a token is not of this data set.
    """
    groups: dict[str, dict[str, list[str]]] = {}
    for token in tokens:
        scene = dataset.scene_of(token)
        cameras = sum(frame.modality == "camera" for frame in dataset.keyframe(token).values())
        for kind, name in (
            ("weather", weather_of(scene.description)),
            ("time of day", time_of_day_of(scene.description)),
            ("light", light_of(scene.description)),
            ("city", scene.location),
            ("cameras", str(cameras)),
            ("scene", scene.name),
        ):
            groups.setdefault(kind, {}).setdefault(name, []).append(token)
    return {kind: dict(sorted(members.items())) for kind, members in groups.items()}
