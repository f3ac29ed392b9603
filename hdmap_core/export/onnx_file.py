"""ONNX by torch.export: one file that ONNX Runtime and whatever else reads ONNX can run."""

from pathlib import Path

import torch

from hdmap_core.errors import ConfigError, first_line
from hdmap_core.export.quantisation import quantised
from hdmap_core.export.quiet import quiet
from hdmap_core.export.reference import Reference
from hdmap_core.inference.engine import ByTensors, input_tensors, output_tensors
from hdmap_core.inference.exported_file import KEY
from hdmap_core.inference.onnx_engine import OnnxEngine
from hdmap_core.required_packages import EXTRAS, require


def export_onnx(reference: Reference, out: Path, precision: str = "fp32") -> float:
    """Writes the file once ONNX Runtime has agreed with PyTorch.

    Args:
        reference: what is exported.
        out: the `.onnx`.
        precision: fp32 or int8, see `quantisation`.

    Returns:
        How far they lie apart, see `Reference.compare`.

    Raises:
        ConfigError: if the model cannot be exported, or ONNX Runtime disagrees; nothing is written then.
        MissingDependencyError: if a package of the extra `export` is not installed.
        OutputError: if the file cannot be written.
    """
    content = onnx_bytes(reference)
    if precision == "int8":
        content = quantised(content, reference.model)
    return reference.write_compared(content, out, lambda path: OnnxEngine(path, "cpu", check=False))


def onnx_bytes(reference: Reference) -> bytes:
    """The content of the file.

    Raises:
        ConfigError: if the model cannot be exported.
        MissingDependencyError: see `export_onnx`.
    """
    require(EXTRAS["export"])
    import onnx
    import onnxscript

    inputs = input_tensors(reference.sample.inputs)
    outputs = output_tensors(reference.engine(reference.sample.inputs))
    # How many LiDAR points there are changes from sweep to sweep.
    shapes = tuple({1: torch.export.Dim("number_of_points")} if name == "points" else None for name in inputs)
    module = ByTensors(reference.engine.model, tuple(inputs)).eval()
    try:
        with quiet(), torch.no_grad():
            program = torch.onnx.export(
                module, tuple(inputs.values()), dynamo=True, verbose=False,
                input_names=list(inputs), output_names=list(outputs), dynamic_shapes=(shapes,),
            )  # fmt: skip
            assert program is not None
            proto = program.model_proto
            header = reference.header(onnx=onnx.__version__, onnxscript=onnxscript.__version__)
            onnx.helper.set_model_props(proto, {KEY: header})
            for node in proto.graph.node:  # traces of the exporter's stack: folders of the machine that it ran on
                del node.metadata_props[:]
            return proto.SerializeToString()
    except Exception as error:  # whatever torch.export, the exporter's rules or protobuf (2 GB) raise
        raise ConfigError(
            f"{reference.model.name} cannot be exported to ONNX with this PyTorch ({first_line(error)}); run the "
            "checkpoint itself"
        ) from error
