"""Losses of polylines after matching: focal class loss, L1 of points, direction of edges (MapTR, section 3.4)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from hdmap_core.model_io import VectorOutput
from training.data.targets import Targets
from training.losses.global_sum import global_mean
from training.losses.matching import ALPHA, GAMMA, Matches, match

SHORT_EDGE = 0.03
"""Metres. The direction of a shorter edge is noise, and its gradient, which grows as one over the length, is huge."""


def vector_losses(
    output: VectorOutput,
    targets: Targets,
    *,
    class_weight: float,
    points_weight: float,
    repeats: int = 6,
) -> dict[str, Tensor]:
    """Unweighted terms in float32, each summed over decoder layers and divided by the number of positives.

    The number of true elements is the mean over processes, all of which must call it; less than 1 counts as 1.

    Args:
        output: logits (L, B, Q, K), points (L, B, Q, P, 2), and perhaps the same of the one-to-many queries.
        targets: of the same B frames.
        class_weight: weight of the focal cost in the matching.
        points_weight: weight of the L1 distance in the matching.
        repeats: how many one-to-many queries each true element goes to (MapTRv2, section 3.4: 6).

    Returns:
        `class` focal loss over all queries; `points` L1 of normalised coordinates, summed over an element's points;
        `direction` one minus the cosine between predicted and true edges in metres, summed over an element's edges;
        edges shorter than 3 cm, predicted or true, are left out. With one-to-many queries the same of them as
        `class_many`, `points_many`, `direction_many`, divided by `repeats` times the number of elements.
    """
    groups, factors, suffixes = [output], [1], [""]
    if output.one_to_many is not None:
        groups, factors, suffixes = [output, output.one_to_many], [1, repeats], ["", "_many"]
    count = global_mean((targets.labels >= 0).sum().float()).clamp(min=1)
    terms: dict[str, Tensor] = {}
    with torch.autocast(output.logits.device.type, enabled=False):
        matches = match(groups, factors, targets, class_weight=class_weight, points_weight=points_weight)
        for group, factor, suffix, found in zip(groups, factors, suffixes, matches, strict=True):
            for name, value in _sums(group, targets, found).items():
                terms[name + suffix] = value / (factor * count)
    return terms


def focal_loss(logits: Tensor, wanted: Tensor) -> Tensor:
    """Sum of the sigmoid focal loss (Lin et al. 2017) over all queries and classes."""
    probability = logits.sigmoid()
    error = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    missed = probability * (1 - wanted) + (1 - probability) * wanted
    return ((ALPHA * wanted + (1 - ALPHA) * (1 - wanted)) * missed**GAMMA * error).sum()


def direction_loss(points: Tensor, true_points: Tensor) -> Tensor:
    """Sum over edges of one minus the cosine between (M, P, 2) predicted and true polylines, both in metres."""
    return edge_turns(points, true_points).sum()


def edge_turns(points: Tensor, true_points: Tensor) -> Tensor:
    """(M,): of each polyline the sum over its edges of one minus the cosine between (M, P, 2) predicted and true."""
    edges, true_edges = points.diff(dim=1), true_points.diff(dim=1)
    long = (torch.linalg.vector_norm(edges.detach(), dim=-1) >= SHORT_EDGE) & (
        torch.linalg.vector_norm(true_edges, dim=-1) >= SHORT_EDGE
    )
    # The cosine of (1, 0) stands in for a short edge's, so that no gradient of a division by nearly zero comes back.
    stand_in = torch.tensor([1.0, 0.0], device=points.device)
    cosine = F.cosine_similarity(torch.where(long[..., None], edges, stand_in), true_edges, dim=-1)
    return torch.where(long, 1 - cosine, 0.0).sum(dim=1)


def _sums(output: VectorOutput, targets: Targets, matches: Matches) -> dict[str, Tensor]:
    """`class`, `points` and `direction` of one group, summed over layers, frames and elements."""
    logits, points = output.logits.float(), output.points.float()
    at = matches.layer, matches.frame, matches.query
    wanted = torch.zeros_like(logits)
    wanted[(*at, targets.labels[matches.frame, matches.element])] = 1.0
    predicted, true = points[at], targets.orders[matches.frame, matches.row]
    return {
        "class": focal_loss(logits, wanted),
        # Zero times all points: a query that no element goes to still shows when it is no number.
        "points": (predicted - true).abs().sum() + 0.0 * points.sum(),
        "direction": direction_loss(predicted * targets.extent, true * targets.extent),
    }
