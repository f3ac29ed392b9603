"""How well roads fit to what is known of a city: the drivable area of its HD map, and where the cars drove."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely

_STEP_M = 1.0
NEAR_M = 30.0


@dataclass(frozen=True)
class Coverage:
    """Figures of one city.

    Attributes:
        length_m: of all roads together.
        inside: share of this length that lies in the drivable area; None without one.
        driven: number of poses.
        near: share of the poses with a road within `NEAR_M`; None without poses.
    """

    length_m: float
    inside: float | None
    driven: int
    near: float | None

    @property
    def notes(self) -> list[str]:
        """One sentence per figure that there is."""
        notes = [f"{self.length_m / 1000:.1f} km of roads"]
        if self.inside is not None:
            notes.append(f"{self.inside:.1%} of it in the drivable area of the HD map")
        if self.near is not None:
            notes.append(f"{self.near:.1%} of {self.driven} keyframes have a road within {NEAR_M:.0f} m")
        return notes


def coverage(lines: Sequence[np.ndarray], drivable: Sequence[shapely.Geometry], driven: np.ndarray) -> Coverage:
    """Figures of roads.

    Args:
        lines: each (P, 2) metres, map frame.
        drivable: the HD map's drivable area; empty if there is none.
        driven: (N, 2) metres, where the keyframes were taken.
    """
    roads = [shapely.LineString(line) for line in lines]
    length = float(shapely.length(roads).sum())
    inside = near = None
    if len(drivable) and length > 0:
        area = shapely.union_all(drivable)
        shapely.prepare(area)
        inside = float(shapely.contains_xy(area, _points_along(roads)).mean())
    if len(driven):
        tree = shapely.STRtree(roads)
        found, _ = tree.query(shapely.points(driven), predicate="dwithin", distance=NEAR_M)
        near = len(np.unique(found)) / len(driven)
    return Coverage(length, inside, len(driven), near)


def _points_along(roads: Sequence[shapely.LineString]) -> np.ndarray:
    """(N, 2): the middle of every metre of road, so that each counts the same."""
    counts = np.maximum(1, np.round(shapely.length(roads) / _STEP_M).astype(int))
    road = np.repeat(np.arange(len(roads)), counts)
    number = np.arange(len(road)) - np.repeat(np.cumsum(counts) - counts, counts)
    share = (number + 0.5) / counts[road]
    return shapely.get_coordinates(shapely.line_interpolate_point(np.array(roads)[road], share, normalized=True))
