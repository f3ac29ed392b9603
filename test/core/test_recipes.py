"""Every recipe parses, builds, and says in its head what to run."""

from pathlib import Path

import pytest

from hdmap_core.config import load_config
from hdmap_core.models import build_model
from training.config import TrainConfig

ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted((ROOT / "config" / "recipes").rglob("*.yaml"))


def test_how_many() -> None:
    assert len(RECIPES) == 2, "a recipe came or went: change this number on purpose"


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_recipe(path: Path) -> None:
    config = load_config(TrainConfig, path)
    model = build_model(config.model)
    assert (model.vector_head is None) == (config.model.vectors is None)
    assert (model.segmentation_head is None) == (config.model.segmentation is None)
    assert sum(parameter.numel() for parameter in model.parameters()) > 1000
    head = [line for line in path.read_text().splitlines() if line.startswith("#")]
    command = next(line for line in head if line.startswith("# Command:"))
    assert f"hdmap train {path.relative_to(ROOT)}" in command


def test_tiny_is_the_small_one() -> None:
    tiny = load_config(TrainConfig, ROOT / "config" / "recipes" / "tiny" / "ground.yaml")
    assert tiny.optim.steps <= 100
    assert sum(parameter.numel() for parameter in build_model(tiny.model).parameters()) < 100_000
