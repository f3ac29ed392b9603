"""UniDistill (Zhou et al., CVPR 2023) for maps: features, relations and responses at places that objects define.

Original, as its code has it: detection of boxes, nine points to a box (corners, middles of edges, centre). (1) L1
between BEV features at the points. (2) L1 between the 9 x 9 cosine similarities of features behind the BEV backbone.
(3) L1 between heatmaps, each the greatest over classes, and between regression maps, within Gaussians of the boxes. The
teacher's heatmap is the sigmoid of half its logits. Weights 10, 5 and 10 from LiDAR and cameras to cameras.

Our port. A true line is a row of square boxes along it: their nine points are the middle and its neighbours along the
line, across it, and on the diagonals. (1) A learnt 1x1 convolution brings the student's channels to the teacher's where
they are not as many. (3) Heatmaps are the rasters, masks are Gaussians of lines; there are no regression maps. The
first pair of `taps` is for (1), the second for (2). How MapKD's table ported UniDistill is not known.

Places are looked up in metres, so maps may have any resolution; the source's rasters are brought to the student's.
"""

from typing import Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from hdmap_core.model_io import ModelOutput
from training.data.targets import Targets
from training.distill.rasters import blurred, lines, raster_logits
from training.distill.term import Head, TapPair, TapTermConfig, adapter, both, resized
from training.losses.global_sum import global_mean_of, global_weighted_mean


class UniDistillConfig(TapTermConfig):
    """Defaults are the original's weights; sizes are ours.

    Attributes:
        features, relation, response: factors on the three parts.
        boxes: along each line.
        reach: half the side of a box, metres.
        sigma: of the Gaussian flanks of lines, cells of the student's raster.
    """

    kind: Literal["unidistill"] = "unidistill"
    taps: tuple[TapPair, ...] = Field(default=(both("encoder_in"), both("bev")), min_length=2, max_length=2)
    features: NonNegativeFloat = 10.0
    relation: NonNegativeFloat = 5.0
    response: NonNegativeFloat = 10.0
    boxes: PositiveInt = 4
    reach: PositiveFloat = 1.0
    sigma: PositiveFloat = 2.0

    @property
    def needs(self) -> frozenset[Head]:
        """What it looks at beside taps."""
        return frozenset({"lines", "rasters"}) if self.response else frozenset()


class UniDistill(nn.Module):
    """`channels`: of the student's and the source's features, for each pair of taps."""

    def __init__(self, config: UniDistillConfig, channels: list[tuple[int, int]]) -> None:
        super().__init__()
        self.config = config
        self.adapter = adapter(*channels[0])

    def forward(self, student: ModelOutput, source: ModelOutput, targets: Targets) -> Tensor:
        """The weighted sum of the three parts."""
        config, (first, second) = self.config, self.config.taps
        places, valid = box_points(targets, config.boxes, config.reach)
        ours = sampled(self.adapter(student.taps[first.student]), places)
        apart = (ours - sampled(source.taps[first.source], places)).abs().mean(dim=(2, 3))
        total = config.features * global_mean_of(apart, valid)
        own, wanted = (
            F.normalize(sampled(features, places), dim=-1)
            for features in (student.taps[second.student], source.taps[second.source])
        )
        relations = (own @ own.transpose(2, 3) - wanted @ wanted.transpose(2, 3)).abs().mean(dim=(2, 3))
        total = total + config.relation * global_mean_of(relations, valid)
        return total + config.response * self._response(student, source, targets) if config.response else total

    def _response(self, student: ModelOutput, source: ModelOutput, targets: Targets) -> Tensor:
        own, wanted = raster_logits(student), raster_logits(source) / 2
        if student.dense is not None:  # without the background
            own, wanted = own[:, 1:], wanted[:, 1:]
        heat = own.sigmoid().amax(dim=1, keepdim=True)
        weight = blurred(lines(targets, heat), self.config.sigma)
        apart = (heat - resized(wanted.sigmoid().amax(dim=1, keepdim=True), heat)).abs()
        return global_weighted_mean(apart, weight)


def box_points(targets: Targets, boxes: int, reach: float) -> tuple[Tensor, Tensor]:
    """Nine points of each of several boxes along every true line.

    Args:
        targets: of B frames.
        boxes: per line, evenly spaced, none at its ends.
        reach: from the middle of a box to its sides, metres.

    Returns:
        (B, G boxes, 9, 2) in [0, 1] over the grid (beyond it for boxes at its border), the middle first; (B, G boxes)
        which of them are of a line.
    """
    of_each = targets.owners[:, None] == torch.arange(targets.labels.shape[1], device=targets.owners.device)[:, None]
    row = of_each.long().argmax(dim=-1)  # (B, G): an element's first order
    points = targets.orders.gather(1, row[..., None, None].expand(-1, -1, *targets.orders.shape[2:])) * targets.extent
    at = torch.linspace(0, points.shape[2] - 1, boxes + 2, device=points.device)[1:-1]
    low = at.floor().long().clamp(max=points.shape[2] - 2)
    start, end = points[:, :, low], points[:, :, low + 1]
    along = F.normalize(end - start, dim=-1)
    across = torch.stack([-along[..., 1], along[..., 0]], dim=-1)
    middle = start + (at - low)[:, None] * (end - start)
    steps = [(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1)]
    nine = torch.stack([middle + reach * (a * along + b * across) for a, b in steps], dim=3) / targets.extent
    return nine.flatten(1, 2), (targets.labels >= 0).repeat_interleave(boxes, dim=1)


def sampled(features: Tensor, places: Tensor) -> Tensor:
    """(B, C, y, x) at (B, M, 9, 2) in [0, 1] -> (B, M, 9, C), bilinear; the border goes on beyond the grid."""
    found = F.grid_sample(features, places * 2 - 1, align_corners=False, padding_mode="border")
    return found.permute(0, 2, 3, 1)
