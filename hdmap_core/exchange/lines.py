"""The lines of other programs' result files as elements of the ego frame: the one place where their axes are converted.

nuScenes' LiDAR stands 0.94 m before the origin of the ego frame, turned to x right, y forward, with a tenth of a degree
and a few centimetres that differ from car to car. Result files do not hold them, so nobody can do better.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from hdmap_core.elements import MapClass, MapElement
from hdmap_core.errors import ElementError

ToEgo = Callable[[np.ndarray], np.ndarray]
LIDAR_AHEAD_M = 0.94
_REPEATED_M = 1e-4  # nearer than this, the last point repeats the first
_SCORE_SLACK = 1e-5


def from_lidar(points: np.ndarray) -> np.ndarray:
    """(P, 2) metres from the LiDAR, x right and y forward (MapTR) -> (P, 2) in the ego frame, x forward and y left."""
    return np.stack([points[:, 1] + LIDAR_AHEAD_M, -points[:, 0]], axis=1)


def from_above_lidar(points: np.ndarray) -> np.ndarray:
    """(P, 2) metres from the LiDAR, but x forward and y left (MapTracker) -> (P, 2) in the ego frame."""
    return points + np.array([LIDAR_AHEAD_M, 0.0])


def from_ego(points: np.ndarray) -> np.ndarray:
    """(P, 2) in the ego frame already (StreamMapNet)."""
    return points


def element_of(label: MapClass, points: Any, score: Any, to_ego: ToEgo) -> MapElement | None:
    """An element of one line of a result file; None for one of fewer than two points, which no program scores.

    A line that comes back to its first point is closed. One that nearly does stays open, as those programs score it.

    Args:
        label: its class.
        points: a list of (x, y) or (x, y, z), whose height is left out.
        score: a number; those that rounding pushed a little over 1 are 1.
        to_ego: from the file's axes.

    Raises:
        ElementError: if it is malformed.
    """
    try:
        line = np.array(points, dtype=np.float64)
        confidence = float(score)
    except (TypeError, ValueError):
        raise ElementError("a line must be a list of [x, y] with a number as its score") from None
    if len(line) < 2:
        return None
    if line.ndim != 2 or line.shape[1] not in (2, 3):
        raise ElementError(f"a line must be a list of [x, y], got an array of shape {line.shape}")
    if -_SCORE_SLACK <= confidence <= 1 + _SCORE_SLACK:
        confidence = min(max(confidence, 0.0), 1.0)
    line = to_ego(line[:, :2])
    closed = len(line) > 3 and float(np.linalg.norm(line[0] - line[-1])) < _REPEATED_M
    return MapElement(label, line[:-1] if closed else line, closed, confidence)


def check_metres(frames: Mapping[str, Sequence[MapElement]], to_ego: ToEgo) -> None:
    """Refuses coordinates that are all within 0 and 1: fractions of a region, not metres.

    Raises:
        ElementError: if they are.
    """
    if not any(frames.values()):
        return
    points = np.concatenate([element.points for elements in frames.values() for element in elements])
    corners = to_ego(np.array([[0.0, 0.0], [1.0, 1.0]]))
    low, high = corners.min(axis=0) - 1e-3, corners.max(axis=0) + 1e-3
    if (points >= low).all() and (points <= high).all():
        raise ElementError(
            "all coordinates lie in 0..1, so they are fractions of a region and not metres; write the file with its "
            "program's own denormalisation"
        )
