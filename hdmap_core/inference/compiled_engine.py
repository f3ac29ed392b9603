"""PyTorch's own ways to run a checkpoint faster, made when it is opened: torch.compile, and CUDA graphs."""

import os
import shutil
import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from hdmap_core.errors import ConfigError, first_line
from hdmap_core.inference.engine import (
    ByTensors,
    EagerEngine,
    Engine,
    EngineName,
    input_tensors,
    output_of,
    output_tensors,
)
from hdmap_core.inference.exported_file import TOLERANCE, Sample
from hdmap_core.inference.setuptools_import import import_setuptools
from hdmap_core.model_io import ModelInput, ModelOutput

_WARM_UPS = 3  # runs before a capture, as PyTorch asks for


class CompiledEngine:
    """`torch.compile`: C++ for a CPU, Triton for CUDA. Other numbers of cameras, or of cameras per cell, compile anew.

    Args:
        eager: whose model is compiled; it is compared with it on the sample.
        sample: an input as the rig will give it.

    Raises:
        ConfigError: if the model cannot be compiled here, or the result disagrees.
    """

    name: EngineName = "compile"

    def __init__(self, eager: EagerEngine, sample: ModelInput) -> None:
        check_compiler()
        self.source, self.device, self.precision = eager.source, eager.device, eager.precision
        self._eager, self._names = eager, tuple(input_tensors(sample))
        self._outputs = tuple(output_tensors(eager(sample)))
        import_setuptools()
        self._run = torch.compile(ByTensors(eager.model, self._names).eval())
        began = time.perf_counter()
        _check(self, eager, sample, "torch.compile")
        self.why = f"asked for; the first call took {time.perf_counter() - began:.0f} s to compile"

    def __call__(self, inputs: ModelInput) -> ModelOutput:
        """See `Engine`."""
        tensors = input_tensors(inputs.to(self.device, non_blocking=True))
        with self._eager.as_many_views_as(inputs):
            found = self._eager.run(lambda: self._run(*(tensors[name] for name in self._names)))
        return output_of(dict(zip(self._outputs, found, strict=True)))


class CudaGraphEngine:
    """All kernels of a pass, recorded once and launched as one; anew when shapes or the cameras per cell change.

    Args:
        eager: whose model is recorded, on CUDA; it is compared with it on the sample.
        sample: an input as the rig will give it.

    Raises:
        ConfigError: if the device is no CUDA device, the model cannot be recorded, or the result disagrees.
    """

    name: EngineName = "cuda-graph"

    def __init__(self, eager: EagerEngine, sample: ModelInput) -> None:
        if not eager.device.startswith("cuda"):
            raise ConfigError("engine 'cuda-graph' runs on CUDA only; take device cuda, or engine compile")
        self.source, self.device, self.precision = eager.source, eager.device, eager.precision
        self.why = "asked for"
        self._eager = eager
        self._replay: Callable[[], None] | None = None
        self._views: int | None = None
        self._fixed: dict[str, Tensor] = {}
        self._found: dict[str, Tensor] = {}
        _check(self, eager, sample, "its CUDA graph")

    def __call__(self, inputs: ModelInput) -> ModelOutput:
        """See `Engine`."""
        tensors = input_tensors(inputs)
        with self._eager.as_many_views_as(inputs) as views:
            if self._replay is None or views != self._views or _shapes(tensors) != _shapes(self._fixed):
                self._replay, self._views = self._capture(tensors), views
        for name, tensor in tensors.items():
            self._fixed[name].copy_(tensor, non_blocking=True)
        self._replay()
        return output_of({name: tensor.clone() for name, tensor in self._found.items()})

    def _capture(self, tensors: Mapping[str, Tensor]) -> Callable[[], None]:
        """Records one pass over memory that stays where it is (`_fixed`, `_found`)."""
        device = torch.device(self.device)
        self._fixed = {name: tensor.to(device, copy=True) for name, tensor in tensors.items()}
        fixed = ModelInput(**self._fixed)
        with torch.cuda.device(device):
            beside = torch.cuda.Stream()
            beside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(beside):
                for _ in range(_WARM_UPS):
                    self._eager.run(lambda: self._eager.model(fixed), is_recorded=True)
            torch.cuda.current_stream().wait_stream(beside)
            graph = torch.cuda.CUDAGraph()
            # The node's other thread may be at the next set meanwhile, and memory that it asks for is no fault of ours.
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self._found = output_tensors(self._eager.run(lambda: self._eager.model(fixed), is_recorded=True))
        return graph.replay


def check_compiler() -> None:
    """Whether the C++ compiler is there that PyTorch's compiler calls.

    Raises:
        ConfigError: if it is not.
    """
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        raise ConfigError(
            f"PyTorch compiles with a C++ compiler, and {compiler} is not there; install it (apt install g++), or name "
            "another in CXX"
        )


def _check(engine: Engine, eager: EagerEngine, sample: ModelInput, what: str) -> None:
    name = eager.source.config.model.name
    wanted = Sample.of(sample, output_tensors(eager(sample)))
    try:
        deviation = wanted.deviation_of(engine)
    except Exception as error:  # whatever Dynamo, Inductor, a compiler or CUDA raise
        raise ConfigError(f"{what} cannot run {name} here: {first_line(error)}; take engine eager") from error
    if not deviation <= TOLERANCE[engine.precision]:
        raise ConfigError(
            f"{what} of {name} disagrees with PyTorch by {deviation:.2g} of the largest value (allowed: "
            f"{TOLERANCE[engine.precision]:g}); take engine eager"
        )


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}
