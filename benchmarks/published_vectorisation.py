"""What `decode_dense` is measured against: the published procedure, and rasters as a perfect network would make them.

The procedure is HDMapNet's (also P-MapNet's and MapKD's), written anew from its description, with two changes: the walk
along a line starts at the first point of its chain instead of a random one, and the input stays as it is. Slow.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from scipy.ndimage import maximum_filter1d, uniform_filter
from scipy.spatial.distance import cdist

from hdmap_core.geometry import BEVGrid

Cluster = Callable[[np.ndarray], np.ndarray]
"""(N, E) standardised embeddings -> (N,) cluster numbers, -1 for noise."""


@dataclass(frozen=True)
class Rasters:
    """One frame of dense outputs after softmax, and what was drawn into it.

    Attributes:
        instance: (Y, X) int, 1 + index of the line.
        label: of each line, its channel in `semantic`.
    """

    semantic: np.ndarray
    embedding: np.ndarray
    direction: np.ndarray
    instance: np.ndarray
    label: Sequence[int]


def clean_rasters(
    lines: Sequence[tuple[int, np.ndarray]], grid: BEVGrid, seed: int = 0, noise: float = 0.1, bins: int = 36
) -> Rasters:
    """Rasters of lines: (channel, (P, 2) metres); five cells wide, most probable in their middle, later ones on top.

    Means of the embeddings are 3 apart or more, `noise` is the standard deviation around them in each of 16 dimensions.
    """
    random = np.random.default_rng(seed)
    instance = np.zeros(grid.shape, np.int32)
    ridge = np.zeros(grid.shape)
    angle = np.zeros(grid.shape)
    for number, (_, points) in enumerate(lines, start=1):
        corners = np.round(grid.to_cells(points)).astype(np.int32)
        wide, thin = np.zeros(grid.shape, np.uint8), np.ones(grid.shape, np.uint8)
        cv2.polylines(wide, [corners], False, 1, 5)
        cv2.polylines(thin, [corners], False, 0, 1)
        away = cv2.distanceTransform(thin, cv2.DIST_L2, 5)
        along = np.zeros(grid.shape, np.float32)
        for start, end in pairwise(corners):
            heading = np.arctan2(*(end - start)[::-1]) % (2 * np.pi)
            cv2.polylines(along, [np.stack([start, end])], False, float(heading), 5)
        inside = wide > 0
        instance[inside] = number
        ridge[inside] = (0.95 - 0.08 * away)[inside]
        angle[inside] = along[inside]
    label = [channel for channel, _ in lines]
    semantic = np.zeros((4, *grid.shape), np.float32)
    for number, channel in enumerate(label, start=1):
        semantic[channel][instance == number] = ridge[instance == number]
    semantic[0] = 1 - semantic[1:].sum(axis=0)
    means = [np.zeros(16)]
    while len(means) <= len(lines):
        mean = random.normal(0, 1.5, 16)
        if all(np.linalg.norm(mean - other) > 3 for other in means[1:]):
            means.append(mean)
    embedding = np.array(means)[instance] + random.normal(0, noise, (*grid.shape, 16))
    direction = np.full((1 + bins, *grid.shape), 0.1 / bins, np.float32)
    rows, columns = np.nonzero(instance)
    forward = np.round(angle[rows, columns] * bins / (2 * np.pi)).astype(int) % bins
    direction[1 + forward, rows, columns] = 0.5
    direction[1 + (forward + bins // 2) % bins, rows, columns] = 0.5
    direction[0][instance == 0] = 1
    return Rasters(semantic, embedding.transpose(2, 0, 1).astype(np.float32), direction, instance, label)


def eight_lines(grid: BEVGrid) -> list[tuple[int, np.ndarray]]:
    """Five bending lines along the road, two edges of a crossing and a boundary that turns a corner."""
    x = np.linspace(grid.x_range[0] + 0.3, grid.x_range[1] - 0.3, 60)
    half = grid.y_range[1]
    shares = ((3, -0.85), (1, -0.45), (1, -0.15), (1, 0.15), (3, 0.5))
    lines = [(channel, np.stack([x, half * share + 0.6 * np.sin(x / 9)], axis=1)) for channel, share in shares]
    crossing = [np.array([[at, -0.35 * half], [at, 0.4 * half]]) for at in (8.0, 11.0)]
    corner = np.array([[x[0], 0.7 * half], [5.0, 0.7 * half], [8.0, 0.8 * half], [9.0, 0.95 * half]])
    return [*lines, (2, crossing[0]), (2, crossing[1]), (3, corner)]


def scikit_dbscan(values: np.ndarray) -> np.ndarray:
    from sklearn.cluster import DBSCAN

    return DBSCAN(eps=1.5, min_samples=50).fit(values).labels_


def textbook_dbscan(values: np.ndarray, eps: float = 1.5, min_samples: int = 50) -> np.ndarray:
    """DBSCAN as its paper writes it: one search through all cells for the neighbourhood of each."""
    labels = np.full(len(values), -2)  # not seen
    count = 0
    for seed in range(len(values)):
        if labels[seed] != -2:
            continue
        queue = _near(values, seed, eps)
        if len(queue) < min_samples:
            labels[seed] = -1
            continue
        labels[seed] = count
        waiting = queue.tolist()
        for point in waiting:
            if labels[point] >= 0:
                continue
            was_seen = labels[point] == -1
            labels[point] = count
            if not was_seen:
                around = _near(values, point, eps)
                if len(around) >= min_samples:
                    waiting += around[labels[around] < 0].tolist()
        count += 1
    return labels


def _near(values: np.ndarray, point: int, eps: float) -> np.ndarray:
    return np.flatnonzero(cdist(values[point : point + 1], values)[0] <= eps)


def published_clusters(mask: np.ndarray, embedding: np.ndarray, cluster: Cluster) -> np.ndarray:
    """(Y, X) bool, (E, Y, X) -> (Y, X) int: 0, then the cluster; areas of up to 100 cells are dropped before."""
    _, areas, statistics, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    stays = statistics[:, cv2.CC_STAT_AREA] > 100
    stays[0] = False
    mask = stays[areas]
    result = np.zeros(mask.shape, int)
    if mask.any():
        values = embedding[:, mask].T.astype(np.float64)
        deviation = values.std(axis=0)
        result[mask] = 1 + cluster((values - values.mean(axis=0)) / np.where(deviation > 0, deviation, 1))
    return result


def published_lines(rasters: Rasters, cluster: Cluster = scikit_dbscan) -> list[tuple[int, float, np.ndarray]]:
    """Channel, score and points (P, 2) of (column, row) of each line."""
    best = rasters.semantic.argmax(axis=0)
    bins = published_bins(rasters.direction)
    degrees = 360 / (len(rasters.direction) - 1)
    lines = []
    for channel in range(1, len(rasters.semantic)):
        instances = published_clusters(best == channel, rasters.embedding, cluster)
        probability = np.where(instances > 0, rasters.semantic[channel], 0)
        thin = published_thinning(probability)
        for number in range(1, instances.max() + 1):
            inside = instances == number
            kept = np.argwhere(inside & thin)[:, ::-1]
            if not len(kept):
                continue
            extent = np.ptp(np.argwhere(inside)[:, ::-1], axis=0)
            chain = published_chain(kept[np.argsort(kept[:, 0 if extent[0] > extent[1] else 1], kind="stable")])
            lines.append((channel, float(probability[inside].mean()), published_walk(chain, bins, degrees)))
    return lines


def published_bins(direction: np.ndarray) -> np.ndarray:
    """(Y, X, 2) the best bin and the best one more than two bins away from it, not round the circle; -1 for none."""
    first = direction.argmax(axis=0)
    channel = np.arange(len(direction))[:, None, None]
    second = np.where(np.abs(channel - first) <= 2, 0, direction).argmax(axis=0)
    return np.stack([first, second], axis=-1) - 1


def published_thinning(probability: np.ndarray) -> np.ndarray:
    """(Y, X) bool: the highest of five cells across the line, which runs up where a tall window's mean is larger."""
    upright = uniform_filter(probability, (9, 5), mode="constant") > uniform_filter(
        probability, (5, 9), mode="constant"
    )
    is_peak = [maximum_filter1d(probability, 5, axis=axis, mode="constant") - probability < 1e-4 for axis in (1, 0)]
    return np.where(upright, *is_peak)


def published_chain(points: np.ndarray) -> np.ndarray:
    """(P, 2) reordered: from the first always to the nearest. Strays within five cells of it are skipped."""
    distance = cdist(points, points)
    order, left = [0], np.ones(len(points), bool)
    left[0] = False
    for step in range(len(points) - 1):
        nearest = int(np.where(left, distance[order[-1]], np.inf).argmin())
        jump = distance[order[-1], nearest]
        if jump > 3 and distance[nearest, order].min() < 5:
            left[nearest] = False
            continue
        if jump > 10 and step > 0.9 * len(points):
            break
        order.append(nearest)
        left[nearest] = False
    return points[order]


def published_walk(chain: np.ndarray, bins: np.ndarray, degrees: float, step: int = 7) -> np.ndarray:
    """(P, 2) points about seven cells apart: from the chain's first one way, then from there the other way."""
    path, used = [chain[0]], np.zeros(bins.shape, bool)
    for _ in range(2):
        _walk(chain, bins, degrees, step, path, used)
        path.reverse()
    return np.array(path[::-1])


def _walk(
    chain: np.ndarray, bins: np.ndarray, degrees: float, step: int, path: list[np.ndarray], used: np.ndarray
) -> None:
    while True:
        here = path[-1]
        cell = here[1], here[0]
        free = np.flatnonzero(~used[cell])
        if not len(free):
            return
        used[(*cell, free[0])] = True
        bin_ = bins[(*cell, free[0])]
        if bin_ < 0:
            continue
        chain = chain[np.linalg.norm(chain - here, axis=1) > step - 1]
        if not len(chain):
            return
        angle = np.radians(degrees * bin_)
        off = np.linalg.norm(chain - (here + step * np.array([np.cos(angle), np.sin(angle)])), axis=1)
        if off.min() > 50:
            continue
        following = chain[off.argmin()]
        path.append(following)
        back = np.degrees(np.arctan2(*(here - following)[::-1])) % 360
        turn = np.abs(degrees * bins[following[1], following[0]] - back)
        used[following[1], following[0], np.minimum(turn, 360 - turn).argmin()] = True
