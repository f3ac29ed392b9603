"""A teacher that begins as its student: new inputs add nothing at first, what does not fit is refused."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from hdmap_core.checkpoint import CheckpointConfig, save_checkpoint
from hdmap_core.errors import CheckpointError, ConfigError
from hdmap_core.model_io import ModelInput
from hdmap_core.models import MapModel, build_model
from training.config import TrainConfig
from training.fit.initial_weights import load_initial

Load = Callable[..., TrainConfig]
LIDAR = (
    "model.lidar={kind: pillars, sweeps: 1, point_channels: 8, channels: [8, 8, 8], fusion_channels: 8, "
    "out_channels: 4}"
)
STILL = "augment.turn=0"  # the car's own returns stay where they are
ROADS = "model.sd_prior={channels: 16, sd_channels: [8, 8], layers: 1, heads: 2, feedforward: 16, skip: true}"


@pytest.fixture
def student(tiny_config: Load, tmp_path: Path) -> tuple[MapModel, Path]:
    """A random student of cameras alone, and its file."""
    config = tiny_config()
    torch.manual_seed(3)
    model = build_model(config.model).eval()
    path = tmp_path / "student.safetensors"
    save_checkpoint(path, model, CheckpointConfig(model=config.model, decode=config.decode), {})
    return model, path


def example(config: TrainConfig) -> ModelInput:
    """Ground pixels, some LiDAR points and a road."""
    rows, columns = config.model.grid.shape
    torch.manual_seed(5)
    raster = -torch.ones(1, 1, rows, columns)
    raster[..., rows // 2, :] = 1.0
    return ModelInput(
        ground=torch.randint(0, 256, (1, 4, 2 * rows, 2 * columns), dtype=torch.uint8),
        points=torch.rand(1, 50, 5) * torch.tensor([10.0, 6.0, 2.0, 255.0, 0.0])
        - torch.tensor([5.0, 3.0, 1.0, 0.0, 0.0]),
        point_count=torch.tensor([50]),
        sd_raster=raster,
    )


def masks(model: MapModel, config: TrainConfig) -> torch.Tensor:
    with torch.no_grad():
        output = model.eval()(example(config)).semantic
    assert output is not None
    return output


def test_lidar_beside_a_student_adds_nothing_at_first(tiny_config: Load, student: tuple[MapModel, Path]) -> None:
    narrow, path = student
    config = tiny_config(LIDAR, f"start.narrower={path}", "model.vectors=null", "decode.head=masks", STILL)
    model = build_model(config.model)
    before = masks(model, config)
    (report,) = load_initial(model, config)
    assert "lidar not from there" in report
    assert "its vector_head left out" in report
    assert "zeros for new inputs of bev_encoder." in report
    expected = masks(narrow, config)
    torch.testing.assert_close(masks(model, config), expected)
    assert not torch.allclose(before, expected)


def test_roads_add_little_at_first(tiny_config: Load, student: tuple[MapModel, Path]) -> None:
    narrow, path = student
    config = tiny_config(ROADS, f"start.narrower={path}")
    model = build_model(config.model)
    load_initial(model, config)
    difference = (masks(model, config) - masks(narrow, config)).abs().mean()
    assert 0.0 < difference < 0.1 * masks(narrow, config).std()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.bev_encoder.channels=[24, 16]", "no narrower form of this recipe: it has misshapen"),
        ("model.bev_encoder.blocks=[2, 1]", "no narrower form of this recipe: it lacks"),
        ("model.grid.resolution=0.3", "was trained for model.grid"),
    ],
)
def test_another_network_is_refused(
    override: str, message: str, tiny_config: Load, student: tuple[MapModel, Path]
) -> None:
    config = tiny_config(f"start.narrower={student[1]}", override)
    model = build_model(config.model)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=message):
        load_initial(model, config)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_one_start_for_the_whole_network(tiny_config: Load, student: tuple[MapModel, Path]) -> None:
    with pytest.raises(ConfigError, match="model and narrower"):
        tiny_config(f"start.narrower={student[1]}", f"start.model={student[1]}")
