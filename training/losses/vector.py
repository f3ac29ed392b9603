"""Losses of polylines after matching: focal class loss, L1 of points, direction of edges (MapTR, section 3.4)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from hdmap_core.model_io import VectorOutput
from training.data.targets import Targets
from training.losses.matching import match


def vector_losses(
    output: VectorOutput, targets: Targets, *, class_weight: float, points_weight: float
) -> dict[str, Tensor]:
    """Unweighted terms, each summed over decoder layers and divided by the number of true elements.

    Args:
        output: logits (L, B, Q, K), points (L, B, Q, P, 2).
        targets: of the same B frames.
        class_weight: weight of the focal cost in the matching.
        points_weight: weight of the L1 distance in the matching.

    Returns:
        `class` focal loss over all queries; `points` L1 summed over an element's coordinates; `direction` one minus
        the cosine between predicted and true edges, summed over an element's edges.
    """
    num_elements = (targets.labels >= 0).sum().clamp(min=1)
    terms = {"class": output.logits.new_zeros(()), "points": output.points.sum() * 0.0}
    terms["direction"] = output.points.sum() * 0.0
    for logits, points in zip(output.logits, output.points, strict=True):
        wanted = torch.zeros_like(logits)
        predicted, true = [], []
        for b in range(len(logits)):
            present = targets.labels[b] >= 0
            labels, orders = targets.labels[b, present], targets.orders[b, present]
            if not len(labels):
                continue
            query, element, order = match(
                logits[b], points[b], labels, orders, class_weight=class_weight, points_weight=points_weight
            )
            wanted[b, query, labels[element]] = 1.0
            predicted.append(points[b, query])
            true.append(orders[element, order])
        terms["class"] = terms["class"] + focal_loss(logits, wanted)
        if predicted:
            matched, target = torch.cat(predicted), torch.cat(true)
            terms["points"] = terms["points"] + (matched - target).abs().sum()
            edges, true_edges = matched.diff(dim=1), target.diff(dim=1)
            terms["direction"] = terms["direction"] + (1 - F.cosine_similarity(edges, true_edges, dim=-1)).sum()
    return {name: value / num_elements for name, value in terms.items()}


def focal_loss(logits: Tensor, wanted: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Sum of the sigmoid focal loss (Lin et al. 2017) over all queries and classes."""
    probability = logits.sigmoid()
    error = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    missed = probability * (1 - wanted) + (1 - probability) * wanted
    return ((alpha * wanted + (1 - alpha) * (1 - wanted)) * missed**gamma * error).sum()
