"""OpenVINO runs an IR (`.xml` beside its `.bin`) that `hdmap export --format openvino` made."""

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from hdmap_core.errors import CheckpointError, ConfigError
from hdmap_core.inference.engine import EngineName, output_of
from hdmap_core.inference.exported_file import KEY, check_sample, read_header
from hdmap_core.inference.fitting_inputs import FittingInputs
from hdmap_core.model_io import ModelInput, ModelOutput
from hdmap_core.required_packages import missing_packages_named

SUFFIX = ".xml"
_TELEMETRY = "openvino_telemetry"


class OpenVinoEngine:
    """A compiled network on the CPU, checked against the file's sample.

    Args:
        path: the `.xml`; its `.bin` lies beside it.
        device: auto or cpu.
        precision: `fp32`, or `bf16` where the CPU computes in it.
        why: see `Engine`.
        check: run the sample now; only an export that compares by itself does without.

    Raises:
        CheckpointError: if the files are damaged, foreign, or disagree with their sample.
        ConfigError: if device or precision cannot be had.
        MissingDependencyError: if OpenVINO is not installed.
    """

    name: EngineName = "openvino"

    def __init__(
        self, path: Path, device: str = "auto", precision: str = "fp32", why: str = "", *, check: bool = True
    ) -> None:
        openvino = import_openvino()
        if device not in ("auto", "cpu"):
            raise ConfigError(f"device {device!r}: OpenVINO runs on cpu here; take device cpu, or another engine")
        self.device, self.precision, self.why = "cpu", precision, why
        core = openvino.Core()
        if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise ConfigError("precision 'bf16': this CPU does not compute in it; take fp32")
        weights = path.with_suffix(".bin")
        if not weights.is_file():
            raise CheckpointError(f"{path} has no {weights.name} beside it; copy both files, or export it again")
        try:
            network = core.read_model(path, weights)
            text = network.get_rt_info([KEY]).astype(str) if network.has_rt_info([KEY]) else None
        except Exception as error:  # RuntimeError, or whatever its bindings raise of a damaged file
            raise CheckpointError(f"{path} is no whole OpenVINO IR: {last_line(error)}; export it again") from None
        self.source, sample = read_header(text, path)
        settings = {
            "INFERENCE_PRECISION_HINT": "f32" if precision == "fp32" else "bf16",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,  # or all workers of a machine would share its first core
        }
        try:
            self._network = core.compile_model(network, "CPU", settings)
        except RuntimeError as error:
            raise CheckpointError(f"{path} is no whole OpenVINO IR: {last_line(error)}; export it again") from None
        self._request = self._network.create_infer_request()
        shapes = {
            each.get_any_name(): tuple(
                size.get_length() if size.is_static else None for size in each.get_partial_shape()
            )
            for each in self._network.inputs
        }
        self._outputs = [each.get_any_name() for each in self._network.outputs]
        self._inputs = FittingInputs(self.source, shapes, path.name)
        if check:
            check_sample(self, sample, path)

    def __call__(self, inputs: ModelInput) -> ModelOutput:
        """See `Engine`; a ConfigError says what of the inputs does not fit."""
        given = self._inputs(inputs)
        found = self._request.infer({name: value.cpu().numpy() for name, value in given.items()})
        return output_of({name: torch.from_numpy(found[index].copy()) for index, name in enumerate(self._outputs)})


def import_openvino() -> Any:
    """OpenVINO without its telemetry, which would tell a server of every import and write to the home folder.

    Without that package OpenVINO takes a stub of its own; so it is hidden for the moment of the import.

    Raises:
        MissingDependencyError: if OpenVINO is not installed.
    """
    if "openvino" in sys.modules or _TELEMETRY in sys.modules:
        with missing_packages_named():
            return import_module("openvino")
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # how Python marks what cannot be imported
    try:
        with missing_packages_named():
            return import_module("openvino")
    finally:
        del sys.modules[_TELEMETRY]


def last_line(error: Exception) -> str:
    """Of a message whose first lines are places in OpenVINO's sources."""
    lines = [line.strip() for line in str(error).split("\n") if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:300]
