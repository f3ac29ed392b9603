"""`hdmap export`: a checkpoint as a file for a faster runtime."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer


class Format(str, Enum):
    """What can be written."""

    onnx = "onnx"
    int8 = "int8"
    openvino = "openvino"
    aoti = "aoti"
    tensorrt = "tensorrt"


class Precision(str, Enum):
    """Of a TensorRT engine's matrix products."""

    fp16 = "fp16"
    fp32 = "fp32"


def export(
    checkpoint: Annotated[Path, typer.Argument(help="A .safetensors file or a run folder")],
    format: Annotated[
        Format,
        typer.Option(
            help="onnx: one .onnx file; int8: the same in integers; openvino: an .xml and a .bin beside it; aoti: a "
            ".pt2 of native code for this processor and PyTorch; tensorrt: an .engine for this GPU and TensorRT"
        ),
    ] = Format.onnx,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="The file; by default beside the checkpoint")] = None,
    head: Annotated[
        str | None, typer.Option(help="vectors, masks or dense, instead of the head that the checkpoint publishes")
    ] = None,
    cameras: Annotated[int, typer.Option(min=1, max=32, help="How many, for a model that takes any rig's images")] = 6,
    max_views: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=32,
            help="Of MapQR and MapFM: cameras read per cell. Fewer are faster, and rigs that need more are refused; by "
            "default as many as nuScenes' ring of six needs. One for each camera: any rig",
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda: what an aoti package is compiled for")] = "cpu",
    precision: Annotated[Precision, typer.Option(help="Of a tensorrt engine's matrix products")] = Precision.fp16,
) -> None:
    """Export a checkpoint for a faster runtime, with the heads that it publishes.

    The file carries config, classes, grid and provenance; it is compared with PyTorch now and whenever it is loaded.
    predict, evaluate, bag replay and the node take it in place of the checkpoint; beside the checkpoint they find it.

    Example: hdmap export runs/student --format openvino
    """
    from collections.abc import Callable
    from functools import partial

    from hdmap_core.checkpoint import find_checkpoint
    from hdmap_core.errors import ConfigError
    from hdmap_core.export.aoti_file import export_aoti
    from hdmap_core.export.onnx_file import export_onnx
    from hdmap_core.export.openvino_file import export_openvino
    from hdmap_core.export.reference import Reference, reference
    from hdmap_core.export.tensorrt_file import export_tensorrt
    from hdmap_core.files import check_file
    from hdmap_core.inference import aoti_engine, onnx_engine, openvino_engine, tensorrt_engine
    from hdmap_core.required_packages import EXTRAS, require

    kinds: dict[Format, tuple[str, Callable[[Reference, Path], float]]] = {
        Format.onnx: (onnx_engine.SUFFIX, export_onnx),
        Format.int8: (onnx_engine.SUFFIX, partial(export_onnx, precision="int8")),
        Format.openvino: (openvino_engine.SUFFIX, export_openvino),
        Format.aoti: (aoti_engine.SUFFIX, export_aoti),
        Format.tensorrt: (tensorrt_engine.SUFFIX, partial(export_tensorrt, precision=precision.value)),
    }
    suffix, write = kinds[format]
    if device != "cpu" and format is not Format.aoti:
        raise ConfigError(f"--device {device} is for --format aoti; a file of {format.value} is not bound to one")
    path = find_checkpoint(checkpoint)
    target = out or path.with_suffix(suffix)
    check_file(target, (suffix,))
    if format is not Format.aoti:  # asked for before the long work
        require([*EXTRAS["export"], *(EXTRAS["openvino"] if format is Format.openvino else ())])
    if format is Format.tensorrt:
        tensorrt_engine.import_tensorrt()
    exported = reference(path, head, cameras, device, max_views)
    deviation = write(exported, target)
    typer.echo(f"{path} → {target}, differs from PyTorch by {deviation:.1g} of the largest value")
    if (views := exported.engine.source.max_views) is not None:
        why = "as many as --max-views says" if max_views else "which is exact on nuScenes' ring of six"
        typer.echo(f"reads {views} cameras per cell, {why}; a rig on which a cell is seen by more is refused")
    typer.echo(f"next: hdmap benchmark {target}")
