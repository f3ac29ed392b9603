"""`hdmap benchmark`: what a model takes on this machine, and what an engine gains."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hdmap_core.options import Device

if TYPE_CHECKING:
    from rich.table import Table


_BUSY = 1.5  # processes per core; one of them is this


def benchmark(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint, an exported file or a run folder")],
    engine: Annotated[
        str,
        typer.Option(
            help="auto: the fastest that is there; of a checkpoint also eager, compile or cuda-graph, of a .onnx file "
            "onnxruntime or onnxruntime-tensorrt"
        ),
    ] = "auto",
    device: Device = "auto",
    precision: Annotated[
        str | None,
        typer.Option(help="fp32, fp16 (PyTorch on CUDA) or bf16 (the same, and OpenVINO on CPUs that have it)"),
    ] = None,
    threads: Annotated[int, typer.Option(min=0, max=256, help="CPU threads; 0: PyTorch's choice")] = 0,
    sets: Annotated[
        int | None,
        typer.Option(
            min=2, max=100_000, help="Image sets that are measured; by default 30, or as many as a minute has"
        ),
    ] = None,
    reference: Annotated[
        Path | None, typer.Option(help="The checkpoint of an exported file, where it does not lie beside it")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON")] = False,
) -> None:
    """Measure each stage from six JPEGs to map elements, and the network against PyTorch in the same run.

    The images are of a synthetic town, drawn first: no data is needed.

    Example: hdmap benchmark student.onnx --threads 1
    """
    import json
    from functools import partial

    import cv2
    import torch
    from rich.console import Console

    from hdmap_core.checkpoint import find_checkpoint
    from hdmap_core.inference.benchmark import benchmark as measure

    before = torch.get_num_threads(), cv2.getNumThreads()
    if threads:
        torch.set_num_threads(threads)
        cv2.setNumThreads(threads)
    try:
        found = measure(
            find_checkpoint(checkpoint),
            engine,
            device,
            precision,
            reference=reference,
            sets=sets,
            say=partial(typer.echo, err=True),
        )
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    console = Console()
    console.print(_table(found))
    for line in _lines(found):
        console.print(line, soft_wrap=True, highlight=False)


def _table(found: dict[str, Any]) -> "Table":
    from rich.table import Table

    table = Table(title=f"{found['model']}, {found['sets']} sets, milliseconds")
    for column in ("stage", "p50", "p95", "p99", "CPU p50"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for name, row in [*found["stages"].items(), ("all", found["total"])]:
        table.add_row(name, *(f"{row[key]:.1f}" for key in ("p50", "p95", "p99", "cpu_p50")))
    return table


def _lines(found: dict[str, Any]) -> list[str]:
    memory = ", ".join(f"{name.replace('_', ' ')} {value:.0f} MiB" for name, value in found["memory_mib"].items())
    lines = [
        f"{found['engine']} ({found['why']}), {found['precision']} on {found['device']}, {found['threads']} threads, "
        f"{found['machine']}",
        f"{found['sets_per_s']:.3g} sets/s, one after the other; memory: {memory}",
    ]
    if found["busy"] > _BUSY:
        remedy = "; --threads 1 keeps threads from burning CPU while they wait for one another"
        lines.append(
            f"this machine is busy, {found['busy']:.1f} processes per core: its work is in these times, read the CPU "
            f"column{remedy if found['threads'] > 1 else ''}"
        )
    if found["engine"] == "eager" and found["precision"] == "fp32":
        return [*lines, "this is PyTorch; `hdmap export` makes files for faster engines"]
    if found["agreement"] is None:
        return [*lines, "not compared with PyTorch: the checkpoint is not beside the file; give --reference CHECKPOINT"]
    apart, eager, ratio = found["agreement"]["largest_difference"], found["eager_network"], found["ratio_to_eager"]
    return [
        *lines,
        f"network: {ratio['wall']:.2f} x PyTorch's speed ({ratio['cpu']:.2f} x by CPU time; PyTorch takes "
        f"{eager['p50']:.1f} ms, CPU {eager['cpu_p50']:.1f} ms); outputs differ by {apart:.1g} of the largest value",
    ]
