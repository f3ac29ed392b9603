"""A small synthetic nuScenes folder, and keyframes without any folder."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from hdmap_core.config import load_config
from hdmap_core.datasets.synthetic.presets import PRESETS
from hdmap_core.datasets.synthetic.writer import write_dataset
from hdmap_core.elements import MapClass, MapElement
from hdmap_core.model_io import ModelInput
from hdmap_core.preprocess import ground_grid
from training.config import TrainConfig
from training.data.keyframes import Keyframe

RECIPE = Path(__file__).resolve().parents[2] / "config" / "recipes" / "tiny" / "ground.yaml"


@pytest.fixture(scope="session")
def synthetic_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two towns, train and val, of two keyframes each; small images, no LiDAR files."""
    root = tmp_path_factory.mktemp("synthetic") / "town"
    config = PRESETS["tiny"].model_copy(update={"keyframes": 2, "image_size": (90, 160), "lidar": "none"})
    write_dataset(root, config, 1, lambda done, total: None)
    return root


@pytest.fixture(scope="session")
def recipe() -> Path:
    """The tiny recipe."""
    return RECIPE


@pytest.fixture
def tiny_config() -> Callable[..., TrainConfig]:
    """The tiny recipe, made smaller still, with overrides."""

    def load(*overrides: str) -> TrainConfig:
        smaller = (
            *("model.grid.x_range=[-7.2, 7.2]", "model.grid.y_range=[-4.8, 4.8]", "model.vectors.num_queries=6"),
            *("model.vectors.num_points=5", "optim.batch_size=2", "optim.warmup_steps=3", "optim.steps=20"),
            *("log_every=4", "save_every=8", "evaluate_every=10", "evaluate_frames=3"),
        )
        return load_config(TrainConfig, RECIPE, [*smaller, *overrides])

    return load


@pytest.fixture
def keyframes() -> Callable[[TrainConfig], list[Keyframe]]:
    """Five frames of noise with a bright divider each."""

    def make(config: TrainConfig) -> list[Keyframe]:
        random = np.random.default_rng(0)
        rows, columns = ground_grid(config.model.grid).shape
        ground = random.integers(1, 60, (5, 4, rows, columns), dtype=np.uint8)
        ground[:, 3] = 255
        frames = []
        for frame in range(5):
            row = 4 + frame * rows // 6
            ground[frame, :3, row - 1 : row + 2] = 230
            y = float(config.model.grid.y_range[0] + (row + 0.5) * config.model.grid.resolution / 2)
            divider = MapElement(MapClass.DIVIDER, np.array([[-7.0, y], [7.0, y]]))
            inputs = ModelInput(ground=torch.from_numpy(ground[frame])[None])
            frames.append(Keyframe(f"frame-{frame}", inputs, [divider], {}))
        return frames

    return make
