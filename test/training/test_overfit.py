"""Recipes made small keep their structure, and the verb says what it found."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from hdmap_core.config import load_config
from hdmap_core.datasets.synthetic.presets import SynthConfig
from hdmap_core.datasets.synthetic.writer import write_dataset
from hdmap_core.errors import ConfigError
from hdmap_core.models import build_model
from training import overfit as module
from training.config import TrainConfig
from training.overfit import Watched, prepared, shrunk

RECIPES = Path(__file__).resolve().parents[2] / "config" / "recipes"
SIZES = {
    *("grid.resolution", "backbone.image_size", "backbone.arguments", "backbone.out_channels"),
    *("backbone.frozen_batch_norm", "auxiliary.channels"),
    *(f"view_transform.{name}" for name in ("channels", "feedforward", "dropout", "layers", "heads", "max_views")),
    *(f"vectors.{name}" for name in ("channels", "feedforward", "dropout", "layers", "attention_heads")),
    *("bottleneck.channels", "bottleneck.hidden"),
    *("vectors.num_queries", "vectors.one_to_many", "bev_encoder.channels", "bev_encoder.blocks"),
    *(f"dense.{name}" for name in ("channels", "last_channels", "line_cells")),
    *(f"lidar.{name}" for name in ("channels", "convolutions", "fusion_channels", "out_channels")),
    *(f"lidar.{name}" for name in ("lift_splat.channels", "backbone.image_size", "backbone.arguments")),
    "lidar.backbone.out_channels",
    *(f"hd_refiner.{name}" for name in ("width", "depth", "heads", "up_channels", "bev_encoder.channels")),
    *(f"hd_refiner.{name}" for name in ("bev_encoder.blocks", "dense.channels", "dense.last_channels")),
    "hd_refiner.dense.line_cells",
}
"""All that may differ between a recipe's model and the small one."""


def fields(value: Any, path: str = "") -> dict[str, Any]:
    """Dotted name -> value; arguments of timm are one value."""
    if not isinstance(value, dict) or path.endswith("backbone.arguments"):
        return {path: value}
    found: dict[str, Any] = {}
    for key, inner in value.items():
        found |= fields(inner, f"{path}.{key}" if path else key)
    return found


@pytest.mark.parametrize("path", sorted(RECIPES.rglob("*.yaml")), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_recipe_made_small_is_of_the_same_structure(path: Path) -> None:
    config = load_config(TrainConfig, path)
    small = shrunk(config)
    before, after = (fields(each.model.model_dump()) for each in (config, small))
    assert before.keys() == after.keys(), "the same slots of the same kinds"
    assert {name for name in before if before[name] != after[name]} <= SIZES
    assert bool(after.get("vectors.one_to_many")) == bool(before.get("vectors.one_to_many"))
    assert small.model_copy(update={"model": config.model}) == config, "nothing but the model"
    assert small.model.view_transform is not None or config.objective == "masked_autoencoder"
    with torch.device("meta"):
        model = build_model(small.model)
    assert sum(parameter.numel() for parameter in model.parameters()) < 12e6  # EfficientNet-B0 stays as it is
    for slot, chosen in {"backbone": "backbone", "vector_head": "vectors", "auxiliary_heads": "auxiliary"}.items():
        assert (getattr(model, slot) is None) == (getattr(config.model, chosen) is None)


@pytest.mark.parametrize("name", ["dinov2_small_frozen", "dinov2_small_last_block", "radio_base"])
def test_a_small_vit_has_the_same_parameters_frozen(name: str) -> None:
    """It keeps all of its blocks, so names can be compared."""
    config = load_config(TrainConfig, RECIPES / "mapfm" / f"{name}.yaml")
    found = []
    for each in (shrunk(config), config):
        with torch.device("meta"):
            backbone = build_model(each.model).backbone
        found.append({n: p.requires_grad for n, p in backbone.trunk.named_parameters()})
    assert found[0] == found[1] and not all(found[0].values())


def test_a_backbone_that_cannot_be_made_small_is_told() -> None:
    config = load_config(
        TrainConfig, RECIPES / "mapfm" / "resnet50.yaml", ["model.backbone.model=convnext_tiny.fb_in1k"]
    )
    with pytest.raises(ConfigError, match=r"convnext_tiny\.fb_in1k is none of resnet, swin, .*vit, .*--full-size"):
        shrunk(config)


def test_prepared_for_learning_by_heart(tmp_path: Path) -> None:
    changes = ["augment.blind=0.3", "optim.accumulate=8", "optim.backbone_lr=0.01", "optim.precision=16-mixed"]
    config = load_config(TrainConfig, RECIPES / "mapfm" / "dinov2_small.yaml", changes)
    ready = prepared(config, tmp_path, 123)
    assert not any(ready.augment.model_dump().values())
    assert ready.data.root == tmp_path and ready.data.train == ready.data.val == "train"
    assert ready.backbone_weights == "random", "nothing is downloaded"
    assert (ready.optim.steps, ready.optim.batch_size, ready.evaluate_frames) == (123, 4, 4)
    assert (ready.optim.accumulate, ready.optim.backbone_lr, ready.optim.precision) == (1, 1.0, "32-true")
    assert ready.model == config.model and ready.loss == config.loss and ready.decode == config.decode
    assert TrainConfig.model_validate(ready.model_dump()) == ready


def test_no_other_folder_of_the_recipe_is_looked_at(tmp_path: Path) -> None:
    config = load_config(TrainConfig, RECIPES / "student" / "grounds.yaml")
    assert config.data.more and len(config.data.grounds) > 1
    ready = prepared(config, tmp_path, 1).data
    assert not ready.more and ready.grounds == ("poses",)


def test_watched_tells_frozen_idle_and_learning_parameters_apart() -> None:
    model = nn.ModuleDict({name: nn.Linear(2, 2) for name in ("frozen", "unused", "dead", "late", "used")})
    model["frozen"].requires_grad_(False)
    watched = Watched(model)

    def names(*parts: str) -> set[str]:
        return {f"{part}.{kind}" for part in parts for kind in ("weight", "bias")}

    assert watched.frozen == names("frozen") and watched.idle == names("unused", "dead", "late", "used")
    x = torch.ones(1, 2)
    for late in (0.0, 1.0):
        y = model["used"](model["frozen"](x)) + 0 * model["dead"](x) + late * model["late"](x)
        y.sum().backward()
        model.zero_grad()
        assert watched.idle == names("unused", "dead", *([] if late else ["late"]))


@pytest.fixture
def tiny_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """The verb's keyframes with images of 45 x 80 and no LiDAR; those of a second call are copies."""
    written: list[Path] = []

    def write(root: Path, preset: SynthConfig) -> None:
        if written and not root.exists():
            shutil.copytree(written[0], root)
        write_dataset(root, preset.model_copy(update={"image_size": (45, 80), "lidar": "none"}))
        written.append(root)

    monkeypatch.setattr(module, "write_dataset", write)


@pytest.mark.slow
@pytest.mark.usefixtures("tiny_images")
def test_the_verb_ends_0_when_learnt_and_1_when_not(hdmap: Callable, recipe: Path, tmp_path: Path) -> None:
    def call(target: float, name: str) -> Any:
        return hdmap(
            *("overfit", recipe, "data.workers=1", "-o", tmp_path / name, "--target", target, "--steps", 3),
        )

    learnt = call(0, "learnt")
    assert learnt.code == 0, learnt.err
    assert "parameters frozen: 0" in learnt.out
    assert re.search(r"^parameters without gradient: \d+", learnt.out, re.MULTILINE)
    assert "4 training and 4 validation keyframes" in learnt.out
    assert re.search(r"^learnt: mAP \d\.\d+, wanted 0", learnt.out, re.MULTILINE)
    missed = call(1.1, "missed")
    assert missed.code == 1 and "NOT learnt" in missed.out and "wanted 1.1" in missed.out
    call(0, "learnt").assert_refused("learnt already holds a run", "-o")
