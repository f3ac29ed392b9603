import io
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError
from rich.console import Console

from hdmap_core.checkpoint import load_checkpoint
from training.config import TrainConfig
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
