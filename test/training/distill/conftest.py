"""Small teachers, coaches and students of MapKD's line, as checkpoints and recipes."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from hdmap_core.checkpoint import CheckpointConfig, save_checkpoint
from hdmap_core.models import build_model
from training.config import TrainConfig

Load = Callable[..., TrainConfig]
TERMS = (
    "distillation=["
    "{kind: tgpd, source: teacher, taps: [bev_small, {student: bev_small, source: bev_out}], patches: [2, 3]}, "
    "{kind: msrd, source: teacher, mask: soft}, {kind: msrd, source: coach, weight: 0.5}]"
)


@pytest.fixture
def saved(dense_config: Load, tmp_path: Path) -> Callable[..., Path]:
    """A random checkpoint of a small recipe, whose weights no other has and whose batch norms have statistics."""

    def save(name: str, *overrides: str) -> Path:
        config = dense_config(name, *overrides)
        number = len(list(tmp_path.glob("*.safetensors")))
        torch.manual_seed(number + 7)
        model = build_model(config.model)
        for buffer_name, buffer in model.named_buffers():
            if buffer_name.endswith("running_mean"):
                buffer.normal_(std=0.1)
        path = tmp_path / f"{config.model.name}-{number}.safetensors"
        save_checkpoint(path, model, CheckpointConfig(model=config.model, decode=config.decode), {})
        return path

    return save


@pytest.fixture
def student(dense_config: Load, saved: Callable[..., Path]) -> Load:
    """The small student with a teacher (LiDAR, SD map, refiner) and a coach (simulated LiDAR); then overrides.

    `alone` leaves out the coach.
    """
    sources = [f"sources.teacher={saved('pmapnet/lidar_sd_hd')}", f"sources.coach={saved('pmapnet/simulated_sd')}"]

    def load(*overrides: str, name: str = "mapkd/3_student", alone: bool = False) -> TrainConfig:
        return dense_config(name, *sources[: 1 if alone else 2], "objective=distillation", TERMS, *overrides)

    return load
