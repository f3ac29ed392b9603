"""TensorRT runs a `.engine` file that `hdmap export --format tensorrt` built on this kind of GPU with this TensorRT.

Written against the documented Python API (10 and 11); it never ran where this was written (docs/status.md). A plan
holds machine code as an AOTInductor package does: `read_seal` finds damage, not malice.
"""

import importlib.util
import sys
import zipfile
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from hdmap_core.errors import CheckpointError, ConfigError, MissingDependencyError
from hdmap_core.inference.engine import EngineName, output_of
from hdmap_core.inference.exported_file import check_sample, read_header
from hdmap_core.inference.fitting_inputs import FittingInputs
from hdmap_core.inference.sealed_file import ROOT, read_seal
from hdmap_core.model_io import ModelInput, ModelOutput

SUFFIX = ".engine"
PLAN = ROOT + "plan"


class TensorRtEngine:
    """A deserialised plan with its execution context, checked against the file's sample.

    Args:
        path: the file.
        device: auto, cuda or cuda:N.
        precision: that which the plan was built for; None takes it as it is.
        why: see `Engine`.
        check: run the sample now; only an export that compares by itself does without.

    Raises:
        CheckpointError: if the file is damaged, foreign, built for another GPU or TensorRT, or disagrees with its
            sample.
        ConfigError: if there is no such CUDA device, or another precision is asked for.
        MissingDependencyError: if TensorRT is not installed.
    """

    name: EngineName = "tensorrt"

    def __init__(
        self, path: Path, device: str = "auto", precision: str | None = None, why: str = "", *, check: bool = True
    ) -> None:
        seal = read_seal(path)
        if seal.members != {PLAN}:
            raise CheckpointError(f"{path} is no TensorRT engine that `hdmap export` made: it holds no {PLAN}")
        self.source, sample = read_header(seal.text, path)
        tensorrt = import_tensorrt()
        self._device = cuda_device(device)
        here = made_for(tensorrt, self._device, seal.made_for.get("precision", "fp32"))
        for key, wanted in seal.made_for.items():
            if wanted != here.get(key):
                raise CheckpointError(
                    f"{path} was built for {key} {wanted}, here is {here.get(key)}; export the checkpoint again here"
                )
        if precision not in (None, here["precision"]):
            raise ConfigError(
                f"{path.name} was built for {here['precision']}; export it again with --precision {precision}"
            )
        self.device, self.precision, self.why, self._file = str(self._device), here["precision"], why, path.name
        with zipfile.ZipFile(path) as archive:
            plan = archive.read(PLAN)
        with torch.cuda.device(self._device):
            self._runtime = tensorrt.Runtime(tensorrt.Logger(tensorrt.Logger.ERROR))
            self._engine = self._runtime.deserialize_cuda_engine(plan)
            if self._engine is None:
                raise CheckpointError(f"{path} cannot be loaded by TensorRT; export the checkpoint again here")
            self._context = self._engine.create_execution_context()
        names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        shapes = {name: tuple(self._engine.get_tensor_shape(name)) for name in names}
        is_input = {name: self._engine.get_tensor_mode(name) == tensorrt.TensorIOMode.INPUT for name in names}
        self._found = {
            name: torch.empty(shapes[name], dtype=torch.float32, device=self._device)
            for name in names
            if not is_input[name]
        }
        self._inputs = FittingInputs(self.source, {name: shapes[name] for name in names if is_input[name]}, path.name)
        if check:
            check_sample(self, sample, path)

    def __call__(self, inputs: ModelInput) -> ModelOutput:
        """See `Engine`; a ConfigError says what of the inputs does not fit."""
        tensors = self._inputs(inputs)
        with torch.cuda.device(self._device), torch.inference_mode():
            given = {name: value.to(self._device, non_blocking=True).contiguous() for name, value in tensors.items()}
            for name, tensor in {**given, **self._found}.items():
                self._context.set_tensor_address(name, tensor.data_ptr())
            stream = torch.cuda.current_stream()
            if not self._context.execute_async_v3(stream.cuda_stream):
                raise CheckpointError(f"TensorRT could not run {self._file}; export the checkpoint again here")
            return output_of({name: tensor.clone() for name, tensor in self._found.items()})


def is_installed() -> bool:
    """Whether the package is there."""
    return importlib.util.find_spec("tensorrt") is not None


def import_tensorrt() -> Any:
    """The package.

    Raises:
        MissingDependencyError: if it is not installed.
    """
    if not is_installed():
        raise MissingDependencyError(
            f"TensorRT is not installed (for {sys.executable}); install it for your CUDA (pip install tensorrt), or "
            "take the checkpoint, or a .onnx file"
        )
    return import_module("tensorrt")


def cuda_device(name: str) -> torch.device:
    """The CUDA device of a name; `auto` is the first.

    Raises:
        ConfigError: if there is no such device.
    """
    device = torch.device("cuda" if name == "auto" else name)
    if device.type != "cuda":
        raise ConfigError(f"device {name!r}: TensorRT runs on CUDA only; take device cuda, or another engine")
    if (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"TensorRT needs device {device}, and {torch.cuda.device_count()} CUDA devices are there")
    return torch.device("cuda", device.index or 0)


def made_for(tensorrt: Any, device: torch.device, precision: str) -> dict[str, str]:
    """What a plan that is built here asks of whoever runs it."""
    return {
        "TensorRT": str(tensorrt.__version__),
        "GPU": torch.cuda.get_device_name(device),
        "precision": precision,
    }
