"""Distillation of BEV features: the student's, through a learnt 1x1 projection, are drawn to the source's.

Ours, for models of any kind: features are normalised over their channels, so that the scale that a source happens to
have does not weigh the term, and the mean squared difference is taken over all cells, or those near true lines. A
source of another resolution is brought to the student's.
"""

from typing import Literal

import torch
from pydantic import PositiveFloat
from torch import Tensor, nn

from hdmap_core.model_io import ModelOutput
from training.data.targets import Targets
from training.distill.rasters import blurred, lines
from training.distill.term import Head, TapPair, TapTermConfig, adapter, both, normalised, resized, zero
from training.losses.global_sum import global_weighted_mean


class BEVFeaturesConfig(TapTermConfig):
    """Which cells count.

    Attributes:
        where: `all`, or near `lines` of the ground truth; these need a head that makes rasters.
        sigma: of the Gaussian flanks of lines, cells of the student's features.
        normalise: over channels, before they are compared.
    """

    kind: Literal["bev_features"] = "bev_features"
    taps: tuple[TapPair, ...] = (both("bev"),)
    where: Literal["all", "lines"] = "all"
    sigma: PositiveFloat = 2.0
    normalise: bool = True

    @property
    def needs(self) -> frozenset[Head]:
        """What it looks at beside taps."""
        return frozenset({"lines"}) if self.where == "lines" else frozenset()


class BEVFeatures(nn.Module):
    """`channels`: of the student's and the source's features, for each pair of taps."""

    def __init__(self, config: BEVFeaturesConfig, channels: list[tuple[int, int]]) -> None:
        super().__init__()
        self.config = config
        self.projections = nn.ModuleList(adapter(ours, theirs) for ours, theirs in channels)

    def forward(self, student: ModelOutput, source: ModelOutput, targets: Targets) -> Tensor:
        """The sum over the taps of a mean over channels and (weighted) cells."""
        total = zero(student)
        for pair, project in zip(self.config.taps, self.projections, strict=True):
            ours = project(student.taps[pair.student])
            theirs = resized(source.taps[pair.source], ours)
            if self.config.normalise:
                ours, theirs = normalised(ours), normalised(theirs)
            apart = (ours - theirs).square().mean(dim=1, keepdim=True)
            weight = torch.ones_like(apart)
            if self.config.where == "lines":
                weight = blurred(lines(targets, apart), self.config.sigma)
            total = total + global_weighted_mean(apart, weight)
        return total
