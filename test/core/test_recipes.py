"""Every recipe parses, builds, says in its head what to run, and an ablation changes what it is about and no more."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from hdmap_core.config import load_config
from hdmap_core.models import build_model
from hdmap_core.models.backbones.image_backbone import ImageBackbone
from hdmap_core.models.map_model import MapModel

TrainConfig = pytest.importorskip("training.config", reason="colcon installs no `training`; see make test").TrainConfig

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "config" / "recipes"
RECIPES = sorted(FOLDER.rglob("*.yaml"))
PAPERS = [path for path in RECIPES if path.parent.name in ("mapqr", "mapfm")]
TRAIN_KEYFRAMES = 28_130
# An ablation: recipe, the one it is compared with, and all fields that differ beside the name.
ABLATIONS = [
    ("mapqr/resnet50_unmasked", "mapqr/resnet50", {"model.vectors.separate_groups"}),
    ("mapqr/resnet50_110ep", "mapqr/resnet50", {"optim.steps"}),
    (
        "mapqr/maptr_sgq_bevformer",
        "mapqr/maptr_sgq_gkt",
        {"model.view_transform.cross_attention", "model.view_transform.kernel_size"},
    ),
    (
        "mapqr/maptr_sgq_gkt_h",
        "mapqr/maptr_sgq_gkt",
        {"model.view_transform.cross_attention", "model.view_transform.kernel_size"},
    ),
    *((f"mapqr/maptr_sgq_gkt_{n}", "mapqr/maptr_sgq_gkt", {"model.vectors.num_queries"}) for n in (50, 75, 125)),
    *(
        (f"mapfm/{name}_no_arss", f"mapfm/{name}", {"model.auxiliary.surface"})
        for name in ("resnet50", "swin_tiny", "dinov2_small", "dinov2_base", "radio_base")
    ),
    ("mapfm/resnet50_no_arss", "mapqr/resnet50", set()),  # MapFM's baseline is MapQR
    ("mapfm/dinov2_base", "mapfm/dinov2_small", {"model.backbone.model"}),
    ("mapfm/dinov2_small_frozen", "mapfm/dinov2_small", {"model.backbone.tuning"}),
    ("mapfm/dinov2_small_last_block", "mapfm/dinov2_small", {"model.backbone.tuning"}),
    *(
        (f"mapfm/dinov2_small_{kind}", "mapfm/dinov2_small", {"model.backbone.aggregation", "model.backbone.features"})
        for kind in ("concat", "cnn")
    ),
    ("mapfm/dinov2_small_lean", "mapfm/dinov2_small", {"model.vectors.gather"}),
]


def by_name(path: Path) -> str:
    return str(path.relative_to(FOLDER).with_suffix(""))


def head(path: Path) -> list[str]:
    """The comment that a recipe begins with."""
    lines = path.read_text().splitlines()
    return lines[: next(index for index, line in enumerate(lines) if not line.startswith("#"))]


@cache
def recipe(name: str) -> TrainConfig:
    return load_config(TrainConfig, FOLDER / f"{name}.yaml")


@cache
def model(name: str) -> MapModel:
    """On the meta device: shapes and counts, no memory, no initialisation."""
    with torch.device("meta"):
        return build_model(recipe(name).model)


def fields(value: Any, path: str = "") -> dict[str, Any]:
    """Dotted name -> value of every field."""
    if not isinstance(value, dict):
        return {path: value}
    found: dict[str, Any] = {}
    for key, inner in value.items():
        found |= fields(inner, f"{path}.{key}" if path else key)
    return found


def count(name: str) -> int:
    return sum(parameter.numel() for parameter in model(name).parameters())


def test_how_many() -> None:
    assert {group.name: len(list(group.glob("*.yaml"))) for group in FOLDER.iterdir()} == {
        "hdmapnet": 1,
        "mapfm": 15,
        "mapkd": 7,
        "mapqr": 9,
        "maptr": 4,
        "pmapnet": 10,
        "student": 9,
        "tiny": 1,
    }, "a recipe came or went: change these numbers on purpose"


@pytest.mark.parametrize("path", RECIPES, ids=by_name)
def test_recipe(path: Path) -> None:
    config, built = recipe(by_name(path)), model(by_name(path))
    slots = {"vector_head": "vectors", "segmentation_head": "segmentation", "dense_heads": "dense"}
    slots |= {slot: slot for slot in ("lidar", "sd_prior", "bottleneck", "hd_refiner", "backbone", "view_transform")}
    for slot, chosen in slots.items():
        assert (getattr(built, slot) is None) == (getattr(config.model, chosen) is None)
    assert count(by_name(path)) > 1000
    command = next(line for line in head(path) if line.startswith("# Command:"))
    assert f"hdmap train {path.relative_to(ROOT)} " in f"{command} "


def test_names_are_unique() -> None:
    names = [recipe(by_name(path)).model.name for path in RECIPES]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("path", PAPERS, ids=by_name)
def test_says_what_is_published(path: Path) -> None:
    text = " ".join(line.removeprefix("# ") for line in head(path))
    _, _, published = text.partition("Published:")
    published, hardware, rest = published.partition("Hardware:")
    assert hardware and "Command:" in rest
    assert re.search(r"\d\d\.\d|unverified|not published", published)
    assert len(path.read_text().splitlines()) <= 40


@pytest.mark.parametrize("path", PAPERS, ids=by_name)
def test_published_schedule(path: Path) -> None:
    config = recipe(by_name(path))
    epochs = 110 if "110ep" in path.stem else 24
    optim = config.optim
    assert optim.steps == epochs * (TRAIN_KEYFRAMES // optim.batch_size)
    assert (optim.batch_size, optim.lr, optim.weight_decay, optim.clip_norm) == (32, 6e-4, 0.01, 35)
    assert (optim.warmup_steps, optim.schedule, optim.final_lr, optim.backbone_lr) == (500, "cosine", 1e-3, 0.1)
    assert optim.batch_size == 4 * 8 == 4 * optim.accumulate  # the authors' frames per GPU, on one
    loss = config.loss
    assert (loss.classes, loss.points, loss.direction) == (2.0, 5.0, 0.005)
    assert (loss.auxiliary.bev_lines, loss.auxiliary.image_lines, loss.auxiliary.surface_dice) == (1.0, 2.0, 1.0)
    assert config.decode.head == "vectors"
    assert config.augment.mirror == config.augment.turn == 0


@pytest.mark.parametrize(("name", "other", "expected"), ABLATIONS)
def test_ablation_changes_one_thing(name: str, other: str, expected: set[str]) -> None:
    one, two = (fields(recipe(which).model_dump()) for which in (name, other))
    different = {field for field in one.keys() | two.keys() if one.get(field, ...) != two.get(field, ...)}
    assert different == expected | {"model.name"}


def test_every_published_variant_is_compared() -> None:
    compared = {name for pair in ABLATIONS for name in pair[:2]}
    assert compared == {by_name(path) for path in PAPERS}


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("mapqr/resnet50", 125.3),
        ("mapfm/resnet50", 125.9),
        ("mapfm/swin_tiny", 129.6),
        ("mapfm/dinov2_small", 124.0),
        ("mapfm/dinov2_base", 188.7),
    ],
)
def test_size_of_the_published_models(name: str, millions: float) -> None:
    """Derived counts; docs/results/model_parameters.md explains the rest of 0.2 %."""
    assert count(name) / 1e6 == pytest.approx(millions, rel=2e-3)


def test_size_of_maptr_and_maptrv2() -> None:
    """Counted from the published code's state dicts, without what reads the CAN bus, cameras' names or nothing."""
    can_bus, levels, cameras, weights_of_codes = 35_968, 4 * 256, 6 * 256, 4
    unread, tables, cells = can_bus + levels + cameras + weights_of_codes, 300 * 128, 9
    assert count("maptr/tiny_r50") == 36_193_568 - unread
    assert count("maptr/v2_r50") == 40_578_399 - unread - tables - cells


def test_lean_gather_saves_most_of_the_decoder() -> None:
    assert count("mapfm/dinov2_small") - count("mapfm/dinov2_small_lean") == 6 * (13_831_168 - 344_384)


def test_what_the_tuning_modes_train() -> None:
    trained = {}
    for mode in ("_frozen", "_last_block", ""):
        backbone = model(f"mapfm/dinov2_small{mode}").backbone
        assert isinstance(backbone, ImageBackbone)
        trained[mode] = {name for name, parameter in backbone.trunk.named_parameters() if parameter.requires_grad}
    assert trained["_frozen"] == {"norm.weight", "norm.bias"}
    assert trained["_frozen"] < trained["_last_block"] < trained[""]
    assert {name.split(".")[1] for name in trained["_last_block"] - trained["_frozen"]} == {"11"}


def test_radio_is_fixed() -> None:
    backbone = model("mapfm/radio_base").backbone
    assert isinstance(backbone, ImageBackbone)
    assert not any(parameter.requires_grad for parameter in backbone.trunk.parameters())


def test_tiny_is_the_small_one() -> None:
    assert recipe("tiny/ground").optim.steps <= 1000
    assert count("tiny/ground") < 100_000
