"""Models that look at LiDAR and an SD map: what they do where there is none, and who refuses them."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hdmap_core.checkpoint import CheckpointConfig, save_checkpoint
from hdmap_core.errors import CheckpointError, ConfigError
from hdmap_core.geometry import BEVGrid, CameraRig, se3
from hdmap_core.inference import Prediction, Predictor, load_predictor
from hdmap_core.model_io import ModelInput
from hdmap_core.models import ModelConfig, build_model
from hdmap_core.observation import Observation
from hdmap_core.postprocess import DecodeConfig
from hdmap_core.preprocess import preprocess

GRID = BEVGrid((-6.0, 6.0), (-3.0, 3.0), 0.3)
BACKBONE: dict[str, Any] = {
    "model": "resnet18.tv_in1k",
    "image_size": (32, 64),
    "cameras": ("AHEAD",),
    "features": (-1,),
    "out_channels": 8,
    "arguments": {"layers": [1, 1, 1, 1], "channels": [8, 8, 8, 8]},
}
PILLARS = {"kind": "pillars", "sweeps": 2, "point_channels": 8, "channels": (8,), "convolutions": (1,)}
SD = {"channels": 8, "heads": 2, "layers": 1, "sd_channels": (4, 8)}
ROAD = np.array([[-30.0, 1.0], [30.0, 1.0]], np.float32)
Save = Callable[..., Path]


@pytest.fixture
def saved(tmp_path: Path) -> Save:
    """A checkpoint of a small model of dense heads, without any weight at its start."""

    def save(**slots: Any) -> Path:
        small = {"channels": 8, "last_channels": 8, "embedding": 4, "directions": 8}
        model = ModelConfig.model_validate(
            {
                "name": "small",
                "grid": GRID,
                "backbone": BACKBONE,
                "view_transform": {"kind": "mlp_ipm"},
                "bev_encoder": {"kind": "resnet18", "channels": (8, 8), "blocks": (1, 1)},
                "vectors": None,
                "segmentation": None,
                "dense": small,
                **slots,
            }
        )
        config = CheckpointConfig(model=model, decode=DecodeConfig(head="dense", score_threshold=0.0))
        torch.manual_seed(0)
        network = build_model(model)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter += 0.2 * torch.randn_like(parameter)
        path = tmp_path / "model.safetensors"
        save_checkpoint(path, network, config, {})
        return path

    return save


@pytest.fixture
def predictor(saved: Save) -> Predictor:
    return load_predictor(saved(lidar={**PILLARS, "fusion_channels": 8, "out_channels": 8}, sd_prior=SD), "cpu")


def observation() -> Observation:
    random = np.random.default_rng(0)
    pose = se3.se3(np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]]), [-3.0, 0.0, 1.5])
    rig = CameraRig.from_arrays(["AHEAD"], [np.array([[60.0, 0, 49.5], [0, 60, 20], [0, 0, 1]])], [pose], (60, 100))
    image = random.integers(0, 256, (60, 100, 3), dtype=np.uint8)
    points = random.uniform([-6, -3, -1, 0, 0], [6, 3, 2, 255, 31], (500, 5)).astype(np.float32)
    age = np.repeat(np.array([0, 0.05], np.float32), 250)
    return Observation((image,), rig, 0, "a", points=points, sd_lines=(ROAD,), point_age_s=age)


def said(predictor: Predictor, seen: Observation) -> tuple[Prediction, torch.Tensor]:
    """The published elements, and the logits behind them."""
    with torch.inference_mode():
        output = predictor.engine.model(preprocess(seen, predictor.config.model))
    assert output.dense is not None
    for raster in (output.dense.semantic, output.dense.embedding, output.dense.direction):
        assert raster.isfinite().all()
    prediction = predictor.predict(seen)
    assert prediction.raster is not None and prediction.raster.shape == GRID.shape
    assert prediction.raster.dtype == np.uint8 and prediction.raster.max() <= 3
    assert all(np.isfinite(e.points).all() and math.isfinite(e.score) for e in prediction.elements)
    return prediction, output.dense.semantic


def test_info_says_what_it_looks_at(predictor: Predictor) -> None:
    assert (predictor.info.lidar_sweeps, predictor.info.sd_map) == (2, True)
    assert (predictor.info.image_size, predictor.info.points_per_element) == ((32, 64), 0)


def test_without_a_sweep_it_is_an_empty_one(predictor: Predictor) -> None:
    whole = said(predictor, observation())[1]
    nothing = said(predictor, replace(observation(), points=None, point_age_s=None))[1]
    empty = replace(observation(), points=np.zeros((0, 5), np.float32), point_age_s=np.zeros(0, np.float32))
    far = replace(observation(), points=observation().points + np.float32(1000))
    assert torch.equal(said(predictor, empty)[1], nothing)
    assert torch.equal(said(predictor, far)[1], nothing), "points outside of the grid are none"
    assert not torch.allclose(whole, nothing, atol=1e-3)


def test_points_without_ages_are_of_now(predictor: Predictor) -> None:
    now = replace(observation(), point_age_s=np.zeros(500, np.float32))
    assert torch.equal(said(predictor, replace(now, point_age_s=None))[1], said(predictor, now)[1])
    assert not torch.equal(said(predictor, now)[1], said(predictor, observation())[1]), "the age is looked at"


def test_without_an_sd_map_there_is_no_road(predictor: Predictor) -> None:
    whole = said(predictor, observation())[1]
    nothing = said(predictor, replace(observation(), sd_lines=None))[1]
    assert torch.equal(said(predictor, replace(observation(), sd_lines=()))[1], nothing)
    elsewhere = replace(observation(), sd_lines=(ROAD + np.float32(5000),))
    assert torch.equal(said(predictor, elsewhere)[1], nothing), "the car is outside of the map"
    assert not torch.allclose(whole, nothing, atol=1e-3)


def test_nothing_at_all_is_still_an_answer(predictor: Predictor) -> None:
    blind = replace(observation(), images=(None,), points=None, sd_lines=None, point_age_s=None)
    first, second = said(predictor, blind)[1], said(predictor, blind)[1]
    assert torch.equal(first, second)


@pytest.mark.parametrize(
    ("slots", "others"),
    [
        ({"lidar": PILLARS}, "looks at LiDAR as well"),
        ({"sd_prior": SD}, "looks at an SD map as well"),
        ({"lidar": PILLARS, "sd_prior": SD}, "looks at LiDAR and an SD map as well"),
    ],
)
def test_cameras_are_not_enough(saved: Save, slots: dict[str, Any], others: str) -> None:
    path = saved(**slots)
    load_predictor(path, "cpu")
    with pytest.raises(ConfigError, match=f"{others}, but here are only cameras"):
        load_predictor(path, "cpu", cameras_only=True)


def test_cameras_are_enough_for_simulated_lidar(saved: Save) -> None:
    lidar = {"kind": "simulated", "backbone": BACKBONE, "lift_splat": {"channels": 8}, "channels": 8}
    predictor = load_predictor(saved(lidar=lidar), "cpu", cameras_only=True)
    assert (predictor.info.lidar_sweeps, predictor.info.sd_map) == (0, False)
    said(predictor, replace(observation(), points=None, sd_lines=None, point_age_s=None))


def test_a_refiner_by_itself_predicts_nothing(saved: Save) -> None:
    refiner = {"width": 8, "depth": 1, "heads": 2, "up_channels": 8, "patch": 5}
    slots = dict.fromkeys(("backbone", "view_transform", "bev_encoder", "dense"))
    path = saved(**slots, hd_refiner=refiner)
    with pytest.raises(CheckpointError, match=r"refiner by itself.*start\.hd_refiner"):
        load_predictor(path, "cpu")
    model = build_model(ModelConfig(name="x", grid=GRID, vectors=None, segmentation=None, hd_refiner=refiner, **slots))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"ModelInput\.semantic"):
        model(ModelInput())
