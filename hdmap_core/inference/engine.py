"""The contract between predictor and runtime: `ModelInput → ModelOutput`. Eager PyTorch is the reference."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, Protocol, TypeVar

import torch
from torch import Tensor, nn

from hdmap_core.checkpoint import Checkpoint, CheckpointConfig
from hdmap_core.inference.rig_views import RigViews
from hdmap_core.model_io import DenseOutput, ModelInput, ModelOutput, VectorOutput
from hdmap_core.models import MapModel
from hdmap_core.models.heads.dense import DenseHeads
from hdmap_core.models.view_transforms.bevformer import BEVFormer

EngineName = Literal[
    "eager", "compile", "cuda-graph", "onnxruntime", "onnxruntime-tensorrt", "openvino", "aoti", "tensorrt"
]

AUTOCAST = {"fp16": torch.float16, "bf16": torch.bfloat16}
"""PyTorch's own half precisions."""
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Source:
    """What an engine runs, whatever file it came in.

    Attributes:
        sha256: of the checkpoint's file.
        precision: of an exported file's numbers: fp32 or int8.
        max_views: of a network that was exported for rigs on which no cell is seen by more cameras; None: for any rig.
    """

    config: CheckpointConfig
    provenance: dict[str, Any]
    sha256: str
    precision: str = "fp32"
    max_views: int | None = None


class Engine(Protocol):
    """A network that is ready to run; only the heads that its config publishes are computed.

    Attributes:
        name: an `EngineName`.
        device: such as `cpu`, `cuda:0`.
        precision: fp32, fp16, bf16 or int8.
        why: how it came to be chosen; for logs.
    """

    name: EngineName
    source: Source
    device: str
    precision: str
    why: str

    def __call__(self, inputs: ModelInput) -> ModelOutput:
        """Runs a batch of one. On CUDA the outputs may be on their way still: who reads them waits for them."""


class EagerEngine:
    """PyTorch as it is.

    Args:
        checkpoint: heads whose elements nobody publishes are taken out of its model.
        device: where it runs.
        precision: `fp32`, or `fp16`, `bf16` for autocast on CUDA.
        why: see `Engine`.
    """

    name: EngineName = "eager"

    def __init__(self, checkpoint: Checkpoint, device: torch.device, precision: str = "fp32", why: str = "") -> None:
        self.source = Source(checkpoint.config, checkpoint.provenance, checkpoint.sha256)
        self.device, self.precision, self.why = str(device), precision, why
        self.model = published(checkpoint).to(device)
        self._device, self._rig = device, RigViews(checkpoint.config.model)

    def __call__(self, inputs: ModelInput) -> ModelOutput:
        """See `Engine`."""
        if self._device.type == "cpu":  # where the view transform counts by itself what the rig sees
            return self.run(lambda: self.model(inputs.to(self._device)))
        with self.as_many_views_as(inputs):
            return self.run(lambda: self.model(inputs.to(self._device, non_blocking=True)))

    @contextlib.contextmanager
    def as_many_views_as(self, inputs: ModelInput) -> Iterator[int | None]:
        """Within it the view transform reads as many cameras per cell as this rig asks for: exact, and nothing more.

        Args:
            inputs: not yet on the device, so that nobody waits; of others nothing is known, and all cameras are read.

        Yields:
            How many; None: all, or it does not read cameras by their cells.
        """
        transform, projection = self.model.view_transform, inputs.projection
        if not isinstance(transform, BEVFormer) or projection is None or projection.device.type != "cpu":
            yield None
            return
        limit, most = transform.max_views, self._rig.most(inputs)
        transform.max_views = most if limit is None or most is None else min(limit, most)
        try:
            yield transform.max_views
        finally:
            transform.max_views = limit

    def run(self, work: Callable[[], _Result], *, is_recorded: bool = False) -> _Result:
        """Calls `work` as the model is to be called: without gradients, in this engine's precision.

        Args:
            work: what calls it.
            is_recorded: into a CUDA graph, which must not take casts of weights from autocast's cache.
        """
        half = AUTOCAST.get(self.precision)
        autocast = torch.autocast(self._device.type, half, enabled=half is not None, cache_enabled=not is_recorded)
        with torch.inference_mode(), autocast:
            return work()


def published(checkpoint: Checkpoint) -> MapModel:
    """The checkpoint's model without the heads that nobody reads; it is changed in place."""
    model, config = checkpoint.model, checkpoint.config
    heads = config.decode.heads_of(config.model.classes)
    if "vectors" not in heads:
        model.vector_head = None
    if "masks" not in heads:
        model.segmentation_head = None
    if config.model.hd_refiner is not None and isinstance(model.dense_heads, DenseHeads):
        model.dense_heads.only_semantic()
    return model


def input_tensors(inputs: ModelInput) -> dict[str, Tensor]:
    """The fields that are there, by name: an exported network's inputs."""
    return {f.name: getattr(inputs, f.name) for f in fields(inputs) if getattr(inputs, f.name) is not None}


def output_tensors(output: ModelOutput) -> dict[str, Tensor]:
    """What postprocessing reads, by name: an exported network's outputs. Of the decoder's layers the last."""
    found: dict[str, Tensor] = {}
    if output.vectors is not None:
        found |= {"logits": output.vectors.logits[-1:], "points": output.vectors.points[-1:]}
    if output.semantic is not None:
        found["masks"] = output.semantic
    if output.dense is not None:
        found |= {f"dense_{f.name}": getattr(output.dense, f.name) for f in fields(output.dense)}
    return found


def output_of(tensors: Mapping[str, Tensor]) -> ModelOutput:
    """The inverse of `output_tensors`."""
    dense = {f.name: tensors[f"dense_{f.name}"] for f in fields(DenseOutput) if f"dense_{f.name}" in tensors}
    return ModelOutput(
        vectors=VectorOutput(tensors["logits"], tensors["points"]) if "logits" in tensors else None,
        semantic=tensors.get("masks"),
        dense=DenseOutput(**dense) if dense else None,
    )


class ByTensors(nn.Module):
    """A model as a function of tensors, as exporters want it.

    Args:
        model: with the published heads only.
        inputs: names of the arguments, in their order.
    """

    def __init__(self, model: nn.Module, inputs: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.inputs = model, inputs

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """The tensors of `output_tensors`."""
        output = self.model(ModelInput(**dict(zip(self.inputs, tensors, strict=True))))
        return tuple(output_tensors(output).values())
