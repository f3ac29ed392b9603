"""What a run starts from: pretrained trunks, and whole slots of earlier stages."""

from pathlib import Path
from typing import NamedTuple

from torch import nn

from hdmap_core.checkpoint import find_checkpoint, load_checkpoint
from hdmap_core.errors import CheckpointError
from hdmap_core.models import MapModel, ModelConfig
from hdmap_core.models.backbones.image_backbone import ImageBackbone
from hdmap_core.models.backbones.weights import load_pretrained
from hdmap_core.models.lidar.simulated import SimulatedLidarConfig
from hdmap_core.models.state import misfit
from hdmap_core.models.view_transforms.lift_splat import LiftSplatConfig
from hdmap_core.models.view_transforms.mlp_ipm import MlpIPMConfig
from training.config import TrainConfig
from training.fit.grown import grow
from training.fit.run_folder import differences

_SECTIONS = {
    "vector_head": "vectors",
    "segmentation_head": "segmentation",
    "dense_heads": "dense",
    "auxiliary_heads": "auxiliary",
}
"""Sections of a model's config that are not named like the slot that they fill."""
_BRANCH = {"backbone": "backbone", "lift_splat": "view_transform"}
"""Parts of a simulated LiDAR -> the slots of a camera model that can become them."""


def load_initial(model: MapModel, config: TrainConfig) -> list[str]:
    """Fills a new model in place and says with what, one line per source.

    Trunks come from `backbone_weights`, unless a checkpoint that `start` names brings them. A checkpoint must have been
    trained for the same grid and classes, and each of its slots must have the tensors, shapes and numbers of attention
    heads that the model has there. Other settings of a slot may differ, and are said.

    Raises:
        CheckpointError: if a source cannot be read or does not fit; it says which tensor of which slot. What `start`
            names is checked before anything of it is filled in.
    """
    start = config.start
    named = ((start.model, None), (start.lidar, "lidar"), (start.hd_refiner, "hd_refiner"))
    stages = [_stage(model, config, source, only) for source, only in named if source is not None]
    brought = tuple(f"{name}." for stage in stages for name in stage.slots)
    reports = []
    if start.narrower is not None:
        path = find_checkpoint(start.narrower)
        narrower = load_checkpoint(path)
        _same_map(config.model, narrower.config.model, path)
        reports.append(grow(model, narrower, path))
        brought += tuple(f"{name}." for name, _ in narrower.model.named_children())
    trunks = [
        module
        for name, module in model.named_modules()
        if isinstance(module, ImageBackbone) and not f"{name}.".startswith(brought)
    ]
    reports += [stage.report for stage in stages]
    reports += [load_pretrained(trunk, config.backbone_weights) for trunk in trunks]
    for stage in stages:
        for name, slot in stage.slots.items():
            model.get_submodule(name).load_state_dict(slot.state_dict())
    return reports


class _Stage(NamedTuple):
    """What an earlier stage brings: its slots by the names of ours, and a line that says so."""

    slots: dict[str, nn.Module]
    report: str


def _stage(model: MapModel, config: TrainConfig, source: Path, only: str | None) -> _Stage:
    """The slots of a checkpoint, or `only` one of them, known to fit the model."""
    path = find_checkpoint(source)
    stage = load_checkpoint(path)
    theirs = stage.config.model
    _same_map(config.model, theirs, path)
    if only is None:
        _same_cameras(config.model, theirs, path)
    slots = {name: slot for name, slot in stage.model.named_children() if only in (None, name)}
    is_branch = only == "lidar" and not slots and isinstance(theirs.view_transform, LiftSplatConfig)
    if is_branch and isinstance(config.model.lidar, SimulatedLidarConfig):
        slots = {f"lidar.{ours}": stage.model.get_submodule(name) for ours, name in _BRANCH.items()}
    if only is not None and not slots:
        raise CheckpointError(
            f"{path} has no slot {only}, which start.{only} takes; it is of {theirs.name!r} and has "
            f"{', '.join(name for name, _ in stage.model.named_children())}"
        )
    for name, slot in slots.items():
        try:
            mine = model.get_submodule(name)
        except AttributeError:
            raise CheckpointError(
                f"{path} has a slot {name}, which this model has not; its training would be lost"
            ) from None
        if problem := misfit(mine.state_dict(), slot.state_dict()):
            raise CheckpointError(f"{path}, slot {name} does not fit this recipe: it {problem}")
    changed = [change for name in slots for change in _changed_settings(config.model, theirs, name)]
    if heads := [change for change in changed if change.partition(" ")[0].endswith("heads")]:
        raise CheckpointError(
            f"{path} does not fit this recipe: its weights are for other attention: {', '.join(heads)}"
        )
    fresh = [name for name, _ in model.named_children() if name not in {slot.partition(".")[0] for slot in slots}]
    report = f"{path}: {', '.join(slots)} taken" + (f"; {', '.join(fresh)} not from there" if fresh else "")
    return _Stage(slots, report + (f"; trained with other settings: {', '.join(changed)}" if changed else ""))


def _same_map(mine: ModelConfig, theirs: ModelConfig, path: Path) -> None:
    for name in ("grid", "classes"):
        before, now = getattr(theirs, name), getattr(mine, name)
        if before != now:
            raise CheckpointError(f"{path} was trained for model.{name}={before}, this recipe has {now}")


def _changed_settings(mine: ModelConfig, theirs: ModelConfig, slot: str) -> list[str]:
    """What no tensor's shape shows: a slot's settings that differ, like `model.sd_prior.skip (True, was False)`."""
    ours = _SECTIONS.get(slot, slot).split(".")
    before, now = theirs.model_dump(mode="json"), mine.model_dump(mode="json")
    for section in ours:
        now = now[section]
    before = before[_BRANCH[ours[1]] if len(ours) > 1 else ours[0]]
    return differences(before, now, f"model.{'.'.join(ours)}")


def _same_cameras(mine: ModelConfig, theirs: ModelConfig, path: Path) -> None:
    """Weights per camera have the same shapes whatever the order of the cameras is."""
    if not isinstance(theirs.view_transform, MlpIPMConfig) or theirs.view_transform.weights != "per_camera":
        return
    before, now = (config.backbone.cameras if config.backbone else () for config in (theirs, mine))
    if before != now:
        raise CheckpointError(
            f"{path} was trained for the cameras {', '.join(before)}, not {', '.join(now)}; set backbone.cameras"
        )
