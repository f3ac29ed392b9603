"""A training method is an objective: a batch goes in, named scalars come out."""

from collections.abc import Callable

from torch import Tensor

from hdmap_core.model_io import DenseOutput, ModelInput, ModelOutput
from training.config import TrainConfig
from training.data.batches import Batch
from training.data.masking import masked_one_hot
from training.losses.auxiliary import auxiliary_losses
from training.losses.dense import DenseLossConfig, dense_losses
from training.losses.segmentation import mask_losses
from training.losses.vector import vector_losses

Forward = Callable[[ModelInput], ModelOutput]


def supervised(forward: Forward, batch: Batch, recipe: TrainConfig) -> dict[str, Tensor]:
    """The weighted terms of every head that the model has, against ground truth; their sum is the loss."""
    return against_truth(forward(batch.inputs), batch, recipe)


def against_truth(output: ModelOutput, batch: Batch, recipe: TrainConfig) -> dict[str, Tensor]:
    """The same for what a model has already said."""
    config = recipe.loss
    terms: dict[str, Tensor] = {}
    if output.vectors is not None:
        found = vector_losses(
            output.vectors,
            batch.targets,
            class_weight=config.classes,
            points_weight=config.points,
            repeats=config.repeats,
        )
        weights = {"class": config.classes, "points": config.points, "direction": config.direction}
        for name, value in found.items():
            factor = config.one_to_many if name.endswith("_many") else 1.0
            terms[name] = factor * weights[name.removesuffix("_many")] * value
    if output.semantic is not None:
        assert batch.targets.masks is not None
        found = mask_losses(output.semantic, batch.targets.masks, config.mask_positive_weight)
        terms["mask_bce"] = config.mask_bce * found["mask_bce"]
        terms["mask_dice"] = config.mask_dice * found["mask_dice"]
    if output.dense is not None:
        terms |= _dense_terms(output.dense, batch, config.dense)
    if output.unrefined is not None and config.dense.unrefined:
        found = _dense_terms(output.unrefined, batch, config.dense)
        terms |= {f"{name}_unrefined": config.dense.unrefined * value for name, value in found.items()}
    if output.auxiliary is not None:
        assert batch.targets.auxiliary is not None and recipe.model.auxiliary is not None
        found = auxiliary_losses(
            output.auxiliary,
            batch.targets.auxiliary,
            batch.inputs.camera_mask,
            config.auxiliary,
            recipe.model.auxiliary.depth,
        )
        terms |= {name: getattr(config.auxiliary, name) * value for name, value in found.items()}
    return terms


def masked_autoencoder(forward: Forward, batch: Batch, recipe: TrainConfig) -> dict[str, Tensor]:
    """Pre-training of an HD-map refiner: it sees a map with blocks hidden and must say the whole one.

    Source: P-MapNet (Jiang et al. 2024), section III-C; a hidden cell becomes background.
    """
    dense = batch.targets.dense
    assert dense is not None and batch.hidden is not None
    seen = masked_one_hot(dense.semantic, batch.hidden, len(recipe.model.classes))
    output = forward(ModelInput(semantic=seen)).dense
    assert output is not None
    return _dense_terms(output, batch, recipe.loss.dense)


def _dense_terms(output: DenseOutput, batch: Batch, config: DenseLossConfig) -> dict[str, Tensor]:
    assert batch.targets.dense is not None
    found = dense_losses(output, batch.targets.dense, config)
    return {name: getattr(config, name.removeprefix("dense_")) * value for name, value in found.items()}
