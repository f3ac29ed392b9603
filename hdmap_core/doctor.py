"""`hdmap doctor`: what this machine has, what it lacks, and what to type. Every package looks at its own part.

The functions behind the entry-point group `hdmap.doctor` take nothing and yield `Finding`s.
"""

import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hdmap_core.required_packages import EXTRAS, REQUIREMENTS, complaint, remedy

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

_SHM_BYTES = 1 << 30


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: what.
        ok: whether it is there and works.
        detail: its version, or what is wrong.
        advice: what to type or do where it is not ok.
        needed: without it the node cannot run.
    """

    name: str
    ok: bool
    detail: str
    advice: str = ""
    needed: bool = False


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON")] = False) -> None:
    """Say what this machine has, what it lacks, and what to type.

    Exit code 0 if the node can run here, 1 if not.

    Example: hdmap doctor
    """
    import json
    from dataclasses import asdict
    from importlib.metadata import entry_points

    from rich.console import Console
    from rich.table import Table

    entries = sorted(entry_points(group="hdmap.doctor"), key=lambda entry: entry.name)
    findings = [finding for entry in entries for finding in _findings(entry)]
    missing = [finding.name for finding in findings if finding.needed and not finding.ok]
    if as_json:
        content = {"node_can_run": not missing, "findings": [asdict(finding) for finding in findings]}
        typer.echo(json.dumps(content, indent=2))
    else:
        table = Table.grid(padding=(0, 2))
        for finding in findings:
            mark = "[green]ok[/]" if finding.ok else "[red]missing[/]" if finding.needed else "[yellow]not here[/]"
            table.add_row(mark, finding.name, finding.detail + (f"; {finding.advice}" if finding.advice else ""))
        console = Console()
        console.print(table, highlight=False)
        console.print(f"the node cannot run: {', '.join(missing)}" if missing else "the node can run", highlight=False)
    if missing:
        raise typer.Exit(1)


def _findings(entry: "EntryPoint") -> list[Finding]:
    try:
        return list(entry.load()())
    except ImportError as error:  # a part that cannot even look says so
        return [Finding(f"part {entry.name}", False, f"cannot look at it: {error}", needed=True)]


def look() -> Iterator[Finding]:
    """The core's findings."""
    import hdmap_core

    old = sys.version_info < (3, 10)
    yield Finding("Python", not old, platform.python_version(), "take Python 3.10 or newer" if old else "", needed=True)
    yield Finding("hdmap_ros", True, f"{hdmap_core.__version__}, {Path(__file__).parents[1]}")
    yield from _torch()
    for module, requirement in REQUIREMENTS.items():
        if module != "torch":
            yield _required(module, requirement)
    yield _weights()
    for extra, modules in EXTRAS.items():
        lacking = [module for module in modules if find_spec(module) is None]
        packages = (requirement.partition(">=")[0] for requirement in modules.values())
        there = ", ".join(f"{package} {installed(package)}" for package in packages)
        detail = f"without {', '.join(lacking)}" if lacking else there
        yield Finding(f"extra {extra}", not lacking, detail, remedy(lacking) if lacking else "")
    yield from _engines()
    yield from _room()


def imported(module: str, package: str, advice: str, *, needed: bool = False) -> Finding:
    """A finding of a module that is really imported: what is installed and broken is found too."""
    try:
        import_module(module)
    except Exception as error:  # a broken library may raise anything
        return Finding(module, False, f"{type(error).__name__}: {error}".split("\n")[0], advice, needed)
    return Finding(module, True, installed(package), needed=needed)


def _required(module: str, requirement: str) -> Finding:
    problem = complaint(module)
    if problem:
        return Finding(module, False, problem, remedy([module]), needed=True)
    return imported(module, requirement.partition(">=")[0], remedy([module]), needed=True)


def installed(package: str) -> str:
    """The version of a package; empty where it has none that pip knows."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _torch() -> Iterator[Finding]:
    found = _required("torch", REQUIREMENTS["torch"])
    yield found
    if not found.ok:
        return
    import torch

    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
        yield Finding("CUDA", True, f"{torch.version.cuda}, {names}")
        return
    if shutil.which("nvidia-smi"):
        advice = "nvidia-smi is there: install a torch that fits its driver (pytorch.org/get-started)"
    else:
        advice = ""
    yield Finding("CUDA", False, "no device; the CPU is used", advice)


def _engines() -> Iterator[Finding]:
    """The runtimes of exported files, really imported, with what they can run on."""
    for module in ("onnxruntime", "openvino"):
        if find_spec(module) is None:
            yield Finding(module, False, "optional, runs exported files", remedy([module]))
            continue
        try:
            if module == "onnxruntime":
                engine = import_module(module)
                places = engine.get_available_providers()
            else:
                from hdmap_core.inference.openvino_engine import import_openvino

                engine = import_openvino()
                places = engine.Core().available_devices
            yield Finding(module, True, f"{engine.__version__}, {', '.join(places)}")
        except Exception as error:  # a broken library may raise anything
            reason = f"{type(error).__name__}: {error}".split("\n")[0]
            yield Finding(module, False, reason, f"pip install --force-reinstall {module}")
    found = find_spec("tensorrt") is not None
    detail = installed("tensorrt") if found else "optional; .engine files and ONNX Runtime's TensorRT provider need it"
    yield Finding("tensorrt", found, detail)


def _weights() -> Finding:
    from hdmap_core.errors import CheckpointError

    try:
        from hdmap_core.inference import default_weights

        return Finding("shipped model", True, str(default_weights()), needed=True)
    except CheckpointError as error:
        return Finding("shipped model", False, str(error), needed=True)
    except ImportError as error:
        return Finding("shipped model", False, f"cannot be looked for: {error}", needed=True)


def _room() -> Iterator[Finding]:
    free = shutil.disk_usage(Path.cwd()).free
    yield Finding("disk", free > 10 << 30, f"{free / 1e9:.1f} GB free here", "" if free > 10 << 30 else "make room")
    shared = Path("/dev/shm")
    if shared.is_dir():
        size = shutil.disk_usage(shared).total
        advice = "" if size >= _SHM_BYTES else "loaders of training need it: docker run --shm-size 8g"
        yield Finding("shared memory", size >= _SHM_BYTES, f"{size / 1e9:.1f} GB at {shared}", advice)
