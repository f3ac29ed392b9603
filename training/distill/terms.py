"""All terms at a glance: which config is which module."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field
from torch import nn
from typing_extensions import assert_never

from hdmap_core.elements import MapClass
from training.distill.bev_features import BEVFeatures, BEVFeaturesConfig
from training.distill.bevdistill import BEVDistill, BEVDistillConfig
from training.distill.mapdistill import MapDistill, MapDistillConfig
from training.distill.msrd import MSRD, MSRDConfig
from training.distill.tgpd import TGPD, TGPDConfig
from training.distill.tgpd_published import PublishedTGPD, PublishedTGPDConfig
from training.distill.unidistill import UniDistill, UniDistillConfig
from training.distill.vector_relation import VectorRelation, VectorRelationConfig
from training.distill.vector_response import VectorResponse, VectorResponseConfig

DistillationTerm = Annotated[
    PublishedTGPDConfig
    | TGPDConfig
    | MSRDConfig
    | BEVDistillConfig
    | UniDistillConfig
    | MapDistillConfig
    | BEVFeaturesConfig
    | VectorResponseConfig
    | VectorRelationConfig,
    Field(discriminator="kind"),
]


def build_term(
    config: DistillationTerm, student: Mapping[str, int], source: Mapping[str, int], classes: tuple[MapClass, ...]
) -> nn.Module:
    """The module of a config, its projections at random.

    Args:
        config: known to fit both models (`load_sources`).
        student: channels of the student's taps.
        source: of the source's.
        classes: of both.
    """
    channels = [(student[pair.student], source[pair.source]) for pair in config.pairs]
    match config:
        case PublishedTGPDConfig():
            return PublishedTGPD(config)
        case TGPDConfig():
            return TGPD(config, channels)
        case MSRDConfig():
            return MSRD(config)
        case BEVDistillConfig():
            return BEVDistill(config, channels)
        case UniDistillConfig():
            return UniDistill(config, channels)
        case MapDistillConfig():
            return MapDistill(config, channels, classes)
        case BEVFeaturesConfig():
            return BEVFeatures(config, channels)
        case VectorResponseConfig():
            return VectorResponse(config, classes)
        case VectorRelationConfig():
            return VectorRelation(config, classes)
        case other:
            assert_never(other)
