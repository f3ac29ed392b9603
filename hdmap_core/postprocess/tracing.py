"""A thinned mask -> paths along its middle, cut at forks and joined again where two ends face each other."""

import cv2
import numpy as np
from scipy.spatial import cKDTree

_STEP = ((0, 1), (1, 0), (0, -1), (-1, 0), (1, 1), (1, -1), (-1, -1), (-1, 1))


def trace_skeleton(skeleton: np.ndarray) -> list[np.ndarray]:
    """Paths (P, 2) of (column, row) along a one-cell-wide skeleton (Y, X), cut at forks; a loop ends where it began."""
    padded = np.pad(skeleton, 1).astype(np.uint8)
    neighbours = cv2.filter2D(padded, cv2.CV_16S, np.ones((3, 3)), borderType=cv2.BORDER_CONSTANT) - padded
    forks = (padded > 0) & (neighbours > 2)
    padded[cv2.dilate(forks.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0] = 0
    degree = cv2.filter2D(padded, cv2.CV_16S, np.ones((3, 3)), borderType=cv2.BORDER_CONSTANT) - padded
    rows, columns = np.nonzero(padded)
    order = np.argsort(degree[rows, columns] > 1, kind="stable")  # from the ends; what is then left are loops
    starts = list(zip(rows[order].tolist(), columns[order].tolist(), strict=True))
    remaining = set(starts)
    paths = []
    for start in starts:
        if start in remaining:
            path = _walk(start, remaining)
            if degree[start] > 1 and len(path) > 8 and np.abs(np.subtract(path[0], path[-1])).max() <= 1:
                path.append(path[0])
            paths.append(np.array(path, dtype=np.float64)[:, ::-1] - 1)
    return paths


def _walk(cell: tuple[int, int], remaining: set[tuple[int, int]]) -> list[tuple[int, int]]:
    path = [cell]
    remaining.discard(cell)
    while True:
        row, column = path[-1]
        for r, c in _STEP:
            following = (row + r, column + c)
            if following in remaining:
                break
        else:
            return path
        remaining.discard(following)
        path.append(following)


def join_paths(paths: list[np.ndarray], max_gap: float, min_cosine: float) -> list[np.ndarray]:
    """Joins paths (P, 2) whose ends lie within `max_gap` cells and continue each other's direction, best pair first.

    Two ends do if they run alike and at least one of them points at the other, each within the angle of `min_cosine`.
    """
    paths = [path for path in paths if len(path) >= 2]
    if len(paths) < 2:
        return paths
    ends = [(index, at_end) for index in range(len(paths)) for at_end in (False, True)]
    tip = {end: paths[end[0]][-1 if end[1] else 0] for end in ends}
    outward = {end: _outward(paths[end[0]], end[1]) for end in ends}
    candidates = []
    near = cKDTree(np.array([tip[end] for end in ends])).query_pairs(max_gap)  # noise may have thousands of ends
    for a, b in ((ends[first], ends[second]) for first, second in near):
        if a[0] == b[0]:
            continue
        gap = tip[b] - tip[a]
        distance = float(np.linalg.norm(gap))
        straight = -float(outward[a] @ outward[b])
        along = max(float(outward[a] @ gap), -float(outward[b] @ gap)) / distance if distance > 3 else 1.0
        if straight > min_cosine and along > min_cosine:
            candidates.append((distance + 10 * (1 - straight), a, b))
    group = {index: [(index, False)] for index in range(len(paths))}  # chains of (path, reversed)
    member = {index: index for index in group}
    for _, a, b in sorted(candidates):
        first, second = group[member[a[0]]], group[member[b[0]]]
        if first is second or not (_is_free(first, a) and _is_free(second, b)):
            continue
        if not (first[-1][0] == a[0] and first[-1][1] != a[1]):
            first = _reversed(first)
        if not (second[0][0] == b[0] and second[0][1] == b[1]):
            second = _reversed(second)
        merged = first + second
        key = member[a[0]]
        group.pop(member[b[0]])
        group[key] = merged
        member.update({index: key for index, _ in merged})
    return [
        np.concatenate([paths[index][::-1] if backward else paths[index] for index, backward in chain])
        for chain in group.values()
    ]


def _is_free(chain: list[tuple[int, bool]], end: tuple[int, bool]) -> bool:
    """Whether this end of a path is an outer end of its chain."""
    at_front = chain[0][0] == end[0] and chain[0][1] == end[1]
    at_back = chain[-1][0] == end[0] and chain[-1][1] != end[1]
    return at_front or at_back


def _reversed(chain: list[tuple[int, bool]]) -> list[tuple[int, bool]]:
    return [(index, not backward) for index, backward in reversed(chain)]


def _outward(path: np.ndarray, at_end: bool, reach: int = 10) -> np.ndarray:
    """Unit direction in which a path leaves its end."""
    ordered = path if at_end else path[::-1]
    direction = ordered[-1] - ordered[max(0, len(ordered) - 1 - reach)]
    return direction / max(float(np.linalg.norm(direction)), 1e-9)


def refined(path: np.ndarray, layer: np.ndarray, reach: int = 2) -> np.ndarray:
    """Moves each point to the probability-weighted middle of the cells across the line."""
    tangent = np.gradient(smoothed(path, False), axis=0)
    normal = np.stack([-tangent[:, 1], tangent[:, 0]], axis=1)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
    offsets = np.arange(-reach, reach + 1)
    places = path[:, None] + offsets[None, :, None] * normal[:, None]
    columns = np.clip(np.round(places[..., 0]).astype(int), 0, layer.shape[1] - 1)
    rows = np.clip(np.round(places[..., 1]).astype(int), 0, layer.shape[0] - 1)
    weight = layer[rows, columns] ** 2 + 1e-6
    return path + ((weight * offsets).sum(axis=1) / weight.sum(axis=1))[:, None] * normal


def smoothed(path: np.ndarray, closed: bool, reach: int = 3) -> np.ndarray:
    """Moving average over 2 reach + 1 points; the ends of an open path stay."""
    if len(path) < 2 * reach + 1:
        return path
    width = ((reach, reach), (0, 0))
    padded = np.pad(path, width, mode="wrap") if closed else np.pad(path, width, mode="reflect", reflect_type="odd")
    kernel = np.ones(2 * reach + 1) / (2 * reach + 1)
    return np.stack([np.convolve(padded[:, axis], kernel, mode="valid") for axis in range(2)], axis=1)
