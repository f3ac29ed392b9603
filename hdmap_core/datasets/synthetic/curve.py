"""Plane curves as polylines: sampling by length, normals, offsets, cuts and rounded bends.

A curve is a (P, 2) float64 array in metres with P >= 2 distinct successive points.
"""

import numpy as np


def directions(headings: np.ndarray | float) -> np.ndarray:
    """(..., 2) unit vectors of headings (...) in radians."""
    return np.stack([np.cos(headings), np.sin(headings)], axis=-1)


def left_of(vectors: np.ndarray) -> np.ndarray:
    """Vectors (..., 2) turned a quarter to the left."""
    return np.stack([-vectors[..., 1], vectors[..., 0]], axis=-1)


def lengths_along(curve: np.ndarray) -> np.ndarray:
    """(P,) distance in metres from the first point to each point, along the curve."""
    steps = np.hypot(*np.diff(curve, axis=0).T)
    return np.concatenate([[0.0], np.cumsum(steps)])


def total_length(curve: np.ndarray) -> float:
    """Length in metres."""
    return float(lengths_along(curve)[-1])


def points_at(curve: np.ndarray, distances: np.ndarray | float) -> np.ndarray:
    """(..., 2) points at `distances` (...) metres from the start; distances beyond the ends are clamped."""
    along = lengths_along(curve)
    return np.stack([np.interp(distances, along, curve[:, axis]) for axis in (0, 1)], axis=-1)


def headings_at(curve: np.ndarray, distances: np.ndarray | float, reach: float = 0.5) -> np.ndarray:
    """(...) direction of travel in radians, taken over `reach` metres either side of each distance (...)."""
    length = total_length(curve)
    ahead = points_at(curve, np.minimum(distances + reach, length))
    behind = points_at(curve, np.maximum(distances - reach, 0.0))
    delta = ahead - behind
    return np.arctan2(delta[..., 1], delta[..., 0])


def resample(curve: np.ndarray, step: float) -> np.ndarray:
    """The curve with evenly spaced points at most `step` metres apart; both ends are kept."""
    length = total_length(curve)
    count = max(int(np.ceil(length / step)), 1) + 1
    return points_at(curve, np.linspace(0.0, length, count))


def left_normals(curve: np.ndarray) -> np.ndarray:
    """(P, 2) unit vectors to the left of the direction of travel, one per point."""
    tangent = np.gradient(curve, axis=0)
    tangent /= np.maximum(np.linalg.norm(tangent, axis=1, keepdims=True), 1e-12)
    return left_of(tangent)


def offset(curve: np.ndarray, distance: float | np.ndarray) -> np.ndarray:
    """The parallel curve `distance` metres to the left (negative: right). Bends must be wider than the distance."""
    return curve + left_normals(curve) * np.broadcast_to(distance, len(curve))[:, None]


def cut(curve: np.ndarray, start: float, end: float) -> np.ndarray:
    """The part between `start` and `end` metres along, with its inner points kept."""
    along = lengths_along(curve)
    inner = (along > start + 1e-6) & (along < end - 1e-6)
    ends = points_at(curve, np.array([start, end]))
    return np.concatenate([ends[:1], curve[inner], ends[1:]])


def bezier(
    start: np.ndarray, start_heading: float, end: np.ndarray, end_heading: float, step: float, roundness: float
) -> np.ndarray:
    """A cubic from pose to pose, evenly sampled: the path a car takes through a junction.

    Its control points lie `roundness` times the distance ahead and behind; 0.39 makes a right angle an arc.
    """
    reach = roundness * float(np.hypot(*(end - start)))
    control_a = start + reach * directions(start_heading)
    control_b = end - reach * directions(end_heading)
    t = np.linspace(0.0, 1.0, 41)[:, None]
    curve = (1 - t) ** 3 * start + 3 * (1 - t) ** 2 * t * control_a + 3 * (1 - t) * t**2 * control_b + t**3 * end
    return resample(curve, step)


def round_bend(first: np.ndarray, second: np.ndarray, radius: float, step: float) -> np.ndarray:
    """Join two curves that meet in a corner (end of `first` = start of `second`) by an arc-like piece.

    The piece is a quadratic whose tightest radius is about `radius`; it begins as far from the corner as an arc would.
    """
    corner = first[-1]
    heading_in = headings_at(first, total_length(first), 3.0)
    heading_out = headings_at(second, 0.0, 3.0)
    turn = abs((heading_out - heading_in + np.pi) % (2 * np.pi) - np.pi)
    reach = min(1.35 * radius * np.tan(turn / 2) + 1.0, 0.45 * total_length(first), 0.45 * total_length(second))
    before = cut(first, 0.0, total_length(first) - reach)
    after = cut(second, reach, total_length(second))
    t = np.linspace(0.0, 1.0, 31)[1:-1, None]
    bend = (1 - t) ** 2 * before[-1] + 2 * (1 - t) * t * corner + t**2 * after[0]
    return smooth(resample(np.concatenate([before, bend, after]), step), step, 3.0)


def smooth(curve: np.ndarray, step: float, sigma: float) -> np.ndarray:
    """Gaussian smoothing over `sigma` metres of an evenly sampled curve (spacing `step`); both ends stay put."""
    radius = int(np.ceil(3 * sigma / step))
    if len(curve) < 3:
        return curve
    radius = min(radius, len(curve) - 1)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) * step / sigma) ** 2)
    weights /= weights.sum()
    # Mirroring about the end points keeps them fixed and keeps the direction there.
    head = 2 * curve[0] - curve[radius:0:-1]
    tail = 2 * curve[-1] - curve[-2 : -radius - 2 : -1]
    padded = np.concatenate([head, curve, tail])
    return np.stack([np.convolve(padded[:, axis], weights, mode="valid") for axis in (0, 1)], axis=-1)
