"""A small synthetic nuScenes folder, and keyframes without any folder."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import yaml
from shapely import MultiPolygon, box

from hdmap_core.checkpoint import CheckpointConfig, save_checkpoint
from hdmap_core.config import load_config
from hdmap_core.datasets.synthetic.presets import PRESETS
from hdmap_core.datasets.synthetic.writer import write_dataset
from hdmap_core.elements import MapClass, MapElement
from hdmap_core.geometry import BEVGrid, CameraRig, se3
from hdmap_core.model_io import ModelInput
from hdmap_core.models import build_model
from hdmap_core.observation import Observation
from hdmap_core.preprocess import ground_grid, preprocess
from training.config import TrainConfig
from training.data.keyframes import Keyframe
from training.evaluation import predictions
from training.overfit import prepared, shrunk

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "config" / "recipes" / "tiny" / "ground.yaml"
MAPFM = ROOT / "config" / "recipes" / "mapfm" / "resnet50.yaml"


@pytest.fixture(scope="session")
def synthetic_root(folder_made_once: Callable[..., Path]) -> Path:
    """Two towns, train and val, of two keyframes each; small images, no LiDAR files."""
    config = PRESETS["tiny"].model_copy(update={"keyframes": 2, "image_size": (90, 160), "lidar": "none"})
    return folder_made_once("synthetic/town", lambda root: write_dataset(root, config, 1))


@pytest.fixture(scope="session")
def recipe() -> Path:
    """The tiny recipe."""
    return RECIPE


@pytest.fixture(scope="session")
def ddp_worker(load_module: Callable[[Path], ModuleType]) -> ModuleType:
    """The script that trains without batch norms, as a module."""
    return load_module(Path(__file__).with_name("ddp_worker.py"))


@pytest.fixture(scope="session")
def tiny_config() -> Callable[..., TrainConfig]:
    """The tiny recipe, made smaller still, with overrides."""

    def load(*overrides: str) -> TrainConfig:
        smaller = (
            *("model.grid.x_range=[-7.2, 7.2]", "model.grid.y_range=[-4.8, 4.8]", "model.vectors.num_queries=6"),
            *("model.vectors.num_points=5", "optim.batch_size=2", "optim.warmup_steps=3", "optim.steps=20"),
            *("log_every=4", "save_every=8", "evaluate_every=10", "evaluate_frames=3"),
            *("optim.lr=1.5e-3", "optim.ema=0.999", "decode.head=vectors"),
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


@pytest.fixture
def image_config() -> Callable[..., TrainConfig]:
    """MapFM on a narrow ResNet, with every auxiliary head; then overrides."""

    def load(*overrides: str) -> TrainConfig:
        backbone = (
            "{model: resnet18.tv_in1k, image_size: [64, 96], features: [2, 3, 4], aggregation: cnn, out_channels: 16, "
            "frozen_batch_norm: false, arguments: {layers: [1, 1, 1, 1], channels: [8, 12, 16, 16]}}"
        )
        smaller = (
            *("model.grid.x_range=[-9, 9]", "model.grid.y_range=[-6, 6]", "model.grid.resolution=1.0"),
            *(f"model.backbone={backbone}", "model.view_transform.channels=16", "model.view_transform.heads=4"),
            *("model.view_transform.feedforward=32", "model.view_transform.layers=1", "model.view_transform.dropout=0"),
            *("model.vectors.num_queries=6", "model.vectors.num_points=5", "model.vectors.channels=16"),
            *("model.vectors.attention_heads=4", "model.vectors.feedforward=32", "model.vectors.dropout=0"),
            *("model.vectors.layers=2", "model.vectors.one_to_many=2", "loss.repeats=2"),
            *("model.auxiliary.channels=8", "model.auxiliary.depth={min_depth: 1, max_depth: 9, bin_size: 2}"),
            *("optim.batch_size=4", "optim.steps=20", "optim.warmup_steps=3", "optim.precision=32-true"),
        )
        return load_config(TrainConfig, MAPFM, [*smaller, *overrides])

    return load


@pytest.fixture
def image_keyframes() -> Callable[[TrainConfig], list[Keyframe]]:
    """Four frames of a camera ahead and one behind, over noise with a bright line where the divider lies."""

    def make(config: TrainConfig) -> list[Keyframe]:
        rig = camera_rig()
        frames = []
        for number, y in enumerate((-3.2, -1.1, 0.8, 2.9)):
            random = np.random.default_rng(number)
            ends = np.array([[-9.0, y - 0.5], [9.0, y + 0.5]])
            crossing = np.array([[3.0, y - 2], [5, y - 2], [5, y + 2], [3, y + 2]])
            images = tuple(painted(rig, camera, ends, random) for camera in range(2))
            inputs = preprocess(Observation(images, rig, stamp_ns=0, token="a"), config.model)
            elements = [MapElement(MapClass.DIVIDER, ends), MapElement(MapClass.PED_CROSSING, crossing, closed=True)]
            areas = {"drivable_area": MultiPolygon([box(-9, y - 2, 9, y + 2)]), "ped_crossing": MultiPolygon()}
            points = random.uniform([-9, -6, -0.1], [9, 6, 1], (60, 3))
            points = np.pad(points, ((0, 0), (0, 2))).astype(np.float32)
            frames.append(Keyframe(f"frame-{number}", inputs, elements[: 1 + number % 2], areas, points))
        return frames

    return make


@pytest.fixture
def dense_config(sensor_world: Path) -> Callable[..., TrainConfig]:
    """A recipe of HDMapNet or P-MapNet (`pmapnet/lidar_sd`) on `sensor_world`, small enough for a second; overrides.

    `trunk="resnet"` puts a narrow ResNet in the place of EfficientNet-B0, which cannot be made small.
    """

    def load(name: str, *overrides: str, trunk: str = "resnet") -> TrainConfig:
        recipe = load_config(TrainConfig, ROOT / "config" / "recipes" / f"{name}.yaml")
        config = prepared(shrunk(recipe), sensor_world, 2)
        content = config.model_dump(mode="json")
        model = content["model"] | {"grid": BEVGrid((-15.0, 15.0), (-7.5, 7.5), 0.75)}
        for owner in (model, model["lidar"] or {}):
            if owner.get("backbone"):
                owner["backbone"] |= {"image_size": [64, 96], "out_channels": 16}
                if trunk == "resnet":
                    arguments = {"layers": [1, 1, 1, 1], "channels": [8, 8, 8, 8]}
                    owner["backbone"] |= {"model": "resnet18.tv_in1k", "arguments": arguments}
        for owner in (model, model["hd_refiner"] or {}):
            if owner.get("dense") or owner.get("patch"):
                owner["bev_encoder"] |= {"channels": [16, 16, 16]}
            if owner.get("dense"):
                owner["dense"] |= {"channels": 16, "last_channels": 8, "embedding": 4}
        if model["hd_refiner"]:
            model["hd_refiner"] |= {"width": 24, "depth": 1, "heads": 2, "up_channels": 16, "patch": 5}
        if (model["lidar"] or {}).get("kind") == "pillars":
            narrow = {"channels": [16, 16], "convolutions": [1, 1], "point_channels": 8, "fusion_channels": 16}
            model["lidar"] |= narrow | {"out_channels": 16}
        elif model["lidar"]:
            model["lidar"] |= {"channels": 16}
        content["data"] |= {"train": "train", "val": "val", "workers": 1, "keep_inputs": False}
        content["optim"] |= {"batch_size": 2, "warmup_steps": 0}
        content |= {"model": model, "log_every": 1, "save_every": 100, "evaluate_every": 100, "evaluate_frames": 2}
        content["masking"] = {"blocks": [4]}
        small = TrainConfig.model_validate(content)
        path = sensor_world.parent / f"{name.replace('/', '-')}-{trunk}.yaml"
        path.write_text(yaml.safe_dump(small.model_dump(mode="json")))
        return load_config(TrainConfig, path, list(overrides))

    return load


@pytest.fixture
def saved(dense_config: Callable[..., TrainConfig], tmp_path: Path) -> Callable[..., Path]:
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
def computed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Tokens that were predicted in this process."""
    tokens: list[str] = []
    original = predictions._predict_piece

    def counted(piece: predictions._Piece) -> dict[str, predictions.Predicted]:
        frames = original(piece)
        tokens.extend(piece.tokens)
        return frames

    monkeypatch.setattr(predictions, "_predict_piece", counted)
    return tokens


def camera_rig() -> CameraRig:
    """One camera ahead, one behind, 1.5 m above the ground and tilted down a little."""
    poses = []
    for yaw in (0.0, np.pi):
        forward, left = np.array([np.cos(yaw), np.sin(yaw), -0.2]), np.array([-np.sin(yaw), np.cos(yaw), 0])
        forward /= np.linalg.norm(forward)
        rotation = np.stack([-left, np.cross(forward, -left), forward], axis=1)
        poses.append(se3.se3(rotation, [0.2 * np.cos(yaw), 0.0, 1.5]))
    intrinsics = np.array([[100.0, 0, 95.5], [0, 100, 63.5], [0, 0, 1]])
    return CameraRig.from_arrays(["AHEAD", "BEHIND"], [intrinsics] * 2, poses, (128, 192))


def painted(rig: CameraRig, camera: int, ends: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """(H, W, 3) uint8: 255 within 25 cm of the straight line between two points on the ground, dark noise elsewhere."""
    rows, columns = np.indices(rig.image_size)
    pixels = np.stack([columns, rows, np.ones_like(rows)], axis=-1)
    pose = rig.ego_from_camera[camera].numpy()
    rays = pixels @ np.linalg.inv(rig.intrinsics[camera].numpy()).T @ pose[:3, :3].T
    down = rays[..., 2] < -1e-3
    ground = pose[:2, 3] - rays[..., :2] * (pose[2, 3] / np.where(down, rays[..., 2], 1))[..., None]
    along = (ends[1] - ends[0]) / np.linalg.norm(ends[1] - ends[0])
    beside = (ground - ends[0]) @ np.array([-along[1], along[0]])
    image = random.integers(1, 60, (*rig.image_size, 3), dtype=np.uint8)
    image[down & (np.abs(beside) < 0.25) & (np.abs(ground[..., 0]) < 9)] = 255
    return image
