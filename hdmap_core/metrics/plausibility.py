"""Whether a bad score looks like a mistake in how a file was read: exchanged axes, exchanged classes."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from itertools import permutations

import numpy as np

from hdmap_core.elements import MapClass, MapElement
from hdmap_core.metrics.chamfer_ap import CLASSES, Frames, chamfer_ap

_FRAMES = 30
_GOOD = 0.4  # mAP from which nothing is looked for
_GAIN = 0.1  # mAP that another reading must bring, and twice as much as before

_TURNS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "turned by 90 degrees to the left": lambda xy: np.stack([-xy[:, 1], xy[:, 0]], axis=1),
    "turned by 90 degrees to the right": lambda xy: np.stack([xy[:, 1], -xy[:, 0]], axis=1),
    "turned by 180 degrees": lambda xy: -xy,
    "mirrored left and right": lambda xy: xy * (1, -1),
    "with x and y exchanged": lambda xy: xy[:, ::-1],
}


def doubts(predictions: Frames, truth: Frames) -> list[str]:
    """Sentences about a reading of the predictions with which some frames would score far better; mostly none.

    Args:
        predictions: metres in the ego frame.
        truth: the same.
    """
    common = [token for token in truth if predictions.get(token) and truth[token]]
    tokens = [common[index * len(common) // _FRAMES] for index in range(_FRAMES)] if len(common) > _FRAMES else common
    if not tokens:
        return []
    wanted = {token: truth[token] for token in tokens}

    def score(change: Callable[[MapElement], MapElement]) -> float:
        changed = {token: [change(element) for element in predictions[token]] for token in tokens}
        return chamfer_ap(changed, wanted).mean_ap

    now = score(lambda element: element)
    if now >= _GOOD:
        return []
    readings = {
        f"their points were {words}: are their axes others": partial(_turned, turn=turn)
        for words, turn in _TURNS.items()
    }
    for order in permutations(CLASSES):
        names = dict(zip(CLASSES, order, strict=True))
        changed = ", ".join(f"{before} were {after}" for before, after in names.items() if before is not after)
        readings[f"{changed}: is the order of their classes another (--label-order)"] = partial(_renamed, names=names)
    words, found = max(((words, score(reading)) for words, reading in readings.items()), key=lambda item: item[1])
    if found < max(now + _GAIN, 2 * now):
        return []
    return [f"on {len(tokens)} frames the predictions would score {found:.2f} instead of {now:.2f} if {words}?"]


def _turned(element: MapElement, turn: Callable[[np.ndarray], np.ndarray]) -> MapElement:
    return replace(element, points=turn(element.points))


def _renamed(element: MapElement, names: Mapping[MapClass, MapClass]) -> MapElement:
    return replace(element, label=names.get(element.label, element.label))
