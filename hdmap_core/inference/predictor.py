"""Predictor: one observation in, the elements of its map out, with the time of each stage."""

import time
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast, get_args, overload

import torch

from hdmap_core.checkpoint import SUFFIX, Checkpoint, find_checkpoint, load_checkpoint
from hdmap_core.elements import MapClass
from hdmap_core.errors import CheckpointError, ConfigError
from hdmap_core.geometry import BEVGrid
from hdmap_core.inference.prediction import Prediction
from hdmap_core.model_io import ModelInput
from hdmap_core.models.heads.dense import DenseHeads
from hdmap_core.models.lidar.pillars import PillarsConfig
from hdmap_core.observation import Observation
from hdmap_core.postprocess import Head
from hdmap_core.postprocess.decode import decode
from hdmap_core.preprocess import enough_pixels, preprocess


@dataclass(frozen=True)
class ModelInfo:
    """What a consumer may want to know about a running model.

    Attributes:
        model_id: the name and the first 8 digits of the weights' SHA-256.
        camera_names: cameras that the model must have; empty when it takes whatever rig there is.
        image_size: (H, W) to which images are scaled for the network; None when it takes no images of one size.
        points_per_element: points of an element as the vector decoder makes them; 0 when (some) elements come from
            rasters. Published elements may have fewer.
        enough_pixels: (H, W) of images that will do; None where it takes all there is.
        score_threshold: below it nothing is published.
        lidar_sweeps: how many LiDAR sweeps the model looks at; 0 for cameras alone.
        sd_map: whether it looks at an SD map.
    """

    model_name: str
    model_id: str
    weights_sha256: str
    dataset: str
    classes: tuple[MapClass, ...]
    camera_names: tuple[str, ...]
    image_size: tuple[int, int] | None
    points_per_element: int
    grid: BEVGrid
    precision: str
    device: str
    score_threshold: float
    lidar_sweeps: int = 0
    sd_map: bool = False
    enough_pixels: tuple[int, int] | None = None


@dataclass(frozen=True)
class PreparedInput:
    """What the network takes of an observation, and the observation, whose images nobody needs any more."""

    observation: Observation
    batch: ModelInput
    preprocess_s: float


class Predictor:
    """Preprocess, network, postprocess.

    Args:
        checkpoint: a loaded checkpoint; heads whose elements nobody publishes are taken out of its model.
        device: where the network runs.
        precision: `fp32`, or `fp16` for autocast on CUDA.
    """

    def __init__(self, checkpoint: Checkpoint, device: torch.device, precision: str) -> None:
        self.config = checkpoint.config
        self.device = device
        self.model = checkpoint.model.to(device)
        model, decoding = self.config.model, self.config.decode
        published = {decoding.head_of(label) for label in model.classes}
        from_vectors = published == {"vectors"}
        if "vectors" not in published:  # what nobody reads is not computed
            self.model.vector_head = None
        if "masks" not in published:
            self.model.segmentation_head = None
        if model.hd_refiner is not None and isinstance(self.model.dense_heads, DenseHeads):
            self.model.dense_heads.only_semantic()
        self.info = ModelInfo(
            model_name=model.name,
            model_id=f"{model.name}-{checkpoint.sha256[:8]}",
            weights_sha256=checkpoint.sha256,
            dataset=str(checkpoint.provenance.get("dataset", "")),
            classes=model.classes,
            camera_names=model.image_backbone.cameras if model.image_backbone else (),
            image_size=model.image_backbone.image_size if model.image_backbone else None,
            points_per_element=model.vectors.num_points if from_vectors and model.vectors else 0,
            grid=model.grid,
            precision=precision,
            device=str(device),
            score_threshold=decoding.score_threshold,
            lidar_sweeps=model.lidar.sweeps if isinstance(model.lidar, PillarsConfig) else 0,
            sd_map=model.sd_prior is not None,
            enough_pixels=enough_pixels(model),
        )

    @overload
    def predict(self, observation: Observation) -> Prediction: ...
    @overload
    def predict(self, observation: Sequence[Observation]) -> list[Prediction]: ...
    def predict(self, observation: Observation | Sequence[Observation]) -> Prediction | list[Prediction]:
        """The map around the car; cameras whose image is None count as unseen.

        Args:
            observation: one, or several in a list; each is predicted by itself.

        Raises:
            ImageError: if the images are not those that the observation's rig speaks of; the message names the camera.
            ConfigError: if the rig has none of the cameras that the model was made for.
            TypeError: for anything else than observations.
        """
        if isinstance(observation, Observation):
            return self.complete(self.prepare(observation))
        if not isinstance(observation, list | tuple):
            raise TypeError(f"predict takes an Observation or a list of them, not {type(observation).__name__}")
        return [self.predict(each) for each in observation]

    def prepare(self, observation: Observation, pool: Executor | None = None) -> PreparedInput:
        """The first half of `predict`, before the network; may run beside the second half of another observation.

        Args:
            observation: one.
            pool: threads that share the cameras.

        Raises:
            ImageError, ConfigError: as `predict`.
        """
        self._check_cameras(observation)
        started = time.perf_counter()
        batch = preprocess(observation, self.config.model, pool)
        bare = replace(observation, images=(None,) * len(observation.images))
        return PreparedInput(bare, batch, time.perf_counter() - started)

    def complete(self, prepared: PreparedInput) -> Prediction:
        """The second half of `predict`: network and postprocessing."""
        observation, batch = prepared.observation, prepared.batch
        started = time.perf_counter()
        with (
            torch.inference_mode(),
            torch.autocast(self.device.type, torch.float16, enabled=self.info.precision == "fp16"),
        ):
            output = self.model(batch.to(self.device))
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
        inferred = time.perf_counter()
        elements = decode(output, self.config.decode, classes=self.info.classes, grid=self.info.grid)
        ended = time.perf_counter()
        stages = {"preprocess": prepared.preprocess_s, "network": inferred - started, "postprocess": ended - inferred}
        raster = None if output.dense is None else output.dense.semantic[0].argmax(dim=0).byte().cpu().numpy()
        return Prediction(
            elements,
            {name: 1e3 * seconds for name, seconds in stages.items()},
            raster,
            token=observation.token,
            stamp_ns=observation.stamp_ns,
            map_from_ego=observation.map_from_ego,
            map_origin=observation.map_origin,
            grid=self.info.grid,
        )

    def _check_cameras(self, observation: Observation) -> None:
        names, wanted = observation.rig.names, self.info.camera_names
        if wanted and not set(wanted) & set(names):
            raise ConfigError(
                f"{self.info.model_name} was made for the cameras {', '.join(wanted)}; observation "
                f"{observation.token!r} has {', '.join(names)}: name the cameras of the rig as the model does"
            )


def load_predictor(
    path: str | Path | None = None,
    device: str = "auto",
    precision: str | None = None,
    head: str | None = None,
    *,
    cameras_only: bool = False,
) -> Predictor:
    """A predictor from a checkpoint file.

    Args:
        path: a `.safetensors` file or a run folder (its best checkpoint, else its last); by default the shipped
            student.
        device: `auto` (CUDA where there is one), `cpu`, `cuda`, `cuda:1` ...
        precision: `fp32` or `fp16`; by default fp16 on CUDA and fp32 elsewhere.
        head: publish this head instead of the one that the checkpoint names.
        cameras_only: the model will see images and nothing else; refuse one that looks at LiDAR or an SD map.

    Raises:
        CheckpointError: if the checkpoint cannot be used, or is an HD-map refiner by itself.
        ConfigError: if device, precision or head cannot be had, or cameras are not enough.
    """
    place = _device(device)
    precision = precision or ("fp16" if place.type == "cuda" else "fp32")
    if precision not in ("fp32", "fp16") or (precision == "fp16" and place.type != "cuda"):
        raise ConfigError(f"precision {precision!r} on {place}: use fp32 anywhere, or fp16 on cuda")
    path = default_weights() if path is None else find_checkpoint(path)
    checkpoint = load_checkpoint(path)
    if checkpoint.config.model.view_transform is None:
        raise CheckpointError(
            f"{path} is an HD-map refiner by itself, which looks at no sensor; give the model that was trained from it "
            "(start.hd_refiner)"
        )
    if head is not None:
        if head not in get_args(Head):
            raise ConfigError(f"head {head!r}: use {' or '.join(get_args(Head))}")
        decoding = checkpoint.config.decode.only(cast(Head, head))
        config = checkpoint.config.model_copy(update={"decode": decoding})
        checkpoint = Checkpoint(checkpoint.model, config, checkpoint.provenance, checkpoint.sha256)
    predictor = Predictor(checkpoint, place, precision)
    is_read = {"LiDAR": predictor.info.lidar_sweeps > 0, "an SD map": predictor.info.sd_map}
    others = " and ".join(name for name, read in is_read.items() if read)
    if cameras_only and others:
        raise ConfigError(
            f"{path} looks at {others} as well, but here are only cameras; give a model of cameras alone, "
            "e.g. one distilled from it"
        )
    return predictor


def default_weights() -> Path:
    """The student that ships with the package.

    Raises:
        CheckpointError: if the package was installed without it.
    """
    path = Path(__file__).parents[1] / "weights" / f"student{SUFFIX}"
    if not path.is_file():
        raise CheckpointError(
            f"the shipped student is missing at {path}; name a checkpoint, or install the package again"
        )
    return path


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device: torch.device | None
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise ConfigError(f"device {name!r}: use auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"device {name!r} asked for, but {torch.cuda.device_count()} CUDA devices are there")
    return device
