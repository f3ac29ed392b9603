"""BEVDistill (Chen et al., ICLR 2023) for maps: features, relations and predictions of a teacher that sees LiDAR.

Original, as its code has it: detection of boxes. (1) Squared difference of BEV features, summed over channels, weighted
by Gaussians of the true boxes. (2) An InfoNCE loss with temperature 0.07 between the features of both maps where boxes
are predicted, each through its own projector. (3) The teacher's boxes matched to the student's, their difference
weighted by the teacher's score. Weights 0.01, 0.2 and 0.25.

Our port. (1) The Gaussians are of true lines. A learnt 1x1 convolution brings the student's channels to the teacher's;
theirs pass both maps through a shared one. (2) The places are cells on true lines, evenly drawn from each frame, which
are the negatives of each other; theirs are all queries of a batch of one. The projectors have a layer norm in the place
of a batch norm: negatives and norms then stay within a frame, so that more processes change nothing. (3) Lines are not
boxes: cross-entropy to the teacher's rasters, weighted by how sure it is that a cell is on a line (`msrd` without
ground truth). How MapKD's table ported BEVDistill is not known.

Maps of another resolution are brought to the student's.
"""

from typing import Literal

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from hdmap_core.model_io import ModelOutput
from training.data.targets import Targets
from training.distill.msrd import soft_cross_entropy
from training.distill.rasters import blurred, foreground, lines, probabilities, raster_logits
from training.distill.term import Head, TapPair, TapTermConfig, adapter, both, resized, zero
from training.losses.global_sum import global_mean_of, global_weighted_mean


class BEVDistillConfig(TapTermConfig):
    """Defaults are the original's weights and sizes.

    Attributes:
        features: factor on the difference of features.
        relation: factor on the contrast.
        prediction: factor on the difference of rasters.
        sigma: of the Gaussian flanks of lines, cells of the student's features.
        points: places per frame in the contrast, at most.
        width: of the projectors.
        temperature: of the contrast.
    """

    kind: Literal["bevdistill"] = "bevdistill"
    taps: tuple[TapPair, ...] = (both("encoder_in"),)
    features: NonNegativeFloat = 0.01
    relation: NonNegativeFloat = 0.2
    prediction: NonNegativeFloat = 0.25
    sigma: PositiveFloat = 2.0
    points: PositiveInt = 256
    width: PositiveInt = 512
    temperature: PositiveFloat = 0.07

    @property
    def needs(self) -> frozenset[Head]:
        """What it looks at beside taps."""
        return frozenset({"lines", "rasters"}) if self.prediction else frozenset({"lines"})


class BEVDistill(nn.Module):
    """`channels`: of the student's and the source's features, for each pair of taps."""

    def __init__(self, config: BEVDistillConfig, channels: list[tuple[int, int]]) -> None:
        super().__init__()
        self.config = config
        self.adapters = nn.ModuleList(adapter(ours, theirs) for ours, theirs in channels)
        self.projectors = nn.ModuleList(
            nn.ModuleList(_projector(width, config.width) for width in pair) for pair in channels if config.relation
        )

    def forward(self, student: ModelOutput, source: ModelOutput, targets: Targets) -> Tensor:
        """The weighted sum of the three parts."""
        config = self.config
        total = zero(student)
        for number, pair in enumerate(config.taps):
            ours = student.taps[pair.student]
            theirs = resized(source.taps[pair.source], ours)
            mask = lines(targets, ours)
            apart = (self.adapters[number](ours) - theirs).square().sum(dim=1, keepdim=True)
            weight = blurred(mask, config.sigma)
            total = total + config.features * global_weighted_mean(apart, weight)
            if config.relation:
                total = total + config.relation * self._contrast(number, ours, theirs, mask)
        if config.prediction:
            logits = raster_logits(student)
            sure = resized(foreground(source), logits)
            total = total + config.prediction * soft_cross_entropy(logits, resized(probabilities(source), logits), sure)
        return total

    def _contrast(self, number: int, ours: Tensor, theirs: Tensor, mask: Tensor) -> Tensor:
        index, valid = spread(mask, self.config.points)
        own, wanted = (
            F.normalize(project(features.flatten(2).transpose(1, 2).gather(1, _wide(index, features))), dim=-1)
            for features, project in zip((ours, theirs), self.projectors[number], strict=True)  # type: ignore[call-overload]
        )
        return contrast(own, wanted, valid, self.config.temperature)


def spread(mask: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Evenly drawn marked cells of each (B, 1, y, x) mask: (B, n) flat indices, and (B, n) which of these are any."""
    ranks = mask.flatten(1).gt(0).long().cumsum(dim=1)
    there = ranks[:, -1:]
    number = torch.arange(count, device=mask.device)[None]
    step = torch.where(there > count, number * there // count, number)
    index = torch.searchsorted(ranks, step + 1).clamp(max=ranks.shape[1] - 1)
    return index, number < there


def contrast(ours: Tensor, theirs: Tensor, valid: Tensor, temperature: float) -> Tensor:
    """InfoNCE of (B, n, C) unit vectors: each of ours must know its own of theirs among those of its frame."""
    logits = ours @ theirs.transpose(1, 2) / temperature
    logits = logits.masked_fill(~valid[:, None], torch.finfo(logits.dtype).min)
    each = -logits.log_softmax(dim=-1).diagonal(dim1=1, dim2=2)
    return global_mean_of(each, valid)


def _projector(channels: int, width: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(channels, width), nn.Linear(width, width), nn.LayerNorm(width), nn.ReLU(), nn.Linear(width, width)
    )


def _wide(index: Tensor, features: Tensor) -> Tensor:
    return index[..., None].expand(-1, -1, features.shape[1])
