"""Relation distillation of vector heads: instances must be as alike to the student as they are to the source.

Ours, after relational distillation (Park et al., CVPR 2019): the source's elements are matched to the student's queries
of the last layer, as for `vector_response`; the cosine similarities between the queries of all pairs of elements of a
frame make one matrix for each model, and the mean absolute difference of the two, off the diagonal, is the term. Widths
need not agree, and nothing is projected.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hdmap_core.elements import MapClass
from hdmap_core.model_io import ModelOutput, VectorOutput
from training.data.targets import Targets
from training.distill.vector_response import VectorTermConfig, said_elements
from training.losses.global_sum import global_weighted_mean
from training.losses.matching import match


class VectorRelationConfig(VectorTermConfig):
    """Has no options of its own."""

    kind: Literal["vector_relation"] = "vector_relation"


class VectorRelation(nn.Module):
    """Has no parameters; `classes`: of the models, in their order."""

    def __init__(self, config: VectorRelationConfig, classes: tuple[MapClass, ...]) -> None:
        super().__init__()
        self.config, self.classes = config, classes

    def forward(self, student: ModelOutput, source: ModelOutput, targets: Targets) -> Tensor:
        """A mean over the pairs of elements of a frame, over all frames and processes; 0 where there is no pair."""
        ours, theirs = student.vectors, source.vectors
        assert ours is not None and theirs is not None  # `load_sources` has seen to it
        assert ours.queries is not None and theirs.queries is not None
        said, queries = said_elements(theirs, targets.extent, self.classes, self.config)
        last = VectorOutput(ours.logits[-1:], ours.points[-1:])
        pairs = match([last], [1], said, class_weight=2.0, points_weight=5.0)[0]
        place = torch.zeros_like(queries).index_put((pairs.frame, pairs.element), pairs.query)
        valid = torch.zeros_like(queries, dtype=torch.bool).index_put(
            (pairs.frame, pairs.element), torch.ones_like(pairs.query, dtype=torch.bool)
        )
        apart = (_similarities(ours.queries, place) - _similarities(theirs.queries, queries)).abs()
        both = (valid[:, :, None] & valid[:, None]).float()
        both = both - torch.diag_embed(both.diagonal(dim1=1, dim2=2))
        return global_weighted_mean(apart, both)


def _similarities(queries: Tensor, index: Tensor) -> Tensor:
    """(B, G, G) cosines between chosen (B, G) of (B, Q, C) queries."""
    chosen = F.normalize(queries.gather(1, index[..., None].expand(-1, -1, queries.shape[2])), dim=-1)
    return chosen @ chosen.transpose(1, 2)
