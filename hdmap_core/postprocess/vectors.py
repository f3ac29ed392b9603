"""Vector head -> elements (MapTR, section 3.2): the best (query, class) pairs of the last decoder layer."""

from collections.abc import Sequence

import torch
from torch import Tensor

from hdmap_core.elements import MapClass, MapElement
from hdmap_core.geometry import BEVGrid


def decode_vectors(
    logits: Tensor, points: Tensor, *, classes: Sequence[MapClass], grid: BEVGrid, max_elements: int
) -> list[MapElement]:
    """Elements of one frame, best first; a query may give one element per class. NaN queries are dropped.

    Args:
        logits: (Q, K) of the last layer.
        points: (Q, P, 2) in [0, 1] over the grid.
        classes: of the K logits; crossings are closed.
        grid: the region.
        max_elements: at most so many.
    """
    scores = logits.float().sigmoid().nan_to_num(0.0)
    best = scores.flatten().topk(min(max_elements, scores.numel())).indices
    metres = grid.denormalise(points.float()).cpu().numpy()
    finite = (torch.isfinite(points).flatten(1).all(dim=1) & ~logits.isnan().any(dim=1)).cpu()
    scores = scores.cpu()
    elements = []
    for index in best.tolist():
        query, label = divmod(index, len(classes))
        if finite[query]:
            closed = classes[label] is MapClass.PED_CROSSING
            elements.append(MapElement(classes[label], metres[query], closed, float(scores[query, label])))
    return elements
