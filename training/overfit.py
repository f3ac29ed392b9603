"""The first test of a model: can it learn four keyframes by heart, and does every parameter take part?

A recipe is shrunk (width, image, cells; not its structure), trained on four synthetic keyframes without augmentation,
and scored on the same four. What it cannot learn here it will not learn from a thousand scenes.
"""

from pathlib import Path
from typing import Any

from rich.console import Console
from torch import nn

from hdmap_core.config import Config
from hdmap_core.datasets.synthetic.presets import PRESETS
from hdmap_core.datasets.synthetic.writer import write_dataset
from hdmap_core.errors import ConfigError
from hdmap_core.geometry import BEVGrid
from hdmap_core.models.backbones.image_backbone import ImageBackboneConfig
from hdmap_core.models.bev_resnet import ResNetEncoderConfig
from hdmap_core.models.lidar.simulated import SimulatedLidarConfig
from hdmap_core.models.priors.hd_refiner import HDRefinerConfig
from training.config import InitialWeights, TrainConfig
from training.train import train

FRAMES = 4
WIDTH = 64
CELL_M, DENSE_CELL_M = 1.5, 0.5
SMALL_ENCODER = {"channels": (WIDTH // 2, WIDTH, WIDTH), "blocks": (1, 1, 1)}
SMALL_PILLARS = {
    "channels": (WIDTH // 2, WIDTH),
    "convolutions": (1, 1),
    "fusion_channels": WIDTH,
    "out_channels": WIDTH,
}
SMALL_DENSE = {"channels": WIDTH, "last_channels": WIDTH // 2, "line_cells": 3}
TRUNKS: dict[str, tuple[tuple[int, int], dict[str, Any]]] = {
    "resnet": ((96, 160), {"layers": [1, 1, 1, 1], "channels": [8, 16, 24, 32]}),
    "swin": ((96, 160), {"embed_dim": 16, "depths": [1, 1, 2, 1], "num_heads": [1, 2, 4, 8]}),
    "naflexvit": ((96, 160), {"embed_dim": 48, "num_heads": 3}),
    "efficientnet": ((64, 96), {}),
    "vit": ((98, 154), {"embed_dim": 48, "num_heads": 3}),
}
"""Family of a timm model -> image size and arguments that make it small; the number of a ViT's blocks stays."""


class Watched:
    """Which parameters of a model ever had a gradient that is not zero."""

    def __init__(self, model: nn.Module) -> None:
        self.frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
        self.idle = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(lambda p, name=name: self._seen(name, p))

    def _seen(self, name: str, parameter: nn.Parameter) -> None:
        if name in self.idle and parameter.grad is not None and parameter.grad.any():
            self.idle.discard(name)


def overfit(
    config: TrainConfig, folder: Path, console: Console, *, shrink: bool, target: float, steps: int = 2000
) -> float:
    """Trains on four keyframes until the score on them (`best_by`) reaches `target` or steps run out.

    Args:
        config: a recipe; its data are not used.
        folder: where the keyframes and the run go.
        console: where to report.
        shrink: make the model small first.
        target: score to stop at.
        steps: to stop at if the target is not reached.

    Returns:
        The best score.

    Raises:
        ConfigError: if the backbone is of a family that is not known here and cannot be made small.
    """
    config = shrunk(config) if shrink else config
    data = folder / "keyframes"
    preset = PRESETS["tiny"].model_copy(update={"towns": {"train": 1}, "keyframes": FRAMES, "image_size": (450, 800)})
    backbone = config.model.image_backbone
    if backbone is not None and any(name.startswith("ring_") for name in backbone.cameras or ()):
        preset = preset.model_copy(update={"rigs": "argoverse"})
    write_dataset(data, preset)
    config = prepared(config, data, steps)
    watched: list[Watched] = []
    best = train(config, folder / "run", console, until=target, on_model=lambda model: watched.append(Watched(model)))
    for title, names in (("frozen", watched[0].frozen), ("without gradient", watched[0].idle)):
        console.print(f"parameters {title}: {len(names)} {'(' + ', '.join(sorted(names)) + ')' if names else ''}")
    reached = best >= target
    console.print(
        f"{'[green]learnt' if reached else '[red]NOT learnt'}[/]: {config.best_by} {best:.3f}, wanted {target}"
    )
    return best


def prepared(config: TrainConfig, data: Path, steps: int) -> TrainConfig:
    """The recipe on these keyframes: no augmentation, a short schedule, scored every 100 steps."""
    nothing = dict.fromkeys(type(config.augment).model_fields, 0)
    keyframes = {"root": data, "more": (), "version": None, "cache": None, "keep_inputs": True, "grounds": ("poses",)}
    keyframes |= {"train": "train", "val": "train"}
    optim = config.optim.model_copy(
        update={
            "steps": steps,
            "batch_size": FRAMES,
            "accumulate": 1,
            "lr": 1e-3,
            "backbone_lr": 1.0,  # nothing there is pretrained
            "warmup_steps": 50,
            "ema": 0.98,
            "precision": "32-true",
        }
    )
    return config.model_copy(
        update={
            "data": config.data.model_copy(update=keyframes),
            "augment": config.augment.model_copy(update=nothing),
            "optim": optim,
            "backbone_weights": "random",
            "start": InitialWeights(),
            # whoever would teach it is as large as ever, and knows other keyframes
            "objective": "supervised" if config.objective == "distillation" else config.objective,
            "sources": {},
            "distillation": (),
            "log_every": 20,
            "save_every": 2000,
            "evaluate_every": 100,
            "evaluate_frames": FRAMES,
        }
    )


def shrunk(config: TrainConfig) -> TrainConfig:
    """The same structure, small: narrow layers, small images, coarse cells."""
    model = config.model
    narrow: dict[str, Any] = {"channels": WIDTH, "feedforward": 2 * WIDTH, "dropout": 0.0}
    smaller: dict[str, Any] = {
        "grid": BEVGrid(model.grid.x_range, model.grid.y_range, CELL_M if model.dense_heads is None else DENSE_CELL_M)
    }
    if model.backbone is not None:
        smaller["backbone"] = _small_backbone(model.backbone)
    if model.view_transform is not None:
        smaller["view_transform"] = _changed(model.view_transform, **narrow, layers=1, heads=4, max_views=2)
    if isinstance(model.lidar, SimulatedLidarConfig):
        backbone = _small_backbone(model.lidar.backbone)
        lift_splat = _changed(model.lidar.lift_splat, channels=WIDTH // 2)
        smaller["lidar"] = _changed(model.lidar, backbone=backbone, lift_splat=lift_splat, channels=WIDTH)
    elif model.lidar is not None:
        smaller["lidar"] = _changed(model.lidar, **SMALL_PILLARS)
    if model.bottleneck is not None:
        smaller["bottleneck"] = _changed(model.bottleneck, channels=WIDTH, hidden=WIDTH // 2)
    if isinstance(model.bev_encoder, ResNetEncoderConfig):
        smaller["bev_encoder"] = _changed(model.bev_encoder, **SMALL_ENCODER)
    if model.vectors is not None:
        one_to_many = 2 if getattr(model.vectors, "one_to_many", 0) else 0
        few = {"num_queries": 30, "layers": 2, "attention_heads": 4, "one_to_many": one_to_many}
        smaller["vectors"] = _changed(model.vectors, **narrow, **few)
    if model.dense is not None:
        smaller["dense"] = _changed(model.dense, **SMALL_DENSE)
    if model.hd_refiner is not None:
        smaller["hd_refiner"] = _small_refiner(model.hd_refiner)
    if model.auxiliary is not None:
        smaller["auxiliary"] = _changed(model.auxiliary, channels=WIDTH)
    return config.model_copy(update={"model": model.model_copy(update=smaller)})


def _small_backbone(backbone: ImageBackboneConfig) -> Config:
    found = [value for family, value in TRUNKS.items() if family in backbone.model]
    if not found:
        raise ConfigError(
            f"backbone.model {backbone.model} is none of {', '.join(TRUNKS)}, which can be made small; add --full-size"
        )
    size, arguments = found[0]
    return _changed(backbone, image_size=size, arguments=arguments, out_channels=WIDTH, frozen_batch_norm=False)


def _small_refiner(refiner: HDRefinerConfig) -> Config:
    return _changed(
        refiner,
        width=96,
        depth=2,
        heads=3,
        up_channels=WIDTH,
        bev_encoder=_changed(refiner.bev_encoder, **SMALL_ENCODER),
        dense=_changed(refiner.dense, **SMALL_DENSE),
    )


def _changed(section: Config, **values: Any) -> Config:
    """The section with those of the values that it has a field for, checked anew."""
    known = {name: value for name, value in values.items() if name in type(section).model_fields}
    return type(section).model_validate({**section.model_dump(), **known})
