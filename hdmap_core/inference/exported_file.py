"""What an exported file carries beside its graph: config, provenance, and a sample by which it is checked when loaded.

One JSON text, in an ONNX file's metadata or an OpenVINO IR's rt_info, under the key `hdmap`.
"""

import base64
import json
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hdmap_core.checkpoint import CheckpointConfig, check_sizes
from hdmap_core.config import parse_config
from hdmap_core.errors import CheckpointError, ConfigError, first_line
from hdmap_core.inference.engine import Engine, Source, output_tensors
from hdmap_core.model_io import ModelInput

FORMAT = 1
KEY = "hdmap"
TOLERANCE = {"fp32": 1e-3, "fp16": 0.05, "bf16": 0.05, "int8": 0.1}
"""How far outputs may lie from eager's, as a share of the largest absolute value of that output."""
_USUAL_ROUNDING = 2.5e-4  # of float32, as such a share; networks that round more may deviate by as much more
_MOST_ROUNDING = 20.0  # times the usual: of networks beyond that nothing can be told
_MOST_BYTES = 2**29  # of a tensor of the sample; six images of 20 million pixels take less
_KEPT = 4096  # values of each output


@dataclass(frozen=True)
class Sample:
    """An input, and what the eager network makes of it.

    Attributes:
        inputs: what the network is given.
        values: of each output up to 4096 values at even distances, flat float32.
        largest: of each output the largest absolute value.
        rounding: how far eager itself lies from `values` in float32, where these were computed in float64; see
            `deviation`.
    """

    inputs: ModelInput
    values: dict[str, np.ndarray]
    largest: dict[str, float]
    rounding: float = 0.0

    @classmethod
    def of(
        cls, inputs: ModelInput, outputs: Mapping[str, Tensor], in_float32: Mapping[str, Tensor] | None = None
    ) -> "Sample":
        """A sample from an input and the eager network's outputs; and those in float32, if `outputs` are of float64."""
        values = {name: _thinned(tensor) for name, tensor in outputs.items()}
        found = cls(inputs, values, {name: float(tensor.abs().max()) for name, tensor in outputs.items()})
        return found if in_float32 is None else replace(found, rounding=found.deviation(in_float32))

    def allowed(self, precision: str) -> float:
        """How large a `deviation` may be.

        A network that amplifies rounding says something else in every runtime, all of them right. So what rounds more
        than usual in eager may deviate more, in proportion and up to a limit.
        """
        more = min(max(self.rounding / _USUAL_ROUNDING, 1.0), _MOST_ROUNDING) if precision == "fp32" else 1.0
        return TOLERANCE[precision] * more

    def deviation(self, outputs: Mapping[str, Tensor]) -> float:
        """The largest difference over all outputs, each as a share of its largest value; NaN or inf if they are wrong.

        Infinite where outputs are missing or have another size.
        """
        if outputs.keys() != self.values.keys():
            return float("inf")
        worst = 0.0
        for name, wanted in self.values.items():
            found = _thinned(outputs[name])
            if found.shape != wanted.shape:
                return float("inf")
            difference = np.abs(found - wanted).max() / max(self.largest[name], 1e-6)
            worst = float(np.maximum(worst, difference))  # keeps a NaN
        return worst

    def deviation_of(self, engine: Engine) -> float:
        """That of an engine that runs on the inputs."""
        return self.deviation(output_tensors(engine(self.inputs)))


def check_sample(engine: Engine, sample: Sample, path: Path) -> None:
    """Runs an engine on the sample of its file.

    Raises:
        CheckpointError: if its `Sample.deviation` is too large, or the runtime fails.
    """
    try:
        deviation = sample.deviation_of(engine)
    except Exception as error:  # whatever a runtime raises of a graph that it could load
        raise CheckpointError(
            f"{path} cannot be run in {engine.name}: {first_line(error)}; export the checkpoint again"
        ) from None
    if not deviation <= sample.allowed(engine.precision):
        raise CheckpointError(
            f"{path} in {engine.name} ({engine.precision} on {engine.device}) disagrees with PyTorch on its own sample "
            f"by {deviation:.2g} of the largest value (allowed: {sample.allowed(engine.precision):.2g}): the file is "
            "damaged, or this runtime computes it wrongly; export the checkpoint again"
        )


def header_text(source: Source, sample: Sample, made_with: dict[str, str]) -> str:
    """The JSON text."""
    content = {
        "format": FORMAT,
        "config": source.config.model_dump(mode="json"),
        "provenance": source.provenance,
        "checkpoint_sha256": source.sha256,
        "precision": source.precision,
        "max_views": source.max_views,
        "made_with": made_with,
        "sample": {
            "inputs": {name: _packed(value) for name, value in vars(sample.inputs).items() if value is not None},
            "values": {name: _packed(torch.from_numpy(value)) for name, value in sample.values.items()},
            "largest": sample.largest,
            "rounding": sample.rounding,
        },
    }
    return json.dumps(content)


def read_header(text: str | None, path: Path) -> tuple[Source, Sample]:
    """The inverse of `header_text`.

    Raises:
        CheckpointError: if it is not ours, damaged, or of another format.
    """
    if not text:
        raise CheckpointError(
            f"{path} holds a network, but not of hdmap_ros (no '{KEY}' in its metadata); give one that "
            "`hdmap export` made"
        )
    try:
        content = json.loads(text)
        if content["format"] != FORMAT:
            raise CheckpointError(
                f"{path} has export format {content['format']!r}, this version reads {FORMAT}; export it again"
            )
        config = parse_config(CheckpointConfig, content["config"], f"{path}, config in its metadata")
        check_sizes(path, config.model)
        sample = content["sample"]
        inputs = ModelInput(**{name: _unpacked(value) for name, value in sample["inputs"].items()})
        values = {name: _unpacked(value).numpy() for name, value in sample["values"].items()}
        largest = {name: float(sample["largest"][name]) for name in values}
        rounding = float(sample["rounding"])
        precision, most = content["precision"], content["max_views"]
        if precision not in ("fp32", "int8"):
            raise ValueError(f"precision {precision!r}")
        max_views = None if most is None else int(most)
        digest = str(content["checkpoint_sha256"])
        source = Source(config, dict(content["provenance"]), digest, precision, max_views)
    except ConfigError as error:
        raise CheckpointError(str(error)) from None
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError, zlib.error) as error:
        raise CheckpointError(f"{path} is damaged: its metadata cannot be read ({error!r}); export it again") from None
    return source, Sample(inputs, values, largest, rounding)


def _thinned(tensor: Tensor) -> np.ndarray:
    flat = tensor.detach().float().cpu().numpy().reshape(-1)
    return np.ascontiguousarray(flat[:: -(-flat.size // _KEPT) or 1])


def _packed(tensor: Tensor) -> dict[str, Any]:
    array = tensor.cpu().numpy()
    content = base64.b64encode(zlib.compress(np.ascontiguousarray(array).tobytes(), 6)).decode()
    return {"dtype": array.dtype.str, "shape": list(array.shape), "zlib": content}


def _unpacked(packed: dict[str, Any]) -> Tensor:
    dtype, shape = np.dtype(packed["dtype"]), [int(side) for side in packed["shape"]]
    size = dtype.itemsize * math.prod(shape)
    if min(shape, default=0) < 0 or size > _MOST_BYTES:
        raise ValueError(f"a tensor of shape {shape}")
    content = zlib.decompressobj().decompress(base64.b64decode(packed["zlib"], validate=True), size + 1)
    return torch.from_numpy(np.frombuffer(content, dtype).reshape(shape).copy())
