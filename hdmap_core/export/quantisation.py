"""An ONNX graph in fp32 -> the same in 8-bit integers, by ONNX Runtime's static quantisation.

Activations become uint8, weights int8 with a scale per output channel. An activation's range holds all but a hundred
thousandth of its values at either end, over keyframes of drawn training towns; with all of them the steps are coarser
than they need be (docs/results/student_path.md). The last convolution before an output stays in fp32: its rounding
would be the output's.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from hdmap_core.datasets.nuscenes import NuScenesDataset
from hdmap_core.datasets.synthetic.presets import PRESETS
from hdmap_core.datasets.synthetic.writer import write_dataset
from hdmap_core.errors import ConfigError
from hdmap_core.export.integer_graph import shuffle_by_convolution, take_bytes
from hdmap_core.export.quiet import quiet
from hdmap_core.inference.engine import input_tensors
from hdmap_core.inference.exported_file import KEY
from hdmap_core.models import ModelConfig
from hdmap_core.preprocess import enough_pixels, preprocess
from hdmap_core.required_packages import missing_packages_named

TOWNS, KEYFRAMES = 4, 3
"""What activations' ranges are taken from: so many training towns, and keyframes of each."""
_WEIGHTED = ("Conv", "Gemm", "MatMul")
_QUANTISED = ("Conv", "Add", "Relu")
_PERCENTILE = 99.999


def quantised(content: bytes, model: ModelConfig) -> bytes:
    """The file in int8.

    Args:
        content: an ONNX file of `onnx_bytes`.
        model: what it was made of.

    Raises:
        ConfigError: if it is not a model that looks at the ground alone; others were never quantised.
        MissingDependencyError: if a package of the extra `export` is not installed.
    """
    if enough_pixels(model) is None:
        raise ConfigError(
            f"{model.name} is not quantised: int8 is proven for models that look at the ground alone, such as the "
            "shipped student; export it in fp32"
        )
    with missing_packages_named():
        import onnx
        from onnxruntime.quantization import CalibrationMethod, QuantType, quantize_static
    proto = onnx.load_from_string(content)
    with tempfile.TemporaryDirectory() as folder, quiet():
        whole, small = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
        onnx.save(proto, str(whole))
        quantize_static(
            whole, small, _Keyframes(model, Path(folder) / "towns"), op_types_to_quantize=list(_QUANTISED),
            nodes_to_exclude=_last_weighted(proto.graph), per_channel=True, activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8, calibrate_method=CalibrationMethod.Percentile,
            extra_options={"CalibPercentile": _PERCENTILE},
        )  # fmt: skip
        proto, header = onnx.load(str(small)), {each.key: each.value for each in proto.metadata_props}[KEY]
    take_bytes(proto.graph)
    shuffle_by_convolution(proto.graph)
    onnx.helper.set_model_props(proto, {KEY: json.dumps({**json.loads(header), "precision": "int8"})})
    return proto.SerializeToString()


class _Keyframes:
    """A calibration data reader: the model's inputs, one keyframe after the other."""

    def __init__(self, model: ModelConfig, folder: Path) -> None:
        change = {"towns": {"train": TOWNS}, "keyframes": KEYFRAMES, "image_size": (900, 1600), "lidar": "none"}
        write_dataset(folder, PRESETS["tiny"].model_copy(update=change))
        self._model, self._dataset = model, NuScenesDataset(folder)
        self._tokens = iter(self._dataset.tokens)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next input by name; None at the end."""
        token = next(self._tokens, None)
        if token is None:
            return None
        enough = enough_pixels(self._model)
        seen = self._dataset.observation(token, points=False, at_least=enough, coarse=enough is not None)
        inputs = preprocess(seen, self._model)
        return {name: tensor.numpy() for name, tensor in input_tensors(inputs).items()}

    def __iter__(self) -> "_Keyframes":
        return self

    def __next__(self) -> dict[str, np.ndarray]:
        inputs = self.get_next()
        if inputs is None:
            raise StopIteration
        return inputs


def _last_weighted(graph: Any) -> list[str]:
    """Names of the nodes with weights between which and an output there is no other."""
    producers = {name: node for node in graph.node for name in node.output}
    found, waiting = set(), [output.name for output in graph.output]
    while waiting:
        node = producers.get(waiting.pop())
        if node is None:
            continue
        if node.op_type in _WEIGHTED:
            found.add(node.name)
        else:
            waiting += node.input
    return sorted(found)
