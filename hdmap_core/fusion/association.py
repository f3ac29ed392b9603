"""Tracks: the elements of each map joined to those of the maps before, so that they keep their numbers.

A track is the set of places in the fixed frame where its element was seen lately. Elements and tracks are compared
where both could be seen, in the part that they share: a line of which a parked car hides the half is still the same.
The assignment is the best one for all elements of a class together (Kuhn 1955, by SciPy): it joins the most metres.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from hdmap_core.elements import MAX_TRACK_ID, MapClass, MapElement
from hdmap_core.fusion.ground import is_inside, samples, to_ego, to_fixed
from hdmap_core.geometry import BEVGrid

_GATE_M = 1.5  # places of an element and of a track that are farther apart have nothing in common
_MIN_SHARE = 0.3  # of the shorter of the two, the part that must lie within the gate of the other
_STEP_M = 0.5  # between the samples of an element
_REACH_M = 60.0
PATIENCE = 10
"""So many maps in a row may miss a place of a track that they could see, before it is forgotten."""


@dataclass(frozen=True)
class _Tracks:
    """A row per place where one was seen; the rows of a track lie together.

    Attributes:
        number: (P,) int, whose place it is.
        label: (P,) int, the track's class by its place in `MapClass`.
        places: (P, 2) float64, metres in the fixed frame.
        missed: (P,) int, how many maps could have seen it since and did not.
    """

    number: np.ndarray
    label: np.ndarray
    places: np.ndarray
    missed: np.ndarray

    def where(self, kept: np.ndarray) -> "_Tracks":
        """Copies of the rows of a mask (P,)."""
        return _Tracks(self.number[kept], self.label[kept], self.places[kept], self.missed[kept])

    def seen_again(self, lines: "_Lines", numbers: list[int]) -> "_Tracks":
        """With the places of lines that were just seen."""
        number = np.concatenate([self.number, np.repeat(np.array(numbers, int), lines.sizes)])
        label = np.concatenate([self.label, np.repeat(lines.label, lines.sizes)])
        places = np.concatenate([self.places, lines.places])
        missed = np.concatenate([self.missed, np.zeros(len(lines.places), int)])
        return _Tracks(number, label, places, missed).where(np.argsort(number, kind="stable"))


@dataclass(frozen=True)
class _Lines:
    """The elements of a map as places (P, 2), float64, metres in the fixed frame.

    Attributes:
        label: (N,) int, as in `_Tracks`, rising.
        first: (N,) int, where each begins in `places`.
        sizes: (N,) int, how many places each has.
    """

    label: np.ndarray
    places: np.ndarray
    first: np.ndarray
    sizes: np.ndarray


_NONE = _Tracks(np.zeros(0, int), np.zeros(0, int), np.zeros((0, 2)), np.zeros(0, int))
_RANK = {label: rank for rank, label in enumerate(MapClass)}


class Tracker:
    """Numbers the elements of successive maps. Numbers are never used again, `reset` included.

    Args:
        reach: places farther than this from the car are forgotten, metres; infinity: none is.
    """

    def __init__(self, reach: float = _REACH_M) -> None:
        self._reach = reach
        self._tracks = _NONE
        self._last_number = 0

    def __len__(self) -> int:
        """How many places are kept."""
        return len(self._tracks.places)

    def reset(self) -> None:
        """Forgets the tracks."""
        self._tracks = _NONE

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
        if not elements and not len(self):
            return []
        # All classes at once, in an order that is the same in every process, as the numbers depend on it.
        order = sorted(range(len(elements)), key=lambda index: _RANK[elements[index].label])
        found = [samples(elements[index], _STEP_M) for index in order]
        sizes = np.array([len(places) for places in found], int)
        places = to_fixed(np.concatenate([np.zeros((0, 2)), *found]), fixed_from_ego)
        label = np.array([_RANK[elements[index].label] for index in order], int)
        joined = self._join(_Lines(label, places, np.cumsum(sizes) - sizes, sizes), fixed_from_ego, region, full)
        numbers = dict(zip(order, joined, strict=True))
        return [replace(element, track_id=numbers[index]) for index, element in enumerate(elements)]

    def _join(self, lines: _Lines, fixed_from_ego: np.ndarray, region: BEVGrid | None, full: bool) -> list[int]:
        tracks = self._tracks
        if np.isfinite(self._reach):
            away = tracks.places - fixed_from_ego[:2, 3]
            tracks = tracks.where((away * away).sum(axis=1) <= self._reach**2)
        visible = np.ones(len(tracks.places), bool)
        if region is not None:
            visible = is_inside(to_ego(tracks.places, fixed_from_ego), region)
        tracks.missed[visible] += full
        seen = tracks.where(visible)
        first = np.flatnonzero(np.concatenate([[True], seen.number[1:] != seen.number[:-1]]))[: len(seen.number)]
        gain, near = _compare(lines, seen, first)
        pairs = zip(*(side.tolist() for side in linear_sum_assignment(-gain)), strict=True)
        known = seen.number[first]
        partner = {row: int(known[column]) for row, column in pairs if gain[row, column] > 0}
        numbers = []
        replaced = np.zeros(len(tracks.places), bool)
        for row in range(len(lines.sizes)):
            if row in partner:
                replaced[visible] |= near[row] & (seen.number == partner[row])
            else:
                self._last_number = self._last_number % MAX_TRACK_ID + 1
            numbers.append(partner.get(row, self._last_number))
        kept = ~replaced & (tracks.missed <= PATIENCE)
        self._tracks = tracks.where(kept).seen_again(lines, numbers)
        return numbers


def _compare(lines: _Lines, seen: _Tracks, first: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Metres that N lines and M tracks have in common, and which places lie within the gate of each line.

    Args:
        lines: N of them.
        seen: V places of M tracks.
        first: (M,) where each track begins.

    Returns:
        (N, M) gain, 0 where less than `_MIN_SHARE` of both is shared; (N, V) bool.
    """
    gain, near = np.zeros((len(lines.sizes), len(first))), np.zeros((len(lines.sizes), len(seen.places)), bool)
    if not gain.size:
        return gain, near
    sizes = np.append(first[1:], len(seen.places)) - first
    all_meet = _boxes_meet(lines, seen, first) & np.equal.outer(lines.label, seen.label[first])
    for row in np.flatnonzero(all_meet.any(axis=1)):
        meets = all_meet[row]
        places, counts = np.repeat(meets, sizes), sizes[meets]
        starts = np.cumsum(counts) - counts
        line = lines.places[lines.first[row] :][: lines.sizes[row]]
        squared = cdist(line, seen.places[places], "sqeuclidean")
        of_line = np.sqrt(np.minimum.reduceat(squared, starts, axis=1))  # a column for each track
        of_track = np.sqrt(squared.min(axis=0))
        near_line, near_track = of_line <= _GATE_M, of_track <= _GATE_M
        near[row, places] = near_track
        shares = near_line.sum(axis=0) / len(line), np.add.reduceat(near_track, starts, dtype=float) / counts
        of_both = np.minimum(
            np.maximum(1 - of_line / _GATE_M, 0).sum(axis=0),
            np.add.reduceat(np.maximum(1 - of_track / _GATE_M, 0), starts),
        )
        gain[row, meets] = np.where(np.maximum(*shares) >= _MIN_SHARE, _STEP_M * of_both, 0)
    return gain, near


def _boxes_meet(lines: _Lines, seen: _Tracks, first: np.ndarray) -> np.ndarray:
    """(N, M) bool: whether the boxes around lines and tracks come within the gate of each other; see `_compare`."""
    low, high = np.minimum.reduceat(seen.places, first), np.maximum.reduceat(seen.places, first)
    line_low, line_high = np.minimum.reduceat(lines.places, lines.first), np.maximum.reduceat(lines.places, lines.first)
    return (np.maximum(line_low[:, None] - high, low - line_high[:, None]) <= _GATE_M).all(axis=-1)
