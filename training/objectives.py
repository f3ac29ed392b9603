"""A training method is an objective: a batch goes in, named scalars come out."""

from collections.abc import Callable

from torch import Tensor

from hdmap_core.model_io import ModelInput, ModelOutput
from training.config import LossConfig
from training.data.batches import Batch
from training.losses.segmentation import mask_losses
from training.losses.vector import vector_losses

Forward = Callable[[ModelInput], ModelOutput]


def supervised(forward: Forward, batch: Batch, config: LossConfig) -> dict[str, Tensor]:
    """The weighted terms of every head that the model has, against ground truth; their sum is the loss."""
    output = forward(batch.inputs)
    terms: dict[str, Tensor] = {}
    if output.vectors is not None:
        found = vector_losses(output.vectors, batch.targets, class_weight=config.classes, points_weight=config.points)
        terms["class"] = config.classes * found["class"]
        terms["points"] = config.points * found["points"]
        terms["direction"] = config.direction * found["direction"]
    if output.semantic is not None:
        found = mask_losses(output.semantic, batch.targets.masks, config.mask_positive_weight)
        terms["mask_bce"] = config.mask_bce * found["mask_bce"]
        terms["mask_dice"] = config.mask_dice * found["mask_dice"]
    return terms
