"""Vector head -> elements (MapTR, section 3.2): the best (query, class) pairs of the last decoder layer.

The published protocol is the default: no suppression, no simplification. Both are for a map that is used.
"""

from collections.abc import Sequence

import numpy as np
import shapely
import torch
from pydantic import Field
from torch import Tensor

from hdmap_core.config import Config
from hdmap_core.elements import MapClass, MapElement
from hdmap_core.geometry import BEVGrid, polyline
from hdmap_core.metrics.chamfer_distance import chamfer_distances

_CLOSED = {MapClass.PED_CROSSING}
_REPEATED = 0.25  # of the mean step between a ring's points: nearer than this, the last point repeats the first
_SAMPLES = 100  # of each line when lines are compared: its own points may lie far apart


class VectorDecodeConfig(Config):
    """What is done to polylines besides ranking them; nothing by default.

    Attributes:
        one_class_per_query: a query gives only an element of its best class, not one per class.
        duplicate_distance: of elements of a class within this Chamfer distance of each other, only the best stays;
            metres, 0 for off.
        tolerance: of the simplification (Douglas and Peucker 1973), metres; 0 for off.
    """

    one_class_per_query: bool = False
    duplicate_distance: float = Field(default=0.0, ge=0)
    tolerance: float = Field(default=0.0, ge=0)


def rank_vectors(
    logits: Tensor, points: Tensor, *, grid: BEVGrid, min_score: float, config: VectorDecodeConfig
) -> dict[str, Tensor]:
    """What `ranked_elements` takes, where the logits are and of fixed shape, so that on a GPU nobody waits for it.

    Args:
        logits: (Q, K) of the last layer.
        points: (Q, P, 2) in [0, 1] over the grid. Queries with NaN are dropped.
        grid: the region.
        min_score: pairs with a lower score are dropped.
        config: whether a query may give several elements, one per class.

    Returns:
        `scores`: (Q K,) float32, falling, -1 of what is to be dropped; `pairs`: (Q K,) int32, K * query + class;
        `metres`: (Q, P, 2) float32 in the ego frame.
    """
    finite = torch.isfinite(points).flatten(1).all(dim=1) & ~logits.isnan().any(dim=1)
    scores = logits.float().sigmoid()
    wanted = finite[:, None] & (scores >= min_score)
    if config.one_class_per_query:
        wanted = wanted & (scores == scores.amax(dim=1, keepdim=True))
    ranked = scores.masked_fill(~wanted, -1.0).flatten().topk(scores.numel())
    sides = zip(points.float().unbind(-1), grid.size, (grid.x_range[0], grid.y_range[0]), strict=True)
    metres = torch.stack([side * size + low for side, size, low in sides], dim=-1)
    return {"scores": ranked.values, "pairs": ranked.indices.int(), "metres": metres}


def ranked_elements(
    scores: np.ndarray,
    pairs: np.ndarray,
    metres: np.ndarray,
    *,
    classes: Sequence[MapClass],
    config: VectorDecodeConfig,
) -> list[MapElement]:
    """Elements of one frame, best first, of what `rank_vectors` found.

    Args:
        scores: see there.
        pairs: see there.
        metres: see there.
        classes: of the K logits; crossings are closed, and lose a last point that (nearly) repeats their first.
        config: suppression and simplification.
    """
    elements = []
    for index in range(np.count_nonzero(scores >= 0)):
        query, label = divmod(int(pairs[index]), len(classes))
        closed = classes[label] in _CLOSED
        line = without_repeat(metres[query]) if closed else metres[query]
        elements.append(MapElement(classes[label], line, closed, float(scores[index])))
    if config.duplicate_distance > 0:
        elements = without_duplicates(elements, config.duplicate_distance)
    return [simplified(element, config.tolerance) for element in elements] if config.tolerance > 0 else elements


def without_repeat(ring: np.ndarray) -> np.ndarray:
    """(P, 2) -> (P, 2) or (P - 1, 2): a ring that comes back to its first point, as MapTR's do, loses the last."""
    step = polyline.length(ring) / (len(ring) - 1)
    repeats = len(ring) > 3 and float(np.linalg.norm(ring[0] - ring[-1])) < _REPEATED * step
    return ring[:-1] if repeats else ring


def without_duplicates(elements: Sequence[MapElement], distance: float) -> list[MapElement]:
    """Drops each element that lies within `distance` metres of a better one of its class that stays.

    Args:
        elements: best first.
        distance: Chamfer, the mean of both directed mean distances; of lines sampled alike, in any direction.

    Returns:
        What stays, in the same order.
    """
    stays = np.ones(len(elements), dtype=bool)
    for label in {element.label for element in elements}:
        same = np.array([index for index, element in enumerate(elements) if element.label is label])
        paths = [e.path for e in (elements[i] for i in same)]
        lines = np.stack([polyline.resample(path, _SAMPLES) for path in paths])
        near = chamfer_distances(lines, lines, limit=distance) <= distance
        for rank, index in enumerate(same):
            if stays[index]:
                stays[same[rank + 1 :][near[rank, rank + 1 :]]] = False
    return [element for element, keep in zip(elements, stays, strict=True) if keep]


def simplified(element: MapElement, tolerance: float) -> MapElement:
    """The element without the points that lie within `tolerance` metres of the line through the others.

    An open one keeps its ends. A ring may start at another of its points. Unchanged if nothing would be left.
    """
    points = element.points
    if element.closed:  # start at a corner, which stays: the farthest from the middle
        corner = int(np.linalg.norm(points - points.mean(axis=0), axis=1).argmax())
        points = polyline.closed_ring(np.roll(points, -corner, axis=0))
    kept = shapely.get_coordinates(shapely.simplify(shapely.linestrings(points), tolerance, preserve_topology=False))
    kept = kept[:-1] if element.closed else kept
    if len(kept) < (3 if element.closed else 2):
        return element
    return MapElement(element.label, kept, element.closed, element.score)
