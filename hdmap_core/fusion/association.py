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


@dataclass
class _Track:
    """One element over time: where it was seen (P, 2) [m, fixed frame], how many maps have missed each place since."""

    number: int
    places: np.ndarray
    missed: np.ndarray


class Tracker:
    """Numbers the elements of successive maps. Numbers are never used again, `reset` included."""

    def __init__(self, config: TrackingConfig | None = None) -> None:
        self.config = config or TrackingConfig()
        self._tracks: dict[MapClass, list[_Track]] = {}
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
        tracks = [self._near(track, fixed_from_ego) for track in self._tracks.get(label, [])]
        tracks = [track for track in tracks if len(track.places)]
        visible = [
            np.ones(len(track.places), bool)
            if region is None
            else is_inside(to_ego(track.places, fixed_from_ego), region)
            for track in tracks
        ]
        seen = [track.places[inside] for track, inside in zip(tracks, visible, strict=True)]
        gain, covered = self._compare(lines, seen)
        partner = dict(zip(*(side.tolist() for side in linear_sum_assignment(-gain)), strict=True))
        for track, inside in zip(tracks, visible, strict=True):
            track.missed[inside] += full
        numbers = []
        for row, line in enumerate(lines):
            column = partner.get(row)
            if column is not None and gain[row, column] > 0:
                track = tracks[column]
                replaced = np.zeros(len(track.places), bool)
                replaced[visible[column]] = covered[column][row]
                track.places = np.concatenate([track.places[~replaced], line])
                track.missed = np.concatenate([track.missed[~replaced], np.zeros(len(line), int)])
            else:
                self._last_number = self._last_number % MAX_TRACK_ID + 1
                track = _Track(self._last_number, line, np.zeros(len(line), int))
                tracks.append(track)
            numbers.append(track.number)
        for track in tracks:
            kept = track.missed <= self.config.patience
            track.places, track.missed = track.places[kept], track.missed[kept]
        self._tracks[label] = tracks
        return numbers

    def _near(self, track: _Track, fixed_from_ego: np.ndarray) -> _Track:
        near = np.linalg.norm(track.places - fixed_from_ego[:2, 3], axis=1) <= self.config.reach
        return _Track(track.number, track.places[near], track.missed[near])

    def _compare(self, lines: list[np.ndarray], seen: list[np.ndarray]) -> tuple[np.ndarray, list[list[np.ndarray]]]:
        """Metres that lines and tracks have in common, and which places of each track lie within the gate of each line.

        Returns:
            (N, M) gain, 0 where less than `min_share` of both is shared; M lists of N masks.
        """
        gain = np.zeros((len(lines), len(seen)))
        covered = [[np.zeros(len(places), bool) for _ in lines] for places in seen]
        gate = self.config.gate
        for row, column in np.argwhere(_boxes_meet(lines, seen, gate)).tolist():
            squared = cdist(lines[row], seen[column], "sqeuclidean")
            of_line, of_track = np.sqrt(squared.min(axis=1)), np.sqrt(squared.min(axis=0))
            near_line, near_track = of_line <= gate, of_track <= gate
            covered[column][row] = near_track
            if max(near_line.mean(), near_track.mean()) >= self.config.min_share:
                closeness = (1 - of_line[near_line] / gate).sum(), (1 - of_track[near_track] / gate).sum()
                gain[row, column] = self.config.step * min(closeness)
        return gain, covered


def _boxes_meet(lines: list[np.ndarray], seen: list[np.ndarray], gate: float) -> np.ndarray:
    """(N, M) bool: whether the boxes around the points come within the gate of each other; never for no points."""
    sides = [
        np.array([[*points.min(axis=0), *points.max(axis=0)] if len(points) else [np.nan] * 4 for points in group])
        for group in (lines, seen)
    ]
    first, second = (side.reshape(-1, 4) for side in sides)
    apart = np.maximum(first[:, None, :2] - second[None, :, 2:], second[None, :, :2] - first[:, None, 2:])
    return (apart <= gate).all(axis=-1)
