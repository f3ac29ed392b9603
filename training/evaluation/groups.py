"""Which frames are compared with which: by scene, city, weather, time of day and number of cameras.

nuScenes says weather and light only in the free text of a scene ("Night, after rain, many pedestrians"). As usual in
the field, a scene is rainy if its text speaks of rain, and everything else is dry; likewise for the night. Here whole
words are looked for: "train station" is no rain. Our own synthetic scenes say more: fog, dusk, a low sun, overcast.
"""

import re
from collections.abc import Sequence

from hdmap_core.datasets.protocol import MapDataset

_WORDS = {
    "weather": {
        "rain": r"\brain(s|y|ing|fall)?\b",
        "snow": r"\bsnow(s|y|ing|fall)?\b",
        "fog": r"\b(fog|foggy|mist|misty)\b",
        "dry": "",
    },
    "time of day": {"night": r"\bnight(time)?\b", "dusk": r"\b(dusk|dawn|twilight)\b", "day": ""},
    "light": {"low sun": r"\blow sun\b", "overcast": r"\b(overcast|cloudy)\b", "not said": ""},
}
"""What is told -> group -> its words, looked for in this order; the last is whatever has none of them."""


def group_of(kind: str, description: str) -> str:
    """The group of a scene's text: its `weather`, `time of day` or `light`."""
    return next(name for name, words in _WORDS[kind].items() if re.search(words, description, re.IGNORECASE))


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
            *((kind, group_of(kind, scene.description)) for kind in _WORDS),
            ("city", scene.location),
            ("cameras", str(cameras)),
            ("scene", scene.name),
        ):
            groups.setdefault(kind, {}).setdefault(name, []).append(token)
    return {kind: dict(sorted(members.items())) for kind, members in groups.items()}
