"""What a run starts from: pretrained trunks, and whole slots of earlier stages."""

from pathlib import Path
from typing import NamedTuple

from torch import nn

from hdmap_core.checkpoint import find_checkpoint, load_checkpoint
from hdmap_core.errors import CheckpointError
from hdmap_core.models import MapModel, ModelConfig
from hdmap_core.models.backbones.image_backbone import ImageBackbone
from hdmap_core.models.backbones.weights import load_pretrained
from hdmap_core.models.state import misfit
from hdmap_core.models.view_transforms.mlp_ipm import MlpIPMConfig
from training.config import TrainConfig
from training.run_folder import differences

_SECTIONS = {
    "vector_head": "vectors",
    "segmentation_head": "segmentation",
    "dense_heads": "dense",
    "auxiliary_heads": "auxiliary",
}
"""Sections of a model's config that are not named like the slot that they fill."""


def load_initial(model: MapModel, config: TrainConfig) -> list[str]:
    """Fills a new model in place and says with what, one line per source.

    Trunks come from `backbone_weights`, unless a checkpoint that `start` names brings them. A checkpoint must have been
    trained for the same grid and classes, and each of its slots must have the tensors, shapes and numbers of attention
    heads that the model has there. Other settings of a slot may differ, and are said.

    Raises:
        CheckpointError: if a source cannot be read or does not fit; it says which tensor of which slot. What `start`
            names is checked before anything is filled.
    """
    stages = []
    if config.start.model is not None:
        stages.append(_stage(model, config, config.start.model, None))
    if config.start.hd_refiner is not None:
        stages.append(_stage(model, config, config.start.hd_refiner, "hd_refiner"))
    brought = {name for stage in stages for name in stage.slots}
    fresh = [slot for name, slot in model.named_children() if name not in brought]
    trunks = [module for slot in fresh for module in slot.modules() if isinstance(module, ImageBackbone)]
    reports = [load_pretrained(trunk, config.backbone_weights) for trunk in trunks]
    for stage in stages:
        for name, slot in stage.slots.items():
            getattr(model, name).load_state_dict(slot.state_dict())
    return [stage.report for stage in stages] + reports


class _Stage(NamedTuple):
    """What an earlier stage brings: its slots by name, and a line that says so."""

    slots: dict[str, nn.Module]
    report: str


def _stage(model: MapModel, config: TrainConfig, source: Path, only: str | None) -> _Stage:
    """The slots of a checkpoint, or `only` one of them, known to fit the model."""
    path = find_checkpoint(source)
    stage = load_checkpoint(path)
    theirs = stage.config.model
    for name in ("grid", "classes"):
        before, now = getattr(theirs, name), getattr(config.model, name)
        if before != now:
            raise CheckpointError(f"{path} was trained for model.{name}={before}, this recipe has {now}")
    if only is None:
        _same_cameras(config.model, theirs, path)
    slots = {name: slot for name, slot in stage.model.named_children() if only in (None, name)}
    if only is not None and not slots:
        raise CheckpointError(
            f"{path} has no slot {only}, which start.{only} takes; it is of {theirs.name!r} and has "
            f"{', '.join(name for name, _ in stage.model.named_children())}"
        )
    for name, slot in slots.items():
        mine = getattr(model, name)
        if mine is None:
            raise CheckpointError(f"{path} has a slot {name}, which this model has not; its training would be lost")
        _fits(mine, slot, f"{path}, slot {name}")
    changed = [change for name in slots for change in _changed_settings(config.model, theirs, name)]
    if heads := [change for change in changed if change.partition(" ")[0].endswith("heads")]:
        raise CheckpointError(
            f"{path} does not fit this recipe: its weights are for other attention: {', '.join(heads)}"
        )
    fresh = [name for name, _ in model.named_children() if name not in slots]
    report = f"{path}: {', '.join(slots)} taken" + (f"; {', '.join(fresh)} not from there" if fresh else "")
    return _Stage(slots, report + (f"; trained with other settings: {', '.join(changed)}" if changed else ""))


def _changed_settings(mine: ModelConfig, theirs: ModelConfig, slot: str) -> list[str]:
    """What no tensor's shape shows: a slot's settings that differ, like `model.sd_prior.skip (True, was False)`."""
    section = _SECTIONS.get(slot, slot)
    before, now = (config.model_dump(mode="json")[section] for config in (theirs, mine))
    return differences(before, now, f"model.{section}")


def _same_cameras(mine: ModelConfig, theirs: ModelConfig, path: Path) -> None:
    """Weights per camera have the same shapes whatever the order of the cameras is."""
    if not isinstance(theirs.view_transform, MlpIPMConfig) or theirs.view_transform.weights != "per_camera":
        return
    before, now = (config.backbone.cameras if config.backbone else () for config in (theirs, mine))
    if before != now:
        raise CheckpointError(
            f"{path} was trained for the cameras {', '.join(before)}, not {', '.join(now)}; set backbone.cameras"
        )


def _fits(mine: nn.Module, theirs: nn.Module, place: str) -> None:
    if problem := misfit(mine.state_dict(), theirs.state_dict()):
        raise CheckpointError(f"{place} does not fit this recipe: it {problem}")
