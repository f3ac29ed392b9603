"""MapKD's token-guided patch distillation as it is meant: the source's own tokens guide which patches are aligned, how.

Ours, from the idea and from what is wrong in the published code (tgpd_published.py):

- Many small patches and one token of the whole map, instead of two patches of half a map each.
- The source's scores select the patches: those where it says that there are lines. A source without rasters selects
  those that its token of the whole map attends to most.
- Tokens are normalised over their channels, products divided by the root of their number, and a token's product with
  itself, which says nothing of how it relates to others, is left out: no softmax saturates. There is one softmax.
- The rows of attention are compared (KL from the source's to the student's), and the features of the selected patches.
- The projection brings the student's channels to the source's and is learnt, also where they are as many: each model
  has an order of its own for what it knows. The source is not projected: where both are, both can agree on nothing.

Source and student may have other channels and another resolution: patches are shares of the region.
"""

import math
from typing import Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from hdmap_core.model_io import ModelOutput
from training.data.targets import Targets
from training.distill.rasters import foreground, has_rasters
from training.distill.term import TapTermConfig, normalised, resized, zero


class TGPDConfig(TapTermConfig):
    """Sizes for a region of 60 x 30 m.

    Attributes:
        patches: rows and columns of patches.
        keep: share of the patches that the source selects.
        attention: factor on the divergence of attention rows.
        features: factor on the mean squared difference of the normalised features of the selected patches.
        temperature: of the softmax.
    """

    kind: Literal["tgpd"] = "tgpd"
    patches: tuple[PositiveInt, PositiveInt] = (5, 10)
    keep: float = Field(default=0.5, gt=0, le=1)
    attention: NonNegativeFloat = 1.0
    features: NonNegativeFloat = 1.0
    temperature: PositiveFloat = 1.0


class TGPD(nn.Module):
    """`channels`: of the student's and the source's features, for each pair of taps."""

    def __init__(self, config: TGPDConfig, channels: list[tuple[int, int]]) -> None:
        super().__init__()
        self.config = config
        self.projections = nn.ModuleList(_projection(ours, theirs) for ours, theirs in channels)

    def forward(self, student: ModelOutput, source: ModelOutput, _targets: Targets) -> Tensor:
        """The sum over the taps."""
        config = self.config
        total = zero(student)
        for pair, project in zip(config.taps, self.projections, strict=True):
            ours, theirs = project(student.taps[pair.student]), source.taps[pair.source]
            selected = self.selected(source, theirs)
            own, wanted = (attention_logits(self._tokens(each, selected)) for each in (ours, theirs))
            total = total + config.attention * row_divergence(own / config.temperature, wanted / config.temperature)
            if config.features:
                total = total + config.features * self._difference(ours, resized(theirs, ours), selected)
        return total

    def selected(self, source: ModelOutput, features: Tensor) -> Tensor:
        """(B, n) int64: the patches with the source's highest scores, row by row."""
        if has_rasters(source):
            scores = F.adaptive_avg_pool2d(foreground(source), self.config.patches).flatten(1)
        else:
            every = torch.arange(math.prod(self.config.patches), device=features.device).expand(len(features), -1)
            scores = attention_logits(self._tokens(features, every))[:, 0, 1:]
        count = max(1, round(self.config.keep * scores.shape[1]))
        return scores.topk(count, dim=1).indices

    def _tokens(self, features: Tensor, selected: Tensor) -> Tensor:
        """(B, C, y, x) -> (B, 1 + n, C), normalised; the first is of the whole map."""
        patches = F.adaptive_avg_pool2d(features, self.config.patches)
        whole = normalised(features.mean(dim=(2, 3), keepdim=True)).flatten(2).transpose(1, 2)
        tokens = normalised(patches).flatten(2).transpose(1, 2)
        index = selected[..., None].expand(-1, -1, tokens.shape[2])
        return torch.cat([whole, tokens.gather(1, index)], dim=1)

    def _difference(self, ours: Tensor, theirs: Tensor, selected: Tensor) -> Tensor:
        marked = torch.zeros(len(ours), math.prod(self.config.patches), device=ours.device).scatter_(1, selected, 1.0)
        where = F.interpolate(marked.view(-1, 1, *self.config.patches), size=ours.shape[-2:], mode="nearest")
        apart = (normalised(ours) - normalised(theirs)).square().mean(dim=1, keepdim=True)
        return ((apart * where).sum(dim=(1, 2, 3)) / where.sum(dim=(1, 2, 3)).clamp(min=1)).mean()


def _projection(student: int, source: int) -> nn.Module:
    """A learnt 1x1 convolution, which at first changes nothing where the channels are as many."""
    convolution = nn.Conv2d(student, source, 1)
    if student == source:
        nn.init.dirac_(convolution.weight)
        nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]  # it has one
    return convolution


def attention_logits(tokens: Tensor) -> Tensor:
    """(B, T, C) -> (B, T, T) products over the root of C; minus infinity of a token with itself."""
    products = tokens @ tokens.transpose(1, 2) / math.sqrt(tokens.shape[-1])
    own = torch.eye(tokens.shape[1], dtype=torch.bool, device=tokens.device)
    return products.masked_fill(own, float("-inf"))


def row_divergence(logits: Tensor, wanted: Tensor) -> Tensor:
    """The mean over rows of KL(softmax of wanted || softmax of logits); entries of minus infinity in both count 0."""
    target = wanted.softmax(dim=-1)
    apart = target * (wanted.log_softmax(dim=-1) - logits.log_softmax(dim=-1))
    return torch.where(target > 0, apart, 0.0).sum(dim=-1).mean()
