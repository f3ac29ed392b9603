"""From an image set to the elements of a map: what node and replay share. Knows no ROS graph."""

import time
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from hdmap_core.elements import MapElement
from hdmap_core.errors import ConfigError, HdmapError, ModelOutputError
from hdmap_core.observation import Observation
from hdmap_ros.observing.observation_builder import NotReadyError, ObservationBuilder
from hdmap_ros.observing.set_decoding import DeviceDecoder
from hdmap_ros.sync.image_sets import ImageSet


class Predictor(Protocol):
    """What `hdmap_core.inference.predictor.load_predictor` returns."""

    info: Any

    def prepare(self, observation: Observation, pool: Executor | None = None) -> Any:
        """What comes before the network."""

    def complete(self, prepared: Any) -> Any:
        """Network and postprocessing: a prediction with `.elements`, `.timings_ms` and `.not_finite`."""


@dataclass(frozen=True)
class MapResult:
    """The map of one set.

    Attributes:
        elements: metres, ego frame of `images.stamp_ns`.
        images: the set.
        camera_mask: which cameras were used; one that came but could not be decoded was not.
        timings_ms: stage -> milliseconds.
        observation: what the map was made of; its images last until the set after the next is prepared, and may lie on
            a GPU.
    """

    elements: list[MapElement]
    images: ImageSet
    camera_mask: tuple[bool, ...]
    timings_ms: dict[str, float]
    observation: Observation | None = None


@dataclass(frozen=True)
class PreparedSet:
    """A set on its way to the network."""

    images: ImageSet
    observation: Observation
    inputs: Any
    decode_ms: float


class InferenceError(Exception):
    """The network failed on a set; what it raised is the cause."""


class MapPipeline:
    """Builder and predictor. Two sets may be on their way at once: one in `prepare`, one in `complete`."""

    def __init__(self, builder: ObservationBuilder, predictor: Predictor) -> None:
        self.builder = builder
        self.predictor = predictor
        self._decoder: DeviceDecoder | None = getattr(predictor, "decoder", None)  # of one on a GPU

    def process(self, images: ImageSet) -> MapResult:
        """The map of a set.

        Raises:
            NotReadyError: if too few cameras of the set can be used.
            InferenceError: if the network fails.
        """
        return self.complete(self.prepare(images))

    def prepare(self, images: ImageSet) -> PreparedSet:
        """From bytes to what the network takes; the builder's threads share the cameras.

        Raises:
            NotReadyError: if too few cameras of the set can be used.
            InferenceError: if preprocessing fails, or the GPU that decodes.
        """
        begin = time.perf_counter()
        enough = self.predictor.info.enough_pixels
        with _telling_faults():
            observation = self.builder.build(images, enough, reuse=True, on_device=self._decoder)
        decode_ms = (time.perf_counter() - begin) * 1e3
        with _telling_faults():
            inputs = self.predictor.prepare(observation, self.builder.pool)
        return PreparedSet(images, observation, inputs, decode_ms)

    def complete(self, prepared: PreparedSet) -> MapResult:
        """From what the network takes to a map.

        Raises:
            NotReadyError: if the set is not what the model takes.
            InferenceError: if the network fails.
        """
        return self.result_of(prepared, self.infer(prepared))

    def infer(self, prepared: PreparedSet) -> Any:
        """The network's part of `complete`: touches nothing that `prepare` of another set does.

        Raises:
            NotReadyError, InferenceError: as `complete`.
        """
        with _telling_faults():
            return self.predictor.complete(prepared.inputs)

    def result_of(self, prepared: PreparedSet, prediction: Any) -> MapResult:
        """The rest of `complete`."""
        if prediction.not_finite:
            lost = f"{prediction.not_finite} elements that the network gave are no numbers; they are left out"
            self.builder.problems.add("not_finite", "", lost)
        images, observation = prepared.images, prepared.observation
        timings = {"wait": images.waited_ns * 1e-6, "decode": prepared.decode_ms, **prediction.timings_ms}
        return MapResult(list(prediction.elements), images, observation.camera_mask, timings, observation)


@contextmanager
def _telling_faults() -> Iterator[None]:
    try:
        yield
    except NotReadyError:
        raise
    except ModelOutputError as error:
        raise InferenceError(f"the network failed: {error}") from error
    except HdmapError as error:  # the observation is at fault
        raise NotReadyError("", "rejected_image", str(error)) from None
    except Exception as error:
        raise InferenceError(f"the network failed: {type(error).__name__}: {error}") from error


def check_cameras(info: Any, cameras: tuple[str, ...]) -> None:
    """Raises ConfigError if the model needs a camera that is not among these."""
    lacking = set(info.camera_names) - set(cameras)
    if lacking:
        raise ConfigError(
            f"the model needs {', '.join(sorted(lacking))}; parameter camera_names, or the layout, does not name it"
        )


def warm_up(predictor: Predictor, cameras: tuple[str, ...], iterations: int) -> float:
    """Runs the predictor on grey images of a ring of cameras, so that the first real set is not slow.

    Returns:
        Milliseconds of the last run; 0 without one.
    """
    from hdmap_core.inference.sample import ring_observation

    grey = ring_observation(cameras, np.full((900, 1600, 3), 127, np.uint8))
    elapsed_ms = 0.0
    for _ in range(iterations):
        begin = time.perf_counter()
        predictor.complete(predictor.prepare(grey))
        elapsed_ms = (time.perf_counter() - begin) * 1e3
    return elapsed_ms
