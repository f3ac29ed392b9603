"""Response distillation of vector heads: the source's polylines are targets for the student's, with soft scores.

Ours, after DETR-like detectors' distillation (BEVDistill's third part, MapDistill's head term). What the source says
with at least `min_score` are elements; each goes to one student query in every decoder layer, by the same Hungarian
matching as true elements (training/losses/matching.py). Of the pairs

- class logits: binary cross-entropy with the source's sigmoid scores of all classes;
- points: L1 distance of normalised positions, weighted by the source's score;
- order of points: one minus the cosine between edges in metres, weighted alike, in the order of points that is nearest
  among those that mean the same shape, or in the source's own (`orders: source`), which decides it for the student.

All three are means over the source's scores in all processes, and over layers. Grids may have any resolution; number
and classes of the points must agree.
"""

from typing import Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from hdmap_core.elements import MapClass
from hdmap_core.model_io import ModelOutput, VectorOutput
from training.data.targets import Targets
from training.distill.term import Head, TermConfig
from training.losses.global_sum import global_sum
from training.losses.matching import match
from training.losses.vector import edge_turns


class VectorTermConfig(TermConfig):
    """Of terms that look at what the source says.

    Attributes:
        min_score: of an element of the source.
        max_elements: the source's best, in each frame.
    """

    min_score: float = Field(default=0.3, ge=0, le=1)
    max_elements: PositiveInt = 50

    @property
    def needs(self) -> frozenset[Head]:
        """What it looks at beside taps."""
        return frozenset({"vectors"})


class VectorResponseConfig(VectorTermConfig):
    """Weights are those of MapTR's losses.

    Attributes:
        classes, points, order: factors on the three parts; those of classes and points also weigh the matching.
        orders: which point orders are as good.
    """

    kind: Literal["vector_response"] = "vector_response"
    classes: NonNegativeFloat = 2.0
    points: NonNegativeFloat = 5.0
    order: NonNegativeFloat = 0.005
    orders: Literal["equivalent", "source"] = "equivalent"


class VectorResponse(nn.Module):
    """Has no parameters; `classes`: of the models, in their order."""

    def __init__(self, config: VectorResponseConfig, classes: tuple[MapClass, ...]) -> None:
        super().__init__()
        self.config, self.classes = config, classes

    def forward(self, student: ModelOutput, source: ModelOutput, targets: Targets) -> Tensor:
        """The weighted sum of the three parts; 0 where the source says nothing."""
        config, ours, theirs = self.config, student.vectors, source.vectors
        assert ours is not None and theirs is not None  # `load_sources` has seen to it
        own_order = config.orders == "source"
        said, queries = said_elements(theirs, targets.extent, self.classes, config, own_order=own_order)
        pairs = match([ours], [1], said, class_weight=config.classes, points_weight=config.points)[0]
        at, element = (pairs.layer, pairs.frame, pairs.query), queries[pairs.frame, pairs.element]
        wanted = theirs.logits[-1, pairs.frame, element].sigmoid()
        score = wanted.amax(dim=-1)
        classes = F.binary_cross_entropy_with_logits(ours.logits[at], wanted, reduction="none").sum(dim=-1)
        points, true = ours.points[at], said.orders[pairs.frame, pairs.row]
        distance = (points - true).abs().sum(dim=(1, 2))
        turns = edge_turns(points * targets.extent, true * targets.extent)
        count = global_sum(score.sum()).clamp(min=1e-6)
        parts = {"classes": classes, "points": score * distance, "order": score * turns}
        return sum(
            (getattr(config, name) * global_sum(value.sum()) / count for name, value in parts.items()),
            0.0 * (ours.points.sum() + ours.logits.sum()),
        )


def said_elements(
    vectors: VectorOutput,
    extent: Tensor,
    classes: tuple[MapClass, ...],
    config: VectorTermConfig,
    *,
    own_order: bool = False,
) -> tuple[Targets, Tensor]:
    """What a model says, as if it were true.

    Args:
        vectors: of B frames; the last layer is looked at.
        extent: (2,) metres that 1 stands for.
        classes: K, in the order of the logits; crossings are closed, a centerline's direction has a meaning.
        config: what counts as said.
        own_order: only the order in which the points come.

    Returns:
        Targets without rasters, and (B, G) the query that each of their elements is of.
    """
    logits, points = vectors.logits[-1].detach(), vectors.points[-1].detach()
    score, label = logits.sigmoid().max(dim=-1)
    best, query = score.topk(min(config.max_elements, score.shape[1]), dim=1)
    labels = torch.where(best >= config.min_score, label.gather(1, query), -1)
    lines = points.gather(1, query[..., None, None].expand(-1, -1, *points.shape[2:]))  # (B, G, P, 2)
    count = lines.shape[2]
    turned = (torch.arange(count)[:, None] + torch.arange(count)).to(lines.device) % count
    rows = torch.cat([turned, turned.flip(1)])  # all orders of a ring; row 0 is the own one, row `count` its reverse
    closed = torch.tensor([name is MapClass.PED_CROSSING for name in classes], device=lines.device)
    directed = torch.tensor([name is MapClass.CENTERLINE for name in classes], device=lines.device)
    number = torch.arange(2 * count, device=lines.device)
    known = labels.clamp(min=0)
    forward, backward = closed[known][..., None] & (number < count), closed[known][..., None] & (number >= count)
    allowed = (number == 0) | forward | ((backward | (number == count)) & ~directed[known][..., None])
    if own_order:
        allowed = (number == 0).expand_as(allowed)
    allowed = allowed & (labels >= 0)[..., None]
    owners = torch.where(allowed, torch.arange(labels.shape[1], device=lines.device)[:, None], -1)
    said = Targets(None, labels, lines[:, :, rows].flatten(1, 2), owners.flatten(1), extent)
    return said, query
