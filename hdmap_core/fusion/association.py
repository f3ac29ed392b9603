"""Tracks: the elements of each map joined to those of the maps before, so that they keep their numbers.

A track is the set of places in the fixed frame where its element was seen lately. Elements and tracks are compared
where both could be seen, in the part that they share: a line of which a parked car hides the half is still the same.
The assignment is the best one for all elements of a class together (Kuhn 1955, by SciPy): it joins the most metres.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from pydantic import Field
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from hdmap_core.config import Config
from hdmap_core.elements import MAX_TRACK_ID, MapClass, MapElement
from hdmap_core.fusion.ground import is_inside, samples, to_ego, to_fixed
from hdmap_core.geometry import BEVGrid


class TrackingConfig(Config):
    """Lengths in metres.

    Attributes:
        gate: places of an element and of a track that are farther apart have nothing in common.
        min_share: of the shorter of the two, the part that must lie within the gate of the other.
        patience: so many maps in a row may miss a place of a track that they could see, before it is forgotten.
        reach: places farther than this from the car are forgotten.
        step: between the samples of an element.
    """

    gate: float = Field(default=1.5, gt=0)
    min_share: float = Field(default=0.3, gt=0, le=1)
    patience: int = Field(default=10, ge=0)
    reach: float = Field(default=60.0, gt=0)
    step: float = Field(default=0.5, gt=0)


@dataclass(frozen=True)
class _Tracks:
    """Those of one class: a row per place where one was seen, and the rows of a track lie together.

    Attributes:
        number: (P,) int, whose place it is.
        places: (P, 2) float64, metres in the fixed frame.
        missed: (P,) int, how many maps could have seen it since and did not.
    """

    number: np.ndarray
    places: np.ndarray
    missed: np.ndarray

    def where(self, kept: np.ndarray) -> "_Tracks":
        """Copies of the rows of a mask (P,)."""
        return _Tracks(self.number[kept], self.places[kept], self.missed[kept])

    def seen_again(self, lines: list[np.ndarray], numbers: list[int]) -> "_Tracks":
        """With the places of lines that were just seen."""
        number = np.concatenate([self.number, np.repeat(np.array(numbers, int), [len(line) for line in lines])])
        places = np.concatenate([self.places, *lines])
        missed = np.concatenate([self.missed, np.zeros(len(places) - len(self.missed), int)])
        return _Tracks(number, places, missed).where(np.argsort(number, kind="stable"))


_NONE = _Tracks(np.zeros(0, int), np.zeros((0, 2)), np.zeros(0, int))


class Tracker:
    """Numbers the elements of successive maps. Numbers are never used again, `reset` included."""

    def __init__(self, config: TrackingConfig | None = None) -> None:
        self.config = config or TrackingConfig()
        self._tracks: dict[MapClass, _Tracks] = {}
        self._last_number = 0

    def reset(self) -> None:
        """Forgets the tracks."""
        self._tracks.clear()

    def update(
        self, elements: Sequence[MapElement], fixed_from_ego: np.ndarray, region: BEVGrid | None, full: bool = True
    ) -> list[MapElement]:
        """The elements in the same order, each with its `track_id`.

        Args:
            elements: of one map; metres, ego frame.
            fixed_from_ego: (4, 4) the car's pose in a frame that does not move.
            region: in which the map could have elements, None: anywhere; absence outside it means nothing.
            full: whether it could see all of the region; if not, absence means nothing there either.
        """
        numbers = [0] * len(elements)
        for label in MapClass:  # in an order that is the same in every process, as the numbers depend on it
            indices = [index for index, element in enumerate(elements) if element.label is label]
            lines = [to_fixed(samples(elements[index], self.config.step), fixed_from_ego) for index in indices]
            joined = self._join(label, lines, fixed_from_ego, region, full)
            for index, number in zip(indices, joined, strict=True):
                numbers[index] = number
        return [replace(element, track_id=number) for element, number in zip(elements, numbers, strict=True)]

    def _join(
        self, label: MapClass, lines: list[np.ndarray], fixed_from_ego: np.ndarray, region: BEVGrid | None, full: bool
    ) -> list[int]:
        tracks = self._tracks.get(label, _NONE)
        if not lines and not len(tracks.places):
            return []
        tracks = tracks.where(np.linalg.norm(tracks.places - fixed_from_ego[:2, 3], axis=1) <= self.config.reach)
        visible = np.ones(len(tracks.places), bool)
        if region is not None:
            visible = is_inside(to_ego(tracks.places, fixed_from_ego), region)
        tracks.missed[visible] += full
        seen = tracks.where(visible)
        known, first = np.unique(seen.number, return_index=True)
        gain, near = self._compare(lines, seen.places, first)
        pairs = zip(*(side.tolist() for side in linear_sum_assignment(-gain)), strict=True)
        partner = {row: int(known[column]) for row, column in pairs if gain[row, column] > 0}
        numbers = []
        replaced = np.zeros(len(tracks.places), bool)
        for row in range(len(lines)):
            if row in partner:
                replaced[visible] |= near[row] & (seen.number == partner[row])
            else:
                self._last_number = self._last_number % MAX_TRACK_ID + 1
            numbers.append(partner.get(row, self._last_number))
        kept = ~replaced & (tracks.missed <= self.config.patience)
        self._tracks[label] = tracks.where(kept).seen_again(lines, numbers)
        return numbers

    def _compare(self, lines: list[np.ndarray], seen: np.ndarray, first: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Metres that N lines and M tracks have in common, and which places lie within the gate of each line.

        Args:
            lines: (P, 2) each.
            seen: (V, 2) places of the tracks, one track after the other.
            first: (M,) where each begins.

        Returns:
            (N, M) gain, 0 where less than `min_share` of both is shared; (N, V) bool.
        """
        gain, near = np.zeros((len(lines), len(first))), np.zeros((len(lines), len(seen)), bool)
        gate, sizes = self.config.gate, np.diff(first, append=len(seen))
        for row, meets in enumerate(_boxes_meet(lines, seen, first, gate)):
            if not meets.any():
                continue
            places, counts = np.repeat(meets, sizes), sizes[meets]
            starts = np.cumsum(counts) - counts
            squared = cdist(lines[row], seen[places], "sqeuclidean")
            of_line = np.sqrt(np.minimum.reduceat(squared, starts, axis=1))  # a column for each track
            of_track = np.sqrt(squared.min(axis=0))
            near_line, near_track = of_line <= gate, of_track <= gate
            near[row, places] = near_track
            share = np.maximum(near_line.mean(axis=0), np.add.reduceat(near_track, starts, dtype=float) / counts)
            of_both = np.minimum(
                np.maximum(1 - of_line / gate, 0).sum(axis=0),
                np.add.reduceat(np.maximum(1 - of_track / gate, 0), starts),
            )
            gain[row, meets] = np.where(share >= self.config.min_share, self.config.step * of_both, 0)
        return gain, near


def _boxes_meet(lines: list[np.ndarray], seen: np.ndarray, first: np.ndarray, gate: float) -> np.ndarray:
    """(N, M) bool: whether the boxes around lines and tracks come within the gate of each other; see `_compare`."""
    if not lines or not len(first):
        return np.zeros((len(lines), len(first)), bool)
    low, high = np.minimum.reduceat(seen, first), np.maximum.reduceat(seen, first)
    line_low, line_high = (np.array([side(line, axis=0) for line in lines])[:, None] for side in (np.min, np.max))
    return (np.maximum(line_low - high, low - line_high) <= gate).all(axis=-1)
