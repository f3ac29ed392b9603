"""Polylines as (P, 2) arrays in metres, or (P, 3) with heights. A closed one does not repeat its first point."""

import numpy as np


def closed_ring(points: np.ndarray) -> np.ndarray:
    """(P + 1, 2 or 3): the ring with its first point repeated at the end."""
    return np.concatenate([points, points[:1]])


def length(points: np.ndarray, closed: bool = False) -> float:
    """Length in metres; with `closed`, of the whole ring."""
    path = closed_ring(points) if closed else points
    return float(np.linalg.norm(np.diff(path, axis=0), axis=1).sum())


def arc_lengths(path: np.ndarray) -> np.ndarray:
    """(P,) float64 metres along the path to each of its points, from 0 on."""
    return np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])


def resample(points: np.ndarray, num: int, closed: bool = False) -> np.ndarray:
    """`num` points evenly spaced by arc length, same dtype.

    Open: the two ends are kept. Closed: starts at the first point and does not repeat it.
    """
    path = closed_ring(points) if closed else points
    arc = arc_lengths(path)
    stations = np.linspace(0.0, arc[-1], num, endpoint=not closed)
    return np.stack([np.interp(stations, arc, values) for values in path.T], axis=1).astype(points.dtype)
