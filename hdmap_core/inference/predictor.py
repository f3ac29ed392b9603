"""Predictor: one observation in, the elements of its map out, with the time of each stage."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from multiprocessing import parent_process
from pathlib import Path
from typing import overload

from torch import Tensor

from hdmap_core.checkpoint import SUFFIX, find_checkpoint
from hdmap_core.elements import MapClass
from hdmap_core.errors import CheckpointError, ConfigError
from hdmap_core.geometry import BEVGrid
from hdmap_core.inference.device_path import DevicePath, read
from hdmap_core.inference.engine import Engine
from hdmap_core.inference.finite import odd_values, usable
from hdmap_core.inference.known_rigs import ADVICE, NUSCENES, difference, trained_through
from hdmap_core.inference.opening import open_engine
from hdmap_core.inference.prediction import Prediction
from hdmap_core.model_io import ModelInput
from hdmap_core.observation import Observation
from hdmap_core.postprocess.decode import elements_of, reduced
from hdmap_core.preprocess import enough_pixels, preprocess

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelInfo:
    """What a consumer may want to know about a running model.

    Attributes:
        model_id: the name and the first 8 digits of the weights' SHA-256.
        camera_names: cameras that the model must have; empty when it takes whatever rig there is.
        image_size: (H, W) to which images are scaled for the network; None when it takes no images of one size.
        points_per_element: points of an element as the vector decoder makes them; 0 when (some) elements come from
            rasters. Published elements may have fewer.
        engine: what runs the network: eager (PyTorch), onnxruntime, openvino ...
        enough_pixels: pixels per degree of images that will do, coarsely decoded; None where it takes all there is,
            exactly.
        score_threshold: below it nothing is published.
        lidar_sweeps: how many LiDAR sweeps the model looks at; 0 for cameras alone.
        sd_map: whether it looks at an SD map.
        engine_why: how the engine came to be chosen, e.g. why a file beside the checkpoint was not taken.
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
    engine: str
    score_threshold: float
    lidar_sweeps: int = 0
    sd_map: bool = False
    engine_why: str = ""
    enough_pixels: float | None = None


@dataclass(frozen=True)
class PreparedInput:
    """What the network takes of an observation, and the observation, whose images nobody needs any more."""

    observation: Observation
    batch: ModelInput
    preprocess_s: float


class Predictor:
    """Preprocess, network, postprocess.

    Args:
        engine: runs the network; all that is known of it is `ModelInput → ModelOutput`.
        device_path: makes its inputs on a GPU; None: `preprocess` does, on the CPU.
    """

    def __init__(self, engine: Engine, device_path: DevicePath | None = None) -> None:
        self.engine = engine
        self.device_path = device_path
        self.config = engine.source.config
        self._rig_was_looked_at = False
        model, decoding, source = self.config.model, self.config.decode, engine.source
        from_vectors = decoding.heads_of(model.classes) == ["vectors"]
        self.info = ModelInfo(
            model_name=model.name,
            model_id=f"{model.name}-{source.sha256[:8]}",
            weights_sha256=source.sha256,
            dataset=str(source.provenance.get("dataset", "")),
            classes=model.classes,
            camera_names=model.image_backbone.cameras if model.image_backbone else (),
            image_size=model.image_backbone.image_size if model.image_backbone else None,
            points_per_element=model.vectors.num_points if from_vectors and model.vectors else 0,
            grid=model.grid,
            precision=engine.precision,
            device=engine.device,
            engine=engine.name,
            engine_why=engine.why,
            score_threshold=decoding.score_threshold,
            lidar_sweeps=model.lidar_sweeps,
            sd_map=model.sd_prior is not None,
            enough_pixels=enough_pixels(model),
        )

    @property
    def decoder(self) -> Callable[..., Mapping[str, Tensor]] | None:
        """What decodes JPEG files on the GPU where the network is, see `DevicePath.decode`; None: nothing does."""
        return None if self.device_path is None else self.device_path.decode

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
        if self.device_path is None:
            batch = preprocess(observation, self.config.model, pool)
        else:
            batch = self.device_path.inputs(observation)
        bare = replace(observation, images=(None,) * len(observation.images), device_images=())
        return PreparedInput(bare, batch, time.perf_counter() - started)

    def complete(self, prepared: PreparedInput) -> Prediction:
        """The second half of `predict`: network and postprocessing. A GPU is waited for once, at the network's end.

        Raises:
            ModelOutputError: if the network's output cannot be used at all, see `usable`.
        """
        observation, batch = prepared.observation, prepared.batch
        decoding, classes, grid = self.config.decode, self.info.classes, self.info.grid
        started = time.perf_counter()
        output = self.engine(batch)
        left = reduced(output, decoding, classes=classes, grid=grid) | {"odd": odd_values(output)}
        if output.dense is not None:
            left["raster"] = output.dense.semantic[0].argmax(dim=0).byte()
        found = read(left)
        not_finite = usable(found["odd"])
        inferred = time.perf_counter()
        elements = elements_of(found, decoding, classes=classes, grid=grid)
        ended = time.perf_counter()
        stages = {"preprocess": prepared.preprocess_s, "network": inferred - started, "postprocess": ended - inferred}
        return Prediction(
            elements,
            {name: 1e3 * seconds for name, seconds in stages.items()},
            found.get("raster"),
            token=observation.token,
            stamp_ns=observation.stamp_ns,
            map_from_ego=observation.map_from_ego,
            map_origin=observation.map_origin,
            grid=self.info.grid,
            not_finite=not_finite,
        )

    def _check_cameras(self, observation: Observation) -> None:
        names, wanted = observation.rig.names, self.info.camera_names
        if wanted and not set(wanted) & set(names):
            raise ConfigError(
                f"{self.info.model_name} was made for the cameras {', '.join(wanted)}; observation "
                f"{observation.token!r} has {', '.join(names)}: name the cameras of the rig as the model does"
            )
        if not self._rig_was_looked_at:
            self._rig_was_looked_at = True
            known = trained_through(self.engine.source.provenance) or [NUSCENES]
            told = difference(observation.rig, known)
            if told is not None and parent_process() is None:  # a worker's parent says it
                _log.warning("%s has never seen a rig like this (%s); %s", self.info.model_name, told, ADVICE)


def load_predictor(
    path: str | Path | None = None,
    device: str = "auto",
    precision: str | None = None,
    head: str | None = None,
    *,
    engine: str = "auto",
    cameras_only: bool = False,
) -> Predictor:
    """A predictor from a checkpoint, or from what `hdmap export` made of one.

    Args:
        path: a checkpoint, what `hdmap export` made of one (`.pt2` and `.engine` run native code: docs/engines.md), or
            a run folder (its best checkpoint, else its last); by default the shipped student.
        device: `auto` (CUDA where there is one), `cpu`, `cuda`, `cuda:1` ...
        precision: `fp32`, `fp16` (PyTorch on CUDA) or `bf16` (also OpenVINO); by default fp16 for PyTorch on CUDA and
            fp32 elsewhere.
        head: publish this head instead of the one that the checkpoint names.
        engine: see `open_engine`.
        cameras_only: the model will see images and nothing else; refuse one that looks at LiDAR or an SD map.

    Raises:
        CheckpointError: if the file cannot be used, or is an HD-map refiner by itself.
        ConfigError: if device, precision, head or engine cannot be had, or cameras are not enough.
        MissingDependencyError: if the engine's runtime is not installed.
    """
    path = default_weights() if path is None else find_checkpoint(path)
    running = open_engine(path, device, precision, head, engine)
    predictor = Predictor(running, DevicePath.checked(running))
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
