"""What an exported file has to equal: PyTorch on inputs of a synthetic town."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

import hdmap_core
from hdmap_core.checkpoint import find_checkpoint
from hdmap_core.errors import ConfigError
from hdmap_core.inference.engine import EagerEngine, Engine, output_tensors
from hdmap_core.inference.exported_file import TOLERANCE, Sample
from hdmap_core.inference.opening import open_engine
from hdmap_core.inference.sample import sample_inputs
from hdmap_core.model_io import ModelInput
from hdmap_core.models.lidar.pillars import PillarsConfig


@dataclass(frozen=True)
class Reference:
    """A checkpoint in PyTorch, and what it makes of two inputs.

    Attributes:
        sample: of a whole keyframe; it goes into the file.
        other: of the same one mirrored, a camera and half of the LiDAR points missing: what the first input would have
            frozen shows here.
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


def reference(checkpoint: str | Path, head: str | None = None, cameras: int = 6, device: str = "cpu") -> Reference:
    """Loads a checkpoint and runs it, in fp32.

    Args:
        checkpoint: a `.safetensors` file or a run folder.
        head: see `load_predictor`.
        cameras: how many a model takes that names none itself.
        device: cpu, cuda or cuda:N.

    Raises:
        CheckpointError: if it cannot be used.
        ConfigError: if its kind of model is not exported, or head or device cannot be had.
    """
    engine = open_engine(find_checkpoint(checkpoint), device, "fp32", head, "eager")
    assert isinstance(engine, EagerEngine)
    model = engine.source.config.model
    if isinstance(model.lidar, PillarsConfig):
        raise ConfigError(
            f"{model.name} looks at LiDAR points, whose number changes; such models are not exported, run the "
            "checkpoint itself"
        )
    samples = (Sample.of(inputs, outputs_of(engine, inputs)) for inputs in sample_inputs(model, cameras))
    return Reference(engine, *samples)


def outputs_of(engine: Engine, inputs: ModelInput) -> dict[str, Tensor]:
    """What postprocessing reads, by name."""
    return output_tensors(engine(inputs))
