"""What an exported file has to equal: PyTorch on inputs of a synthetic town."""

from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import torch
from torch import Tensor

import hdmap_core
from hdmap_core.checkpoint import find_checkpoint
from hdmap_core.errors import ConfigError
from hdmap_core.inference.engine import EagerEngine, Engine, output_tensors
from hdmap_core.inference.exported_file import TOLERANCE, Sample
from hdmap_core.inference.opening import open_engine
from hdmap_core.inference.sample import sample_observation
from hdmap_core.model_io import ModelInput
from hdmap_core.models.lidar.pillars import PillarsConfig
from hdmap_core.preprocess import preprocess


@dataclass(frozen=True)
class Reference:
    """A checkpoint in PyTorch, and what it makes of two inputs.

    Attributes:
        sample: of a whole keyframe; it goes into the file.
        other: of the same one mirrored, its first camera missing: what the first input would have frozen shows here.
    """

    engine: EagerEngine
    sample: Sample
    other: Sample

    @property
    def made_with(self) -> dict[str, str]:
        """Versions, for the file's header."""
        return {"hdmap_ros": hdmap_core.__version__, "torch": str(torch.__version__)}

    def compare(self, engine: Engine) -> float:
        """The larger deviation of both inputs, as a share of the largest value.

        Raises:
            ConfigError: if it is too large.
        """
        deviations = [each.deviation(output_tensors(engine(each.inputs))) for each in (self.sample, self.other)]
        allowed = TOLERANCE[engine.precision]
        if not all(deviation <= allowed for deviation in deviations):
            raise ConfigError(
                f"{engine.source.config.model.name} is not exported: {engine.name} disagrees with PyTorch by "
                f"{max(deviations):.2g} of the largest value (allowed: {allowed:g}); run the checkpoint itself"
            )
        return max(deviations)


def reference(checkpoint: str | Path, head: str | None = None, cameras: int = 6) -> Reference:
    """Loads a checkpoint and runs it on the CPU, in fp32.

    Args:
        checkpoint: a `.safetensors` file or a run folder.
        head: see `load_predictor`.
        cameras: how many a model takes that names none itself.

    Raises:
        CheckpointError: if it cannot be used.
        ConfigError: if its kind of model is not exported, or the head cannot be had.
    """
    engine = open_engine(find_checkpoint(checkpoint), "cpu", "fp32", head, "eager")
    assert isinstance(engine, EagerEngine)
    model = engine.source.config.model
    if isinstance(model.lidar, PillarsConfig):
        raise ConfigError(
            f"{model.name} looks at LiDAR points, whose number changes; such models are not exported, run the "
            "checkpoint itself"
        )
    names = model.image_backbone.cameras if model.image_backbone else ()
    observation = sample_observation(names or ([f"CAMERA_{n}" for n in range(cameras)] if cameras != 6 else ()))
    first = preprocess(observation, model)
    mirrored = tuple(cv2.flip(image, 1) for image in observation.images if image is not None)
    second = preprocess(replace(observation, images=(None, *mirrored[1:])), model)
    return Reference(engine, *(Sample.of(inputs, outputs_of(engine, inputs)) for inputs in (first, second)))


def outputs_of(engine: Engine, inputs: ModelInput) -> dict[str, Tensor]:
    """What postprocessing reads, by name."""
    return output_tensors(engine(inputs))
