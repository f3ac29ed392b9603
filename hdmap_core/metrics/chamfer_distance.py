"""Distances between all predicted and all true lines of a frame at once."""

import numpy as np
import shapely
from scipy.spatial.distance import cdist

from hdmap_core.geometry.polyline import resample

_MARGIN = 0.9  # of the band's width: how near a point must be for its band to touch beyond any rounding


def resampled(path: np.ndarray, num_points: int, keep: int | None = None) -> np.ndarray:
    """(num_points, 2): evenly spaced by arc length, ends included; unchanged if it has `keep` vertices."""
    return path if len(path) == keep else resample(path, num_points)


def chamfer_distances(lines: np.ndarray, targets: np.ndarray, limit: float = np.inf) -> np.ndarray:
    """Chamfer distances between all of (N, P, 2) and all of (M, P, 2) samples.

    Args:
        lines: samples in metres.
        targets: samples in metres.
        limit: distances above this many metres need not be known; they come as infinity.

    Returns:
        (N, M) metres: half the sum of both directed mean distances to the nearest sample.
    """
    result = np.full((len(lines), len(targets)), np.inf)
    # A sample is at least as far from a line as from the line's bounding box: a cheap lower bound that spares most.
    bound = (_to_boxes(lines, targets) + _to_boxes(targets, lines).T) / 2
    for row, column in np.argwhere(bound <= limit):
        squared = cdist(lines[row], targets[column], "sqeuclidean")
        distance = (np.sqrt(squared.min(axis=0)).mean() + np.sqrt(squared.min(axis=1)).mean()) / 2
        if distance <= limit:
            result[row, column] = distance
    return result


def _to_boxes(lines: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """(N, M) mean distance of the samples of each line from the bounding box of each target."""
    low, high = targets.min(axis=1)[None, :, None], targets.max(axis=1)[None, :, None]
    points = lines[:, None]
    outside = np.maximum(np.maximum(low - points, points - high), 0.0)
    return np.hypot(outside[..., 0], outside[..., 1]).mean(axis=-1)


def within_bands(lines: np.ndarray, targets: np.ndarray, pairs: np.ndarray, width: float) -> np.ndarray:
    """(N, M) bool: which of the wanted `pairs` have touching bands.

    Bands reach `width` metres to each side and have flat ends and mitred corners.
    Pairs with a sample of one line well beside a segment of the other touch for certain; only the others need polygons.
    """
    result = np.zeros_like(pairs)
    unclear = []
    for row, column in np.argwhere(pairs):
        if _lies_beside(lines[row], targets[column], width * _MARGIN):
            result[row, column] = True
        else:
            unclear.append((row, column))
    if unclear:
        rows, columns = np.array(unclear).T
        touching = shapely.intersects(_bands(lines[rows], width), _bands(targets[columns], width))
        result[rows, columns] = touching
    return result


def _lies_beside(line: np.ndarray, target: np.ndarray, width: float) -> bool:
    """Whether the middle sample of `line` has a foot point on a segment of `target` nearer than `width`."""
    point = line[len(line) // 2]
    start, along = target[:-1], np.diff(target, axis=0)
    squared_length = np.maximum((along**2).sum(axis=1), 1e-12)
    position = ((point - start) * along).sum(axis=1) / squared_length
    offset = point - start - position[:, None] * along
    near = (offset**2).sum(axis=1) < width**2
    has_length = bool(np.ptp(line, axis=0).max() > 1e-6)
    return has_length and bool((near & (position >= 0) & (position <= 1) & (squared_length > 1e-9)).any())


def _bands(lines: np.ndarray, width: float) -> np.ndarray:
    return shapely.buffer(shapely.linestrings(lines), width, cap_style="flat", join_style="mitre")
