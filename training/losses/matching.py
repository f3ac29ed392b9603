"""One-to-one assignment of predicted to true elements in any of their point orders (MapTR, section 3.3)."""

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor


@torch.no_grad()
def match(
    logits: Tensor, points: Tensor, labels: Tensor, orders: Tensor, *, class_weight: float, points_weight: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Hungarian matching of one frame.

    Args:
        logits: (Q, K) class logits.
        points: (Q, P, 2) in [0, 1].
        labels: (G,) class indices of the true elements.
        orders: (G, O, P, 2) their equivalent point orders.
        class_weight: weight of the focal cost.
        points_weight: weight of the L1 distance, summed over an element's coordinates.

    Returns:
        query (M,), element (M,) and order (M,) indices, M = min(Q, G): for each matched pair the order that fits best.
    """
    num_elements, num_orders = orders.shape[:2]
    distance = torch.cdist(points.flatten(1)[None], orders.flatten(0, 1).flatten(1)[None], p=1)[0]
    distance, order = distance.view(len(points), num_elements, num_orders).min(dim=-1)
    cost = class_weight * focal_cost(logits)[:, labels] + points_weight * distance
    # The solver refuses numbers that are not finite; with them the loss is not either, and the loop says so.
    cost = cost.nan_to_num(nan=1e6, posinf=1e6, neginf=-1e6).cpu()
    query, element = (torch.as_tensor(index, device=logits.device) for index in linear_sum_assignment(cost))
    return query, element, order[query, element]


def focal_cost(logits: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """(..., K): change of the focal loss if a query were positive for a class instead of negative."""
    probability = logits.sigmoid()
    positive = alpha * (1 - probability) ** gamma * -(probability + 1e-8).log()
    negative = (1 - alpha) * probability**gamma * -(1 - probability + 1e-8).log()
    return positive - negative
