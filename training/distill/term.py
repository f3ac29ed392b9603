"""What all terms share: which source teaches, how much it weighs, and which BEV features are compared.

A term is a module of `(student output, source output, targets) -> scalar`. Its parameters, if it has any, are
projections that are learnt beside the student and dropped with the run.
"""

from typing import Any, Literal

import torch
from pydantic import Field, NonNegativeFloat, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from hdmap_core.config import Config
from hdmap_core.model_io import ModelOutput

Head = Literal["rasters", "vectors", "any", "lines"]
"""What a term looks at beside taps: rasters, vectors, or `any` of these, of both models; true lines as rasters."""


class TapPair(Config):
    """BEV features of the student and of the source (`ModelOutput.taps`); a name alone stands for both."""

    student: str
    source: str

    @model_validator(mode="before")
    @classmethod
    def _one_name_for_both(cls, content: Any) -> Any:
        return {"student": content, "source": content} if isinstance(content, str) else content


def both(tap: str) -> TapPair:
    """The same tap of the student and of the source."""
    return TapPair(student=tap, source=tap)


class TermConfig(Config):
    """Of every term.

    Attributes:
        source: the name of a model of the recipe's `sources`.
        weight: factor on the term; with 0 it is left out, and its source not even loaded.
    """

    source: str = Field(pattern="^[a-z][a-z0-9_]*$")
    weight: NonNegativeFloat = 1.0

    @property
    def pairs(self) -> tuple[TapPair, ...]:
        """The taps that it compares."""
        return ()

    @property
    def needs(self) -> frozenset[Head]:
        """What it looks at beside taps."""
        return frozenset()


class TapTermConfig(TermConfig):
    """Of terms that compare BEV features.

    Attributes:
        taps: which; the term is the sum over these pairs, unless it says what each is for.
    """

    taps: tuple[TapPair, ...] = Field(default=(both("bev_small"),), min_length=1)

    @property
    def pairs(self) -> tuple[TapPair, ...]:
        """The taps that it compares."""
        return self.taps


def zero(student: ModelOutput) -> Tensor:
    """A float32 scalar on the device of the student's features, to add a term's parts to."""
    return torch.zeros((), device=next(iter(student.taps.values())).device)


def adapter(student: int, source: int) -> nn.Module:
    """A 1x1 convolution that brings the student's channels to the source's; nothing where they are as many."""
    return nn.Identity() if student == source else nn.Conv2d(student, source, 1)


def resized(features: Tensor, like: Tensor) -> Tensor:
    """Features (B, C, y, x) at the resolution of others of the same region: averaged down, or enlarged bilinearly."""
    size = like.shape[-2], like.shape[-1]
    if features.shape[-2:] == size:
        return features
    if features.shape[-2] >= size[0] and features.shape[-1] >= size[1]:
        return F.adaptive_avg_pool2d(features, size)
    return F.interpolate(features, size=size, mode="bilinear")


def normalised(features: Tensor) -> Tensor:
    """LayerNorm over the channels of (B, C, y, x), without parameters."""
    return F.layer_norm(features.movedim(1, -1), features.shape[1:2]).movedim(-1, 1)
