import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from rich.console import Console

from hdmap_core.checkpoint import load_checkpoint
from hdmap_core.errors import DatasetError
from hdmap_core.preprocess import preprocess
from training.config import TrainConfig
from training.data.recipe_keyframes import recipe_keyframes
from training.fit.provenance import provenance_of
from training.train import train


def test_a_run_trains_on_all_of_its_folders(
    tiny_config: Callable[..., TrainConfig], synthetic_root: Path, tmp_path: Path
) -> None:
    second = tmp_path / "second"
    shutil.copytree(synthetic_root, second, ignore=shutil.ignore_patterns("cache"))
    config = tiny_config(f"data.root={synthetic_root}", f"data.more=[{second}, {second}]", "optim.steps=2")
    said = io.StringIO()
    train(config, tmp_path / "run", Console(file=said, width=200))
    assert "6 training and 2 validation keyframes" in said.getvalue()
    provenance = load_checkpoint(tmp_path / "run/checkpoints/last.safetensors").provenance
    assert provenance["dataset"] == f"{synthetic_root.name} + second + second"
    assert provenance["train_keyframes"] == 6


def test_what_is_kept_of_sources_is_of_one_folder(tiny_config: Callable[..., TrainConfig]) -> None:
    with pytest.raises(ValidationError, match=r"data\.keep_sources is for one folder"):
        TrainConfig.model_validate(
            tiny_config().model_dump() | {"data": {"root": "a", "more": ["b"], "keep_sources": True}}
        )


def test_every_keyframe_counts_once_with_each_ground(
    sensor_world: Path, tiny_config: Callable[..., TrainConfig]
) -> None:
    config = tiny_config(f"data.root={sensor_world}", "data.grounds=[lidar, poses]", "data.workers=1")
    parts, training, validation = recipe_keyframes(config, {})
    lidar, poses = parts
    assert lidar.tokens.tolist() == poses.tokens.tolist() and len(training) == 2 * len(lidar)
    assert lidar.lidar_ground and validation.lidar_ground and not poses.lidar_ground
    token = str(lidar.tokens[0])
    for part in parts:
        seen = part.dataset.observation(token, points=False, lidar_ground=part.lidar_ground)
        expected = preprocess(seen, config.model).ground
        assert expected is not None and part.inputs and torch.equal(part[0].inputs.ground, expected)
    names = provenance_of(config, parts, {})["dataset"]
    assert names == f"{sensor_world.name} (ground by LiDAR) + {sensor_world.name}"
    assert not torch.equal(lidar[0].inputs.ground, poses[0].inputs.ground)


@pytest.mark.parametrize("keep_inputs", ["true", "false"])
def test_a_ground_from_lidar_needs_lidar(
    synthetic_root: Path, tiny_config: Callable[..., TrainConfig], keep_inputs: str
) -> None:
    wanted = f"data.keep_inputs={keep_inputs}", "data.grounds=[lidar]", "data.workers=1"
    with pytest.raises(DatasetError, match="LiDAR is to show the ground, but the sweep of sample"):
        recipe_keyframes(tiny_config(f"data.root={synthetic_root}", *wanted), {})


def test_preparing_for_a_recipe_prepares_every_ground(
    hdmap: Callable[..., Any], sensor_world: Path, recipe: Path, tmp_path: Path
) -> None:
    text = recipe.read_text().replace("data:\n", "data:\n  grounds: [poses, lidar]\n")
    (tmp_path / "grounds.yaml").write_text(text)
    arguments = "prepare", sensor_world, "--recipe", tmp_path / "grounds.yaml", "--split", "train", "--workers", 1
    ended = hdmap(*arguments, "--cache", tmp_path / "stores")
    assert ended.code == 0, ended.err
    assert ended.out.count("by LiDAR") == 1
    assert len(list((tmp_path / "stores").glob("train-*/complete"))) == 2
