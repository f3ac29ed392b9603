"""Assignment of predicted to true elements in any of their point orders (MapTR, section 3.3), a whole batch at once.

One distance computation, one copy to the host and one back serve every layer, frame and group of queries; only the
Hungarian solver itself (scipy) runs frame by frame.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from hdmap_core.model_io import VectorOutput
from training.data.targets import Targets

ALPHA, GAMMA = 0.25, 2.0
"""Of the focal loss (Lin et al. 2017): the share of positives in the weight, and how much less sure answers count."""


@dataclass(frozen=True)
class Matches:
    """M matched pairs of one group of queries, all layers and frames together; every field (M,) int64.

    Attributes:
        layer, frame, query: which prediction.
        element: index into the frame's `Targets.labels`.
        row: index into the frame's `Targets.orders`: the order of that element which is nearest to the prediction.
    """

    layer: Tensor
    frame: Tensor
    query: Tensor
    element: Tensor
    row: Tensor


@torch.no_grad()
def match(
    groups: Sequence[VectorOutput],
    repeats: Sequence[int],
    targets: Targets,
    *,
    class_weight: float,
    points_weight: float,
) -> list[Matches]:
    """Hungarian matching of every layer and frame, each group of queries for itself.

    Args:
        groups: logits (L, B, Q, K) and points (L, B, Q, P, 2); Q may differ. Their `one_to_many` is not looked at.
        repeats: per group, to how many queries each true element goes: 1 for one-to-one.
        targets: of the same B frames.
        class_weight: weight of the focal cost.
        points_weight: weight of the L1 distance, summed over an element's normalised coordinates.

    Returns:
        The pairs of each group: per layer and frame min(Q, repeats x elements) of them, no query twice. Costs that
        are not finite are taken as very high or very low ones, so there is a matching in any case.
    """
    logits = torch.cat([group.logits for group in groups], dim=2).float()
    points = torch.cat([group.points for group in groups], dim=2).float()
    distance = _order_distances(points, targets)
    cost = _element_costs(logits, distance, targets, class_weight, points_weight).cpu().numpy()
    starts = np.cumsum([0, *(group.logits.shape[2] for group in groups)])
    pairs = [
        _assign(cost[:, :, start:end], repeat, start)
        for start, end, repeat in zip(starts[:-1], starts[1:], repeats, strict=True)
    ]
    index = torch.from_numpy(np.concatenate(pairs, axis=1)).to(logits.device)
    layer, frame, query, element = index
    others = targets.owners[frame] != element[:, None]
    row = distance[frame, layer, query].masked_fill_(others, float("inf")).argmin(dim=-1)
    chunks = torch.cat([index, row[None]]).split([found.shape[1] for found in pairs], dim=1)
    return [
        Matches(layer, frame, query - int(start), element, row)
        for start, (layer, frame, query, element, row) in zip(starts[:-1], chunks, strict=True)
    ]


def focal_cost(logits: Tensor) -> Tensor:
    """(..., K): change of the focal loss if a query were positive for a class instead of negative."""
    probability = logits.sigmoid()
    positive = ALPHA * (1 - probability) ** GAMMA * -(probability + 1e-8).log()
    negative = (1 - ALPHA) * probability**GAMMA * -(1 - probability + 1e-8).log()
    return positive - negative


def _order_distances(points: Tensor, targets: Targets) -> Tensor:
    """(B, L, Q, R): L1 distance of predictions (L, B, Q, P, 2) to each row of orders; infinite to padding."""
    layers, batch, queries = points.shape[:3]
    flat = points.transpose(0, 1).reshape(batch, layers * queries, -1)
    distance = torch.cdist(flat, targets.orders.flatten(2), p=1)
    distance.masked_fill_((targets.owners < 0)[:, None], float("inf"))
    return distance.view(batch, layers, queries, -1)


def _element_costs(
    logits: Tensor, distance: Tensor, targets: Targets, class_weight: float, points_weight: float
) -> Tensor:
    """(L, B, Q, G) costs, finite but for padded elements: those are +inf, which tells the host where they are."""
    layers, batch, queries = logits.shape[:3]
    size = (batch, layers, queries)
    owners = targets.owners.clamp(min=0)[:, None, None].expand(*size, -1)
    nearest = distance.new_full((*size, targets.labels.shape[1]), float("inf")).scatter_reduce(
        -1, owners, distance, "amin"
    )
    labels = targets.labels.clamp(min=0)[:, None, None].expand(*size, -1)
    cost = class_weight * focal_cost(logits).transpose(0, 1).gather(-1, labels) + points_weight * nearest
    # The solver refuses numbers that are not finite; with them the loss is not either, and the loop says so.
    cost = cost.nan_to_num_(nan=1e6, posinf=1e6, neginf=-1e6)
    return cost.masked_fill_((targets.labels < 0)[:, None, None], float("inf")).transpose(0, 1)


def _assign(cost: np.ndarray, repeat: int, first: int) -> np.ndarray:
    """(4, M) int64 layer, frame, query + `first`, element: the cheapest pairs of (L, B, Q, G) costs."""
    found = [np.zeros((4, 0), np.int64)]
    for layer, frame in np.ndindex(cost.shape[:2]):
        present = np.flatnonzero(np.isfinite(cost[layer, frame, 0]))
        if len(present):
            query, column = linear_sum_assignment(np.tile(cost[layer, frame][:, present], (1, repeat)))
            place = np.broadcast_to([[layer], [frame]], (2, len(query)))
            found.append(np.stack([*place, query + first, present[column % len(present)]]))
    return np.concatenate(found, axis=1)
