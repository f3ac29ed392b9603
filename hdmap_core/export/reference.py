"""What an exported file has to equal: PyTorch on inputs of a synthetic town."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

import hdmap_core
from hdmap_core.checkpoint import find_checkpoint
from hdmap_core.errors import ConfigError
from hdmap_core.export.in_double import in_double
from hdmap_core.files import write_atomically
from hdmap_core.inference.engine import EagerEngine, Engine, input_tensors, output_tensors
from hdmap_core.inference.exported_file import Sample, header_text
from hdmap_core.inference.opening import open_engine
from hdmap_core.inference.rig_views import RigViews
from hdmap_core.inference.sample import sample_inputs
from hdmap_core.model_io import ModelInput
from hdmap_core.models import ModelConfig
from hdmap_core.models.view_transforms.bevformer import BEVFormer

RING = 6
"""Cameras of nuScenes' cars, and of the sample."""


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
    def model(self) -> ModelConfig:
        """Of the checkpoint."""
        return self.engine.source.config.model

    def refuse_points(self, what: str) -> None:
        """Whether the model looks at LiDAR points, whose number changes from sweep to sweep.

        Raises:
            ConfigError: if it does; `what` cannot be made for it then.
        """
        if "points" in input_tensors(self.sample.inputs):
            raise ConfigError(
                f"{self.model.name} looks at LiDAR points, whose number changes; {what} takes "
                "inputs of one size, so export it to ONNX, or run the checkpoint itself"
            )

    def header(self, **versions: str) -> str:
        """The file's header.

        Args:
            versions: of what it is made with beside PyTorch.
        """
        made_with = {"hdmap_ros": hdmap_core.__version__, "torch": str(torch.__version__), **versions}
        return header_text(self.engine.source, self.sample, made_with)

    def write_compared(self, content: bytes, out: Path, load: Callable[[Path], Engine]) -> float:
        """Writes a file once the engine that loads it agrees with PyTorch.

        Args:
            content: of the file.
            out: where it is written.
            load: the engine of such a file.

        Returns:
            How far they lie apart, see `compare`.

        Raises:
            ConfigError: if that is too far; nothing is written then.
            OutputError: if the file cannot be written.
        """
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / out.name
            path.write_bytes(content)
            deviation = self.compare(load(path))
        write_atomically(out, content)
        return deviation

    def compare(self, engine: Engine) -> float:
        """The larger deviation of both inputs from PyTorch in float64, as a share of the largest value.

        Raises:
            ConfigError: if it is too large.
        """
        worst = 0.0
        for sample in (self.sample, self.other):
            deviation, allowed = sample.deviation_of(engine), sample.allowed(engine.precision)
            if not deviation <= allowed:
                raise ConfigError(
                    f"{self.model.name} is not exported: {engine.name} disagrees with PyTorch by "
                    f"{deviation:.2g} of the largest value (allowed: {allowed:.2g}; PyTorch's own rounding to float32 "
                    f"makes {sample.rounding:.2g}); run the checkpoint itself"
                )
            worst = max(worst, deviation)
        return worst


def reference(
    checkpoint: str | Path,
    head: str | None = None,
    cameras: int = 6,
    device: str = "cpu",
    max_views: int | None = None,
) -> Reference:
    """Loads a checkpoint and runs it, in fp32 and in float64.

    Args:
        checkpoint: a `.safetensors` file or a run folder.
        head: see `load_predictor`.
        cameras: how many a model takes that names none itself.
        device: cpu, cuda or cuda:N.
        max_views: of a model that looks up its cells in the cameras: export for rigs on which no cell is seen by more
            of them; None: as many as nuScenes' ring asks for, if there are six, else for any rig, as is one for each
            camera.

    Raises:
        CheckpointError: if it cannot be used.
        ConfigError: if head, device or limit cannot be had.
    """
    engine = open_engine(find_checkpoint(checkpoint), device, "fp32", head, "eager")
    assert isinstance(engine, EagerEngine)
    model = engine.source.config.model
    inputs = sample_inputs(model, cameras)
    most = _most_on_the_ring(model, inputs[0]) if max_views is None else max_views
    if most is not None:
        _limit(engine, most, inputs[0])
    samples = [_sample(engine, each) for each in inputs]
    rounding = max(each.rounding for each in samples)  # of one alone it may be small by chance
    return Reference(engine, *(replace(each, rounding=rounding) for each in samples))


def _sample(engine: EagerEngine, inputs: ModelInput) -> Sample:
    exact = output_tensors(in_double(engine.model, inputs.to(engine.device)))
    return Sample.of(inputs, exact, output_tensors(engine(inputs)))


def _most_on_the_ring(model: ModelConfig, inputs: ModelInput) -> int | None:
    """By how many cameras any cell is seen on nuScenes' ring; None if the sample's rig is another, or it is all one."""
    projection = inputs.projection
    ring = projection is not None and len(projection[0].unique(dim=0)) == projection.shape[1] == RING
    return RigViews(model).most(inputs) if ring else None


def _limit(engine: EagerEngine, max_views: int, inputs: ModelInput) -> None:
    """Makes the graph read so many cameras per cell, and says so in what is exported."""
    transform = engine.model.view_transform
    if not isinstance(transform, BEVFormer):
        raise ConfigError(
            f"{engine.source.config.model.name} has no BEVFormer view transform, which alone reads cameras by their "
            "cells; leave out --max-views"
        )
    assert inputs.projection is not None
    cameras = inputs.projection.shape[1]
    if max_views < min(transform.max_views or cameras, cameras):
        transform.max_views = max_views
        engine.source = replace(engine.source, max_views=max_views)
