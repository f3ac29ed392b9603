"""A thinned mask -> paths along its middle, cut at forks and joined again where two ends face each other."""

from typing import TypeAlias

import cv2
import numpy as np
from scipy.spatial import cKDTree

End: TypeAlias = tuple[int, int]
"""A path's index, and 0 where it begins, 1 where it ends."""
Chain: TypeAlias = list[tuple[int, bool]]
"""Indices of paths one after the other, each with whether it is turned round."""
_AROUND = np.ones((3, 3), np.uint8)
_ALIKE = 0.8  # cosine between ends that point the same way


def trace_skeleton(skeleton: np.ndarray) -> list[np.ndarray]:
    """Paths (P, 2) of (column, row) along a one-cell-wide skeleton (Y, X), cut at forks; a loop ends where it began."""
    padded = cv2.copyMakeBorder(skeleton.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT)
    forks = cv2.bitwise_and(padded, (_neighbours(padded) > 2).astype(np.uint8))
    padded[cv2.dilate(forks, _AROUND) > 0] = 0
    if not padded.any():
        return []
    width = padded.shape[1]
    cells = cv2.findNonZero(padded).reshape(-1, 2) @ (1, width)  # (N, 1, 2) of OpenCV 4, (N, 2) of OpenCV 5
    inner = _neighbours(padded).reshape(-1)[cells] > 1
    remaining = bytearray(padded.tobytes())  # row by row; a cell is a plain index, its neighbours lie at plain steps
    steps = (1, -1, width, -width, width + 1, width - 1, -width + 1, -width - 1)
    paths = []
    for starts, are_inner in ((cells[~inner], False), (cells[inner], True)):  # from the ends; then loops are left
        for start in starts.tolist():
            if not remaining[start]:
                continue
            rows, columns = np.divmod(np.array(_walk(start, remaining, steps)), width)
            path = np.stack([columns, rows], axis=1).astype(np.float64) - 1
            if are_inner and is_loop(path, 1):
                path = np.concatenate([path, path[:1]])
            paths.append(path)
    return paths


def is_loop(path: np.ndarray, reach: int) -> bool:
    """Whether a path (P, 2) ends within `reach` cells of where it began; one of a few cells does not count."""
    return len(path) > 8 and bool(np.abs(path[0] - path[-1]).max() <= reach)


def _neighbours(mask: np.ndarray) -> np.ndarray:
    """(Y, X) uint8: how many of the 8 cells around each are set."""
    return cv2.boxFilter(mask, cv2.CV_8U, (3, 3), normalize=False, borderType=cv2.BORDER_CONSTANT) - mask


def _walk(cell: int, remaining: bytearray, steps: tuple[int, ...]) -> list[int]:
    """Cells from this one on. Past the first no more than one neighbour is left, which most often lies straight on."""
    path = [cell]
    remaining[cell] = 0
    step = steps[0]
    while True:
        following = cell + step
        if not remaining[following]:
            for step in steps:
                following = cell + step
                if remaining[following]:
                    break
            else:
                return path
        remaining[following] = 0
        path.append(following)
        cell = following


def join_paths(
    paths: list[np.ndarray],
    max_gap: float,
    min_cosine: float,
    *,
    touching: float = 3.0,
    min_facing: float = -1.0,
    cap: float = 0.0,
    shape: tuple[int, int] = (0, 0),
) -> list[np.ndarray]:
    """Joins paths (P, 2) whose ends lie within `max_gap` cells and continue each other's direction, best pair first.

    Two ends do if they run alike within the angle of `min_cosine`, and are within `touching` cells, or one of them
    points at the other within that angle and both do within that of `min_facing`. Ends that are left over and point the
    same way are joined within `cap` cells, as a median's sides at its tip, unless they lie as near to the border of
    the mask, of `shape` (Y, X), which cuts medians.
    """
    paths = [path for path in paths if len(path) >= 2]
    if len(paths) < 2:
        return paths
    chains = {index: [(index, False)] for index in range(len(paths))}
    chain_of = {index: index for index in chains}
    for a, b in _joinable_ends(paths, max_gap, min_cosine, touching, min_facing, cap, shape):
        first, second = chains[chain_of[a[0]]], chains[chain_of[b[0]]]
        if first is second or not (_is_free(first, a) and _is_free(second, b)):
            continue
        if not _is_last(first, a):
            first = _reversed(first)
        if not _is_first(second, b):
            second = _reversed(second)
        key = chain_of[a[0]]
        chains.pop(chain_of[b[0]])
        chains[key] = first + second
        chain_of.update({index: key for index, _ in chains[key]})
    return [
        np.concatenate([paths[index][::-1] if backward else paths[index] for index, backward in chain])
        for chain in chains.values()
    ]


def _joinable_ends(
    paths: list[np.ndarray],
    max_gap: float,
    min_cosine: float,
    touching: float,
    min_facing: float,
    cap: float,
    shape: tuple[int, int],
) -> list[tuple[End, End]]:
    """Pairs of ends that may be joined, see `join_paths`; those that lie nearest and straightest first."""
    tips, outward = _ends(paths)
    near = cKDTree(tips).query_pairs(max_gap, output_type="ndarray")  # noise may have thousands of ends
    first, second = near[near[:, 0] // 2 != near[:, 1] // 2].T
    gap = tips[second] - tips[first]
    distance = np.linalg.norm(gap, axis=1)
    straight = -(outward[first] * outward[second]).sum(axis=1)
    along = np.stack([(outward[first] * gap).sum(axis=1), -(outward[second] * gap).sum(axis=1)])
    faces = (along.max(axis=0) > min_cosine * distance) & (along.min(axis=0) >= min_facing * distance)
    joins = (straight > min_cosine) & (faces | (distance <= touching))
    is_inside = np.all((tips >= cap) & (tips < np.array(shape[::-1]) - cap), axis=1)
    joins |= (straight < -_ALIKE) & (distance <= cap) & is_inside[first] & is_inside[second]
    cost = (distance + 10 * (1 - straight))[joins].tolist()
    ranked = sorted(zip(cost, first[joins].tolist(), second[joins].tolist(), strict=True))
    return [(divmod(a, 2), divmod(b, 2)) for _, a, b in ranked]


def _is_free(chain: Chain, end: End) -> bool:
    """Whether this end of a path is an outer end of its chain."""
    return _is_first(chain, end) or _is_last(chain, end)


def _is_first(chain: Chain, end: End) -> bool:
    return chain[0][0] == end[0] and chain[0][1] == end[1]


def _is_last(chain: Chain, end: End) -> bool:
    return chain[-1][0] == end[0] and chain[-1][1] != end[1]


def _reversed(chain: Chain) -> Chain:
    return [(index, not backward) for index, backward in reversed(chain)]


def _ends(paths: list[np.ndarray], reach: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """(2 N, 2) ends of N paths, start and end in turn, and the unit directions in which the paths leave there."""
    tips = np.stack([path[at] for path in paths for at in (0, -1)])
    inside = np.stack([path[at] for path in paths for at in (min(reach, len(path) - 1), -min(reach + 1, len(path)))])
    outward = tips - inside
    return tips, outward / np.maximum(np.linalg.norm(outward, axis=1, keepdims=True), 1e-9)


def refined(path: np.ndarray, layer: np.ndarray, reach: int = 2) -> np.ndarray:
    """Moves each point of a path to the middle of the cells across the line, as the probability has it.

    Args:
        path: (P, 2) columns and rows.
        layer: (Y, X) float32 probabilities; a cell weighs by its square.
        reach: cells to each side.

    Returns:
        (P, 2) columns and rows.
    """
    smooth = smoothed(path, False)
    tangent = np.concatenate([smooth[1:2] - smooth[:1], (smooth[2:] - smooth[:-2]) / 2, smooth[-1:] - smooth[-2:-1]])
    normal = np.stack([-tangent[:, 1], tangent[:, 0]], axis=1)
    normal /= np.maximum(np.hypot(tangent[:, 0], tangent[:, 1]), 1e-9)[:, None]
    offsets = np.arange(-reach, reach + 1.0)
    places = (path[:, None] + offsets[:, None] * normal[:, None]).astype(np.float32)
    weight = cv2.remap(layer, places, None, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE) ** 2 + 1e-6  # type: ignore[call-overload]
    return path + ((weight @ offsets) / weight.sum(axis=1))[:, None] * normal


def smoothed(path: np.ndarray, closed: bool, reach: int = 3) -> np.ndarray:
    """Moving average (P, 2) over 2 reach + 1 points of a path; the ends of an open one stay."""
    if len(path) < 2 * reach + 1:
        return path
    if closed:
        before, behind = path[-reach:], path[:reach]
    else:  # turned about the ends, which so stay where they are
        before, behind = 2 * path[0] - path[reach:0:-1], 2 * path[-1] - path[-2 : -reach - 2 : -1]
    padded = np.concatenate([before, path, behind])
    return cv2.blur(padded[:, None], (1, 2 * reach + 1))[reach:-reach, 0]
