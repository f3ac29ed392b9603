"""TensorRT's plan, built of the ONNX graph for the GPU at hand; written against the documented API (docs/status.md)."""

from pathlib import Path
from typing import Any, Literal

import torch

from hdmap_core.errors import ConfigError
from hdmap_core.export.half_precision import in_half_precision
from hdmap_core.export.onnx_file import onnx_bytes
from hdmap_core.export.reference import Reference
from hdmap_core.files import write_atomically
from hdmap_core.inference.sealed_file import sealed
from hdmap_core.inference.tensorrt_engine import PLAN, TensorRtEngine, cuda_device, import_tensorrt, made_for

TIMINGS = ".timing"
"""Suffix of TensorRT's timing cache, beside the engine: a second build of the like takes a fraction of the time."""


def export_tensorrt(reference: Reference, out: Path, precision: Literal["fp32", "fp16"] = "fp16") -> float:
    """Writes the engine once it has agreed with PyTorch, and its timing cache beside it.

    Args:
        reference: what is exported.
        out: the `.engine`.
        precision: of matrix products; all else is computed in fp32.

    Returns:
        How far they lie apart, see `Reference.compare`.

    Raises:
        ConfigError: if there is no CUDA device, the model cannot be exported or built, or the engine disagrees; no
            engine is written then.
        MissingDependencyError: if TensorRT or a package of the extra `export` is not installed.
        OutputError: if a file cannot be written.
    """
    reference.refuse_points("a TensorRT engine")
    tensorrt = import_tensorrt()
    device = cuda_device("auto")
    graph = onnx_bytes(reference)
    if precision == "fp16":
        graph = in_half_precision(graph)  # TensorRT takes types as the graph has them
    timings = out.with_suffix(TIMINGS)
    known = timings.read_bytes() if timings.is_file() else b""
    with torch.cuda.device(device):
        plan, learnt = _build(tensorrt, graph, known, reference.model.name, precision)
    write_atomically(timings, learnt)
    content = sealed({PLAN: plan}, reference.header(), made_for(tensorrt, device, precision))
    return reference.write_compared(content, out, lambda path: TensorRtEngine(path, check=False))


def _build(tensorrt: Any, graph: bytes, known: bytes, model: str, precision: str) -> tuple[bytes, bytes]:
    """The plan, and the timings that building it found out."""
    logger = tensorrt.Logger(tensorrt.Logger.ERROR)
    builder = tensorrt.Builder(logger)
    # Types are the graph's; since TensorRT 11 there is no other way, and the flag is ignored.
    network = builder.create_network(1 << int(tensorrt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = tensorrt.OnnxParser(network, logger)
    if not parser.parse(graph):
        reason = parser.get_error(0).desc() if parser.num_errors else "it gives no reason"
        raise ConfigError(f"{model}: TensorRT cannot read its ONNX graph ({str(reason)[:200]}); export it to ONNX")
    config = builder.create_builder_config()
    if precision == "fp32":
        config.clear_flag(tensorrt.BuilderFlag.TF32)  # fp32 means it
    cache = config.create_timing_cache(known)
    if not config.set_timing_cache(cache, ignore_mismatch=False):  # of another GPU or version
        config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise ConfigError(f"{model}: TensorRT could not build an engine of it; its log above says why")
    return bytes(plan), bytes(config.get_timing_cache().serialize())
