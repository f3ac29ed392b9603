"""OpenVINO's IR, made of the ONNX graph: `NAME.xml`, and `NAME.bin` beside it."""

import tempfile
from pathlib import Path

from hdmap_core.errors import ConfigError
from hdmap_core.export.onnx_file import onnx_bytes
from hdmap_core.export.reference import Reference
from hdmap_core.files import write_atomically
from hdmap_core.inference.exported_file import KEY
from hdmap_core.inference.openvino_engine import OpenVinoEngine, import_openvino, last_line


def export_openvino(reference: Reference, out: Path) -> float:
    """Writes both files once OpenVINO has agreed with PyTorch.

    Args:
        reference: what is exported.
        out: the `.xml`.

    Returns:
        How far they lie apart, see `Reference.compare`.

    Raises:
        ConfigError: if the model cannot be exported, or OpenVINO disagrees; nothing is written then.
        MissingDependencyError: if a package of the extras `export` and `openvino` is not installed.
        OutputError: if a file cannot be written.
    """
    openvino = import_openvino()
    with tempfile.TemporaryDirectory() as folder:
        graph = Path(folder) / "graph.onnx"
        graph.write_bytes(onnx_bytes(reference))
        path = Path(folder) / out.name
        try:
            network = openvino.Core().read_model(graph)
            network.set_rt_info(reference.header(openvino=openvino.__version__), [KEY])
            openvino.save_model(network, path, compress_to_fp16=False)
        except RuntimeError as error:
            raise ConfigError(
                f"{reference.model.name} cannot be converted by OpenVINO ({last_line(error)}); export it to ONNX"
            ) from None
        deviation = reference.compare(OpenVinoEngine(path, check=False))
        write_atomically(out.with_suffix(".bin"), path.with_suffix(".bin").read_bytes())
        write_atomically(out, path.read_bytes())
    return deviation
