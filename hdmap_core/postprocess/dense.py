"""Dense heads -> elements, after HDMapNet (section III-D): open lines, crossings included, which are two edges there.

1. Each cell is of its most probable class; small connected areas are dropped.
2. The cells of a class are grouped into instances by their embeddings (`clustering`).
3. Each instance is thinned, traced, joined across forks and gaps, moved to the ridge of the probability, smoothed and
   simplified. Its score is the mean probability of its class over all its cells.

The published procedure chains the cells of step 3 greedily and then walks along them by the predicted directions from
a random start, which takes time in the square of the number of cells and gives another line each time, at times one
that folds back. Ours gives the same line where that one gives a sound one, and always the same, within two limits: a
line is cut where it turns by more than 120 degrees on the spot, and at gaps longer than `max_gap`. The directions tell
a line from a stub across it here. They are read circularly and as axes, since both senses of a line are taught, all
bins together rather than the best two. Nothing that is passed in is changed.
"""

from collections.abc import Sequence
from typing import Literal

import cv2
import numpy as np
from pydantic import Field
from skimage.morphology import skeletonize

from hdmap_core.config import Config
from hdmap_core.elements import MapClass, MapElement
from hdmap_core.geometry import BEVGrid, polyline
from hdmap_core.postprocess.clustering import cluster_embeddings
from hdmap_core.postprocess.tracing import is_loop, join_paths, refined, smoothed, trace_skeleton

_ELLIPSE = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
_FORK = 6.0  # cells: tracing cuts pieces off at a fork, whose ends are then within this distance
_MOST_PIECES = 64  # of an instance, the longest; more are noise, which would take long to join
_CORNER = -0.5  # cosine: within an instance, ends that (nearly) touch may turn by up to 120 degrees


class DenseDecodeConfig(Config):
    """How lines are made of rasters. Areas in cells, as published; lengths in metres.

    Attributes:
        min_area: connected areas of a class with no more cells are dropped.
        morphology: of each class's mask: "close" in HDMapNet, any in P-MapNet, none in MapKD.
        eps: of the clustering, in standard deviations.
        min_samples: smallest cluster, cells.
        min_std: embeddings are divided by their standard deviation, but by no less than this. 0 as published, which
            tears up a class with one line: its noise becomes 1. By default the margin within which the cells of an
            instance are trained to lie.
        max_gap: ends of one instance that face each other within this distance are joined.
        max_turn: by how much the joined line may turn there, degrees.
        max_spur: pieces up to this length are dropped if they lie across the predicted direction, or from fork to fork,
            as where two lines cross at a small angle.
        min_length: shorter lines are dropped.
        min_share: and those shorter than this share of the longest line of their instance, which are its side branches.
        tolerance: of the simplification.
    """

    min_area: int = Field(default=100, ge=0)
    morphology: Literal["none", "close", "open"] = "none"
    eps: float = Field(default=1.5, gt=0)
    min_samples: int = Field(default=50, ge=1)
    min_std: float = Field(default=0.5, ge=0)
    max_gap: float = Field(default=10.0, ge=0)
    max_turn: float = Field(default=60.0, ge=0, le=180)
    max_spur: float = Field(default=2.0, ge=0)
    min_length: float = Field(default=1.0, ge=0)
    min_share: float = Field(default=0.3, ge=0, le=1)
    tolerance: float = Field(default=0.1, ge=0)


def decode_dense(
    semantic: np.ndarray,
    embedding: np.ndarray,
    direction: np.ndarray,
    config: DenseDecodeConfig,
    *,
    classes: Sequence[MapClass],
    grid: BEVGrid,
) -> list[MapElement]:
    """Elements of one frame, class by class.

    Args:
        semantic: (1 + K, Y, X) float32 probabilities; channel 0 is the background. NaN counts as 0.
        embedding: (E, Y, X) float32.
        direction: (1 + D, Y, X) float32 probabilities; channel 0 is none, see `DenseOutput`.
        config: thresholds and tolerances.
        classes: of the channels 1 ... K.
        grid: whose cells these are.

    Returns:
        Open lines in metres of the ego frame, whose sense means nothing; a line around an island ends where it begins.

    Raises:
        ValueError: if the rasters are not on the grid, or do not fit the classes.
    """
    expected = (1 + len(classes), *grid.shape)
    if semantic.shape != expected or embedding.shape[1:] != grid.shape or direction.shape[1:] != grid.shape:
        raise ValueError(
            f"semantic {semantic.shape}, embedding {embedding.shape}, direction {direction.shape}: "
            f"expected {expected} and the same (Y, X)"
        )
    semantic = np.nan_to_num(semantic)
    best = semantic.argmax(axis=0)
    elements: list[MapElement] = []
    for channel, label in enumerate(classes, start=1):
        mask = class_mask(best == channel, config)
        instances = cluster_embeddings(
            mask, embedding, eps=config.eps, min_samples=config.min_samples, min_std=config.min_std
        )
        for number in range(1, int(instances.max()) + 1):
            cells = instances == number
            score = float(np.clip(semantic[channel][cells].mean(dtype=np.float64), 0, 1))
            lines = _lines(cells, semantic[channel], direction, config, grid)
            elements += [MapElement(label, points, score=score) for points in lines]
    return elements


def class_mask(mask: np.ndarray, config: DenseDecodeConfig) -> np.ndarray:
    """(Y, X) bool -> bool: after morphology and without small connected areas."""
    cells: np.ndarray = mask.astype(np.uint8)
    if config.morphology != "none":
        operation = cv2.MORPH_CLOSE if config.morphology == "close" else cv2.MORPH_OPEN
        cells = cv2.morphologyEx(cells, operation, _ELLIPSE)
    _, areas, statistics, _ = cv2.connectedComponentsWithStats(cells, connectivity=8)
    stays = statistics[:, cv2.CC_STAT_AREA] > config.min_area
    stays[0] = False
    return stays[areas]


def _lines(
    cells: np.ndarray, layer: np.ndarray, direction: np.ndarray, config: DenseDecodeConfig, grid: BEVGrid
) -> list[np.ndarray]:
    """Lines (P, 2) in metres of one instance (Y, X) bool: one, unless its parts do not continue each other."""
    x, y, width, height = cv2.boundingRect(cells.astype(np.uint8))
    window = (..., slice(y, y + height), slice(x, x + width))
    inside = cells[window]
    probability = np.where(inside, layer[window], 0).astype(np.float32)
    paths = trace_skeleton(skeletonize(np.ascontiguousarray(inside)))
    longest = config.max_spur / grid.resolution
    paths = [path for path in paths if not _is_spur(path, direction[window], longest)]
    paths = _without_bridges(sorted(paths, key=len, reverse=True)[:_MOST_PIECES], longest)
    joined = join_paths(paths, config.max_gap / grid.resolution, float(np.cos(np.radians(config.max_turn))))
    joined = join_paths(joined, 4.0, _CORNER)
    lengths = [polyline.length(path) for path in joined]
    shortest = max(config.min_length / grid.resolution, config.min_share * max(lengths, default=0))
    lines = []
    for path, length in zip(joined, lengths, strict=True):
        if length < shortest:
            continue
        closed = is_loop(path, 2)
        smooth = smoothed(refined(path, probability), closed).astype(np.float32)
        simple = cv2.approxPolyDP(smooth, config.tolerance / grid.resolution, False)[:, 0]
        simple = polyline.closed_ring(simple) if closed else simple
        lines.append(grid.to_metres(simple.astype(np.float64) + np.array([x, y])))
    return lines


def _is_spur(path: np.ndarray, direction: np.ndarray, longest: float) -> bool:
    """Whether a path (P, 2) of (column, row) is short and lies across the directions (1 + D, Y, X) of its cells.

    Angles are doubled, so that both senses of a line are one: an axis and one at right angles to it are opposite.
    """
    if len(path) < 2 or polyline.length(path) > longest:
        return len(path) < 2
    columns, rows = path.astype(int).T
    bins = direction[1:, rows, columns]
    angle = 2 * np.pi * np.arange(len(bins)) / len(bins)
    predicted = np.exp(2j * angle) @ bins
    tangent = np.gradient(path, axis=0) @ np.array([1, 1j])
    return float((predicted * np.conj(tangent) ** 2).real.sum()) < 0


def _without_bridges(paths: list[np.ndarray], longest: float) -> list[np.ndarray]:
    """Paths (P, 2) without the short ones that have at least two other ends at either end."""
    ends = np.array([path[[0, -1]] for path in paths]).reshape(-1, 2)
    kept = []
    for path in paths:
        # An end is near itself, so that three are a fork; of a short path both may be, which makes it four.
        near = np.linalg.norm(path[[0, -1]][:, None] - ends, axis=-1) <= _FORK
        is_short = polyline.length(path) <= longest
        both = int(np.linalg.norm(path[0] - path[-1]) <= _FORK)
        if not (is_short and (near.sum(axis=1) >= 3 + both).all()):
            kept.append(path)
    return kept
