"""MapDistill (Hao et al., ECCV 2024): relations between modalities, BEV features at two levels, and heads.

Original, as far as a digest of the paper tells (neither code nor factors are public): a student of cameras makes two
BEV maps of the same images, in the roles of the teacher's cameras and LiDAR. (1) Patch tokens of the two maps attend to
each other, softmax(F_C F_L' / root d) and the reverse; KL from the teacher's to the student's, both summed.
(2) Mean squared difference of the fused BEV features and of those behind the map encoder. (3) Focal loss to the
teacher's classes and Manhattan distance to its points.

Our port. The student's second map is a simulated LiDAR's (`lidar: {kind: simulated}`), with a trunk of its own; theirs
shares one. Tokens are averages of patches, normalised over their channels. The student's two maps come to a common
width by learnt projections; the teacher's wider one by a fixed random orthonormal matrix, as with learnt ones both
models could agree on nothing at all. (3) For vector heads it is `vector_response`; for rasters cross-entropy to the
teacher's soft ones over all cells, and KL of the directions on true lines. All factors are 1: theirs are not published.

Maps of another resolution are brought to the student's; patches are shares of the region.
"""

import math
from typing import Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from hdmap_core.elements import MapClass
from hdmap_core.model_io import ModelOutput
from training.data.targets import Targets
from training.distill.msrd import soft_cross_entropy
from training.distill.rasters import has_rasters, lines, probabilities, raster_logits
from training.distill.term import Head, TapPair, TapTermConfig, adapter, both, normalised, resized, zero
from training.distill.tgpd import row_divergence
from training.distill.vector_response import VectorResponse, VectorResponseConfig
from training.losses.global_sum import global_weighted_mean


class MapDistillConfig(TapTermConfig):
    """Which features, and factors.

    Attributes:
        taps: the fused BEV features and those behind the BEV encoder.
        modalities: the two maps that attend to each other.
        patches: rows and columns of tokens.
        relation, features, head: factors on the three parts.
    """

    kind: Literal["mapdistill"] = "mapdistill"
    taps: tuple[TapPair, ...] = Field(default=(both("encoder_in"), both("bev")), min_length=1)
    modalities: tuple[TapPair, TapPair] = (both("camera"), both("lidar"))
    patches: tuple[PositiveInt, PositiveInt] = (10, 20)
    relation: NonNegativeFloat = 1.0
    features: NonNegativeFloat = 1.0
    head: NonNegativeFloat = 1.0

    @property
    def pairs(self) -> tuple[TapPair, ...]:
        """The taps that it compares: features, then modalities."""
        return self.taps + (self.modalities if self.relation else ())

    @property
    def needs(self) -> frozenset[Head]:
        """What it looks at beside taps."""
        return frozenset({"any"}) if self.head else frozenset()


class MapDistill(nn.Module):
    """`channels`: of the student's and the source's features, for each of `config.pairs`; `classes`: of the models."""

    reduction: Tensor

    def __init__(
        self, config: MapDistillConfig, channels: list[tuple[int, int]], classes: tuple[MapClass, ...]
    ) -> None:
        super().__init__()
        self.config = config
        count = len(config.taps)
        self.adapters = nn.ModuleList(adapter(ours, theirs) for ours, theirs in channels[:count])
        widths = [theirs for _, theirs in channels[count:]]
        if config.relation:
            self.projections = nn.ModuleList(nn.Conv2d(ours, min(widths), 1) for ours, _ in channels[count:])
            noise = torch.randn(max(widths), min(widths), generator=torch.Generator().manual_seed(0))
            self.register_buffer("reduction", torch.linalg.qr(noise).Q, persistent=False)
        self.vector_response = VectorResponse(VectorResponseConfig(source=config.source), classes)

    def forward(self, student: ModelOutput, source: ModelOutput, targets: Targets) -> Tensor:
        """The weighted sum of the three parts."""
        config = self.config
        total = zero(student)
        for pair, project in zip(config.taps, self.adapters, strict=True):
            ours = project(student.taps[pair.student])
            total = total + config.features * F.mse_loss(ours, resized(source.taps[pair.source], ours))
        if config.relation:
            total = total + config.relation * self._relation(student, source)
        return total + config.head * self._heads(student, source, targets) if config.head else total

    def _relation(self, student: ModelOutput, source: ModelOutput) -> Tensor:
        """The two divergences, camera to LiDAR and back."""
        pairs, size = self.config.modalities, self.config.patches
        ours = [
            _tokens(project(student.taps[pair.student]), size)
            for pair, project in zip(pairs, self.projections, strict=True)
        ]
        theirs = [_tokens(source.taps[pair.source], size) for pair in pairs]
        theirs = [each if each.shape[2] == self.reduction.shape[1] else each @ self.reduction for each in theirs]
        own, wanted = ((one @ two.transpose(1, 2)) / math.sqrt(one.shape[2]) for one, two in (ours, theirs))
        return row_divergence(own, wanted) + row_divergence(own.transpose(1, 2), wanted.transpose(1, 2))

    def _heads(self, student: ModelOutput, source: ModelOutput, targets: Targets) -> Tensor:
        total = zero(student)
        if student.vectors is not None and source.vectors is not None:
            total = total + self.vector_response(student, source, targets)
        if has_rasters(student) and (student.dense is None) == (source.dense is None) and has_rasters(source):
            logits = raster_logits(student)
            wanted = resized(probabilities(source), logits)
            total = total + soft_cross_entropy(logits, wanted, torch.ones_like(logits[:, :1]))
        if student.dense is not None and source.dense is not None:
            logits = student.dense.direction
            wanted = resized(source.dense.direction.softmax(dim=1), logits)
            apart = (wanted * (wanted.clamp(min=1e-8).log() - logits.log_softmax(dim=1))).sum(dim=1, keepdim=True)
            total = total + global_weighted_mean(apart, lines(targets, logits))
        return total


def _tokens(features: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, C, y, x) -> (B, T, C) averages of patches, normalised."""
    return normalised(F.adaptive_avg_pool2d(features, size)).flatten(2).transpose(1, 2)
