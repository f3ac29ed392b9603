"""MapKD's token-guided patch distillation as the published code computes it, for comparison with what it means to be.

The features are cut into a few very large patches. Their flattened contents, and the mean of the whole map, are
projected by random weights that are made anew in every step and never learnt. Softmax of their products is the
"attention", of which another softmax is taken before the divergence between source and student; the mean squared
difference of the features is added. Nothing selects tokens.

What that gives (test_tgpd.py): the products on the diagonal are so much larger than the others that the first softmax
is the identity for source and student alike, so the divergence is 0 within rounding, and so is its gradient. The term
is its second half. Two processes draw other projections than one, which for that reason changes nothing.
"""

import math
from typing import Literal

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from hdmap_core.model_io import ModelOutput
from training.data.targets import Targets
from training.distill.term import TapTermConfig, resized, zero


class PublishedTGPDConfig(TapTermConfig):
    """Defaults are those of the script that trains the coach.

    Attributes:
        patch: cells of a patch along each axis; published is 25 of a map of 25 x 50. What it does not divide is
            padded with zeros.
        projected: project patches, and add the mean of the map as a token. False: the raw patches alone, as in the
            first of the scripts that train the student.
        width: of the projected tokens.
        temperature: of the second softmax.
        features: factor on the mean squared difference of the features.
    """

    kind: Literal["tgpd_published"] = "tgpd_published"
    patch: PositiveInt = 25
    projected: bool = True
    width: PositiveInt = 512
    temperature: PositiveFloat = 1.0
    features: NonNegativeFloat = 1.0


class PublishedTGPD(nn.Module):
    """Features of the same channels; a source of another resolution is brought to the student's."""

    def __init__(self, config: PublishedTGPDConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, student: ModelOutput, source: ModelOutput, _targets: Targets) -> Tensor:
        """The sum over the taps of divergence and mean squared difference."""
        total = zero(student)
        for pair in self.config.taps:
            ours = student.taps[pair.student]
            theirs = resized(source.taps[pair.source], ours)
            total = total + self.divergence(ours, theirs) + self.config.features * F.mse_loss(ours, theirs)
        return total

    def divergence(self, ours: Tensor, theirs: Tensor) -> Tensor:
        """KL of two maps' attention, summed over its entries, the mean over the batch."""
        weights = self._random_weights(ours)
        own, wanted = (self._attention(features, weights) / self.config.temperature for features in (ours, theirs))
        return F.kl_div(own.log_softmax(dim=-1), wanted.softmax(dim=-1), reduction="batchmean")

    def _attention(self, features: Tensor, weights: list[tuple[Tensor, Tensor]]) -> Tensor:
        """(B, T, T) rows of a softmax."""
        tokens = self._patches(features)
        if self.config.projected:
            mean = features.mean(dim=(2, 3))[:, None]
            tokens = torch.cat([F.linear(mean, *weights[0]), F.linear(tokens, *weights[1])], dim=1)
        return (tokens @ tokens.transpose(1, 2)).softmax(dim=-1)

    def _patches(self, features: Tensor) -> Tensor:
        """(B, C, y, x) -> (B, T, C patch patch)."""
        size = self.config.patch
        below, right = (-side % size for side in features.shape[-2:])
        return F.unfold(F.pad(features, (0, right, 0, below)), size, stride=size).transpose(1, 2)

    def _random_weights(self, features: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Weights and biases for the mean and for patches, drawn as torch draws those of a linear layer."""
        if not self.config.projected:
            return []
        channels = features.shape[1]
        drawn = []
        for inputs in (channels, channels * self.config.patch**2):
            bound, width = 1 / math.sqrt(inputs), self.config.width
            weight, bias = (torch.empty(*shape, device=features.device) for shape in ((width, inputs), (width,)))
            drawn.append((weight.uniform_(-bound, bound), bias.uniform_(-bound, bound)))
        return drawn
