"""ONNX Runtime runs a `.onnx` file that `hdmap export` made."""

import logging
from pathlib import Path
from typing import Any

import torch

from hdmap_core.errors import CheckpointError, ConfigError, first_line
from hdmap_core.inference.engine import EngineName, output_of
from hdmap_core.inference.exported_file import KEY, check_sample, read_header
from hdmap_core.inference.fitting_inputs import FittingInputs
from hdmap_core.model_io import ModelInput, ModelOutput
from hdmap_core.required_packages import missing_packages_named

SUFFIX = ".onnx"
_PROVIDERS = {"onnxruntime": "CUDAExecutionProvider", "onnxruntime-tensorrt": "TensorrtExecutionProvider"}
_ERRORS_ONLY = 3
_log = logging.getLogger(__name__)


class OnnxEngine:
    """A session, checked against the file's sample.

    Args:
        path: the file.
        device: cpu, cuda or cuda:N; `auto` is CUDA where ONNX Runtime has it and a device is there.
        name: `onnxruntime`, or `onnxruntime-tensorrt` for its TensorRT provider.
        why: see `Engine`.
        check: run the sample now; only an export that compares by itself does without.

    Raises:
        CheckpointError: if the file is damaged, foreign, or disagrees with its sample.
        ConfigError: if ONNX Runtime has not the provider that device or name ask for.
        MissingDependencyError: if ONNX Runtime is not installed.
    """

    def __init__(
        self, path: Path, device: str = "auto", name: EngineName = "onnxruntime", why: str = "", *, check: bool = True
    ) -> None:
        with missing_packages_named():
            import onnxruntime
        self.name, self.why = name, why
        self.device, providers, on_cpu = _providers(onnxruntime.get_available_providers(), device, name)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _ERRORS_ONLY
        options.intra_op_num_threads = torch.get_num_threads()
        options.inter_op_num_threads = 1
        # Threads that spin while they wait take the cores from decoding and tracing.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=providers)
        except Exception as error:  # its own classes, which derive from Exception alone
            raise CheckpointError(f"{path} is no whole ONNX file: {first_line(error)}; export it again") from None
        if len(self._session.get_providers()) < len(providers):  # it says so on stderr and goes on without
            if device != "auto":
                raise ConfigError(
                    f"ONNX Runtime could not start its {_PROVIDERS[name]}: a library of CUDA, cuDNN or TensorRT is "
                    "missing or does not fit; mend that, or take device cpu"
                )
            self.device, on_cpu = "cpu", f"its {_PROVIDERS[name]} could not start"
        if on_cpu:
            self.why = f"{why}; on the CPU, as {on_cpu}"
            _log.warning("%s runs in ONNX Runtime on the CPU, as %s", path.name, on_cpu)
        metadata = self._session.get_modelmeta().custom_metadata_map
        self.source, sample = read_header(metadata.get(KEY), path)
        self.precision = self.source.precision
        shapes = {
            each.name: tuple(size if isinstance(size, int) else None for size in each.shape)
            for each in self._session.get_inputs()
        }
        self._outputs = [each.name for each in self._session.get_outputs()]
        self._inputs = FittingInputs(self.source, shapes, path.name)
        if check:
            check_sample(self, sample, path)

    def __call__(self, inputs: ModelInput) -> ModelOutput:
        """See `Engine`; a ConfigError says what of the inputs does not fit."""
        given = self._inputs(inputs)
        found = self._session.run(self._outputs, {name: value.cpu().numpy() for name, value in given.items()})
        return output_of({name: torch.from_numpy(value) for name, value in zip(self._outputs, found, strict=True)})


def _providers(available: list[str], device: str, name: str) -> tuple[str, list[Any], str]:
    """The device's name, providers in the order in which they are asked, and why it is the CPU, if it need not be."""
    kind, _, index = device.partition(":")
    provider, on_cpu = _PROVIDERS[name], ""
    if kind == "auto":
        there = torch.cuda.is_available()
        kind = "cuda" if (there and provider in available) or name == "onnxruntime-tensorrt" else "cpu"
        on_cpu = f"this ONNX Runtime has no {provider} (onnxruntime-gpu does)" if there and kind == "cpu" else ""
    if kind not in ("cpu", "cuda") or (index and not index.isdecimal()):
        raise ConfigError(f"device {device!r}: use auto, cpu, cuda or cuda:N")
    if kind == "cpu":
        if name == "onnxruntime-tensorrt":
            raise ConfigError("engine onnxruntime-tensorrt runs on CUDA only; take device cuda, or engine onnxruntime")
        return "cpu", ["CPUExecutionProvider"], on_cpu
    if provider not in available:
        raise ConfigError(
            f"this ONNX Runtime has no {provider} (it has {', '.join(available)}); install onnxruntime-gpu in place of "
            "onnxruntime, or take device cpu"
        )
    options = {"device_id": index or "0"}
    if provider == "CUDAExecutionProvider":
        options["use_tf32"] = "0"  # fp32 means it
    return f"cuda:{index or 0}", [(provider, options), "CPUExecutionProvider"], ""
