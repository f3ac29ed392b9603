"""Small teachers, coaches and students of MapKD's line, as checkpoints and recipes."""

from collections.abc import Callable
from pathlib import Path

import pytest

from training.config import TrainConfig

Load = Callable[..., TrainConfig]
TERMS = (
    "distillation=["
    "{kind: tgpd, source: teacher, taps: [bev_small, {student: bev_small, source: bev_out}], patches: [2, 3]}, "
    "{kind: msrd, source: teacher, mask: soft}, {kind: msrd, source: coach, weight: 0.5}]"
)


@pytest.fixture
def student(dense_config: Load, saved: Callable[..., Path]) -> Load:
    """The small student with a teacher (LiDAR, SD map, refiner) and a coach (simulated LiDAR); then overrides.

    `alone` leaves out the coach.
    """
    sources = [f"sources.teacher={saved('pmapnet/lidar_sd_hd')}", f"sources.coach={saved('pmapnet/simulated_sd')}"]

    def load(*overrides: str, name: str = "mapkd/3_student", alone: bool = False) -> TrainConfig:
        return dense_config(name, *sources[: 1 if alone else 2], "objective=distillation", TERMS, *overrides)

    return load
