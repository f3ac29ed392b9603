"""MapKD's masked semantic response distillation: the student's rasters are drawn to the source's, near lines.

Published: the mean, over cells that a line of the ground truth covers and over all channels, of the binary
cross-entropy between the student's logits and the sigmoid of the source's. (Two arguments of theirs, a balance and a
temperature, have no effect and are not here.) A cell off the true lines teaches nothing, so neither what a source sees
beyond them nor its soft edges are passed on.

Ours (`mask: soft`): every cell counts by how sure the source is that it lies on a line, those on true lines fully.

A source of another resolution is brought to the student's. Rasters are those of the dense heads, behind the refiner
where there is one, or masks; both models must have the same kind.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hdmap_core.model_io import ModelOutput
from training.data.targets import Targets
from training.distill.rasters import foreground, lines, probabilities, raster_logits
from training.distill.term import Head, TermConfig, resized
from training.losses.global_sum import global_weighted_mean


class MSRDConfig(TermConfig):
    """`mask`: `lines` as published, or `soft`."""

    kind: Literal["msrd"] = "msrd"
    mask: Literal["lines", "soft"] = "lines"

    @property
    def needs(self) -> frozenset[Head]:
        """What it looks at beside taps."""
        return frozenset({"rasters"})


class MSRD(nn.Module):
    """Has no parameters."""

    def __init__(self, config: MSRDConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, student: ModelOutput, source: ModelOutput, targets: Targets) -> Tensor:
        """A weighted mean over the cells of all processes; 0 where no cell counts."""
        logits = raster_logits(student)
        weight = lines(targets, logits)
        if self.config.mask == "soft":
            weight = torch.maximum(weight, resized(foreground(source), logits))
        return soft_cross_entropy(logits, resized(probabilities(source), logits), weight)


def soft_cross_entropy(logits: Tensor, wanted: Tensor, weight: Tensor) -> Tensor:
    """Binary cross-entropy with soft labels: the mean over channels, weighted over cells and processes.

    Args:
        logits: (B, C, Y, X).
        wanted: (B, C, Y, X) in [0, 1].
        weight: (B, 1, Y, X), not negative.
    """
    each = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none").mean(dim=1, keepdim=True)
    return global_weighted_mean(each, weight)
