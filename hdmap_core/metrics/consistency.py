"""How steady the numbers of map elements are over a drive: identity switches, and AP that counts steady matches only.

Consistency-aware AP is MapTracker's C-mAP (Chen et al., "MapTracker: Tracking with Strided Memory Fusion for Consistent
Vector HD Mapping", ECCV 2024, section 4) as its published script computes it: in a drive, at a threshold, a true
element belongs to the first predicted number that it is matched to, and its later matches to other numbers are false
positives. Nothing keeps one number from owning several true elements.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import shapely

from hdmap_core.elements import MapClass, MapElement
from hdmap_core.metrics.chamfer_ap import (
    CLASSES,
    PROTOCOLS,
    ChamferScore,
    FrameMatches,
    match_to_truth,
    pooled,
)

_EXACT_M = 0.15  # pieces of one true line, cut at two places, coincide but for the rounding of simplified curves


@dataclass(frozen=True)
class TrackedFrame:
    """One instant of a drive.

    Attributes:
        elements: predicted, with their `track_id`.
        truth: with theirs, see `truth_tracks`.
    """

    elements: Sequence[MapElement]
    truth: Sequence[MapElement]


@dataclass(frozen=True)
class ConsistencyScore:
    """Of some drives.

    Attributes:
        plain: AP of the same matches.
        consistent: AP in which only matches to the owner count.
        switches: class -> how often a true element came to another predicted number than when it was last matched.
        matches: class -> matches, at the largest threshold, as the switches.
    """

    plain: ChamferScore
    consistent: ChamferScore
    switches: Mapping[MapClass, int]
    matches: Mapping[MapClass, int]


def consistency(
    drives: Mapping[str, Sequence[TrackedFrame]], protocol: str = "maptr", classes: Sequence[MapClass] = CLASSES
) -> ConsistencyScore:
    """Scores drives; each is in the order of time, and numbers of two drives have nothing to do with each other."""
    rules = PROTOCOLS[protocol]
    plain: dict[MapClass, dict[str, FrameMatches]] = {label: {} for label in classes}
    steady: dict[MapClass, dict[str, FrameMatches]] = {label: {} for label in classes}
    switches, matches = dict.fromkeys(classes, 0), dict.fromkeys(classes, 0)
    for name, frames in drives.items():
        for label in classes:
            history = [_History() for _ in rules.thresholds]
            for index, frame in enumerate(frames):
                found = [element for element in frame.elements if element.label is label]
                wanted = [element for element in frame.truth if element.label is label]
                confidence = np.array([element.score for element in found], dtype=np.float64)
                taken = match_to_truth(found, wanted, confidence, rules)
                kept = np.stack([past.steady(row, found, wanted) for past, row in zip(history, taken, strict=True)])
                token = f"{name}#{index}"
                plain[label][token] = FrameMatches(len(wanted), confidence, taken >= 0)
                steady[label][token] = FrameMatches(len(wanted), confidence, kept)
            largest = history[int(np.argmax(rules.thresholds))]
            switches[label] += largest.switches
            matches[label] += largest.matches
    tokens = list(next(iter(plain.values())))
    return ConsistencyScore(pooled(plain, tokens, protocol), pooled(steady, tokens, protocol), switches, matches)


class _History:
    """To which numbers the true elements were matched, first and last."""

    def __init__(self) -> None:
        self.switches = 0
        self.matches = 0
        self._first: dict[int, int] = {}
        self._last: dict[int, int] = {}

    def steady(self, taken: np.ndarray, found: Sequence[MapElement], wanted: Sequence[MapElement]) -> np.ndarray:
        """(N,) bool: which matches of a frame count; `taken` (N,) is the true element of each prediction, or -1."""
        result = np.zeros(len(found), bool)
        for index in np.flatnonzero(taken >= 0).tolist():
            number, true = found[index].track_id, wanted[int(taken[index])].track_id
            result[index] = self._first.setdefault(true, number) == number
            self.switches += self._last.get(true, number) != number
            self.matches += 1
            self._last[true] = number
        return result


def truth_tracks(
    frames: Sequence[Sequence[MapElement]], fixed_from_ego: Sequence[np.ndarray]
) -> list[list[MapElement]]:
    """Ground truth with numbers: what two instants show of one line coincides in the fixed frame, and so is one track.

    Args:
        frames: the ground truth of successive instants; metres, ego frame.
        fixed_from_ego: (4, 4) the pose of each.
    """
    last: list[tuple[MapElement, shapely.Geometry]] = []
    number = 0
    result = []
    for elements, pose in zip(frames, fixed_from_ego, strict=True):
        lines = [shapely.LineString(element.path @ pose[:2, :2].T + pose[:2, 3]) for element in elements]
        shared = np.zeros((len(elements), len(last)))  # metres that two lines of one class have in common
        for i, (element, line) in enumerate(zip(elements, lines, strict=True)):
            for j, (other, band) in enumerate(last):
                if element.label is other.label:
                    shared[i, j] = line.intersection(band).length
        numbers = [0] * len(elements)
        while shared.size and shared.max() > 0.5:  # the longest common part first
            row, column = np.unravel_index(int(shared.argmax()), shared.shape)
            numbers[row] = last[column][0].track_id
            shared[row], shared[:, column] = 0.0, 0.0
        for index, given in enumerate(numbers):
            if not given:
                number += 1
                numbers[index] = number
        numbered = [replace(element, track_id=given) for element, given in zip(elements, numbers, strict=True)]
        last = [(element, line.buffer(_EXACT_M)) for element, line in zip(numbered, lines, strict=True)]
        result.append(numbered)
    return result
