"""Which engine runs a file: its suffix says; `auto` takes the fastest that is there, and PyTorch where that fails."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, cast, get_args

import torch

from hdmap_core.checkpoint import SUFFIX, Checkpoint, load_checkpoint
from hdmap_core.errors import CheckpointError, ConfigError, HdmapError
from hdmap_core.inference import aoti_engine, onnx_engine, openvino_engine, tensorrt_engine
from hdmap_core.inference.aoti_engine import AotiEngine
from hdmap_core.inference.compiled_engine import CompiledEngine, CudaGraphEngine
from hdmap_core.inference.engine import AUTOCAST, EagerEngine, Engine, EngineName
from hdmap_core.inference.onnx_engine import OnnxEngine
from hdmap_core.inference.openvino_engine import OpenVinoEngine
from hdmap_core.inference.sample import sample_inputs
from hdmap_core.inference.tensorrt_engine import TensorRtEngine
from hdmap_core.postprocess import Head, no_such_head


class Exported(NamedTuple):
    """A kind of exported file.

    Attributes:
        format: what `hdmap export --format` calls it.
        engines: what runs it, the usual one first.
        precisions: what may be asked for.
        open: (path, device, precision or None, engine, why) -> the engine.
        found_on: the kind of device on which `auto` takes it where it lies beside its checkpoint; empty: never.
    """

    format: str
    engines: tuple[EngineName, ...]
    precisions: tuple[str, ...]
    open: Callable[[Path, str, str | None, EngineName, str], Engine]
    found_on: str


EXPORTED: dict[str, Exported] = {
    openvino_engine.SUFFIX: Exported(
        format="openvino",
        engines=("openvino",),
        precisions=("fp32", "bf16"),
        open=lambda path, device, precision, _, why: OpenVinoEngine(path, device, precision or "fp32", why),
        found_on="cpu",
    ),
    onnx_engine.SUFFIX: Exported(
        format="onnx",
        engines=("onnxruntime", "onnxruntime-tensorrt"),
        precisions=("fp32", "int8"),
        open=lambda path, device, _, engine, why: OnnxEngine(path, device, engine, why),
        found_on="cpu",
    ),
    tensorrt_engine.SUFFIX: Exported(
        format="tensorrt",
        engines=("tensorrt",),
        precisions=("fp32", "fp16"),
        open=lambda path, device, precision, _, why: TensorRtEngine(path, device, precision, why),
        found_on="cuda",
    ),
    aoti_engine.SUFFIX: Exported(
        format="aoti",
        engines=("aoti",),
        precisions=("fp32",),
        open=lambda path, device, _, __, why: AotiEngine(path, device, why),
        found_on="",  # a program is not run because it lies somewhere
    ),
}
"""By suffix; of one device the fastest first (docs/results/engines.md)."""
_OF_CHECKPOINTS: tuple[EngineName, ...] = ("eager", "compile", "cuda-graph")
_log = logging.getLogger(__name__)


def open_engine(
    path: Path, device: str = "auto", precision: str | None = None, head: str | None = None, engine: str = "auto"
) -> Engine:
    """The network of a file, ready to run.

    Args:
        path: a checkpoint or an exported file.
        device: see `load_predictor`.
        precision: see `load_predictor`.
        head: see `load_predictor`.
        engine: an `EngineName`, or `auto`. For a checkpoint that is the exported file beside it (same name; on a CPU in
            fp32 `.xml`, then `.onnx`; on CUDA `.engine`) if it was made of this very checkpoint, publishes the same and
            agrees with its sample, in int8 too unless a precision is asked for; else PyTorch. For an exported file it
            is what the suffix says; if that cannot be run here, PyTorch with the checkpoint beside it, where there is
            one. `Engine.why` and the log say which and why.

    Raises:
        CheckpointError, ConfigError, MissingDependencyError: see `load_predictor`.
    """
    names = ("auto", *get_args(EngineName))
    if engine not in names:
        raise ConfigError(f"engine {engine!r}: use {', '.join(names)}")
    if head is not None and head not in get_args(Head):
        raise ConfigError(f"head {head!r}: use {' or '.join(get_args(Head))}")
    if path.suffix.lower() in EXPORTED:
        return _exported_or_its_checkpoint(path, device, precision, head, engine)
    if engine not in ("auto", *_OF_CHECKPOINTS):
        suffix, kind = next((suffix, kind) for suffix, kind in EXPORTED.items() if engine in kind.engines)
        raise ConfigError(
            f"engine {engine!r} does not run a checkpoint; give {path.with_suffix(suffix).name} "
            f"(`hdmap export {path} --format {kind.format}`)"
        )
    place = device_of(device)
    precision_wanted = precision or ("fp16" if place.type == "cuda" else "fp32")
    if precision_wanted not in ("fp32", *(AUTOCAST if place.type == "cuda" else ())):
        raise ConfigError(f"precision {precision!r} on {place}: use fp32 anywhere, or {' or '.join(AUTOCAST)} on cuda")
    checkpoint = _publishing(load_checkpoint(path), path, head)
    why = "asked for"
    if engine == "auto":
        found, reasons = _beside(path, checkpoint, place, precision)
        if found is not None:
            return found
        why = "; ".join(reasons) or "no exported file beside the checkpoint"
    eager = EagerEngine(checkpoint, place, precision_wanted, why)
    if engine not in ("compile", "cuda-graph"):
        return eager
    sample, _ = sample_inputs(checkpoint.config.model)
    return CompiledEngine(eager, sample) if engine == "compile" else CudaGraphEngine(eager, sample)


def device_of(name: str) -> torch.device:
    """PyTorch's device of a name; `auto` is CUDA where there is one.

    Raises:
        ConfigError: if there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device: torch.device | None
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise ConfigError(f"device {name!r}: use auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"device {name!r} asked for, but {torch.cuda.device_count()} CUDA devices are there")
    return device


def _publishing(checkpoint: Checkpoint, path: Path, head: str | None) -> Checkpoint:
    """The checkpoint, publishing this head alone if one is named."""
    if checkpoint.config.model.is_refiner:
        raise CheckpointError(
            f"{path} is an HD-map refiner by itself, which looks at no sensor; give the model that was trained from it "
            "(start.hd_refiner)"
        )
    if head is None:
        return checkpoint
    wanted, config = cast(Head, head), checkpoint.config
    if wanted not in config.heads:
        raise no_such_head(wanted, config.heads)
    return replace(checkpoint, config=config.model_copy(update={"decode": config.decode.only(wanted)}))


def _exported(
    path: Path, device: str, precision: str | None, engine: str = "auto", why: str = "the file's suffix"
) -> Engine:
    kind = EXPORTED[path.suffix.lower()]
    name = kind.engines[0] if engine == "auto" else cast(EngineName, engine)
    found = kind.open(path, device, precision, name, why)
    if precision not in (None, found.precision):
        raise ConfigError(f"{path.name} computes in {found.precision}, not in {precision}; export it again with that")
    return found


def _exported_or_its_checkpoint(
    path: Path, device: str, precision: str | None, head: str | None, engine: str
) -> Engine:
    kind = EXPORTED[path.suffix.lower()]
    if engine not in ("auto", *kind.engines):
        others = " or ".join(kind.engines)
        raise ConfigError(f"engine {engine!r} does not run {path.name}; use {others}, or give the checkpoint")
    if precision not in (None, *kind.precisions):
        raise ConfigError(f"precision {precision!r} of {path.name}: use {' or '.join(kind.precisions)}")
    try:
        found = _exported(path, device, precision, engine)
    except HdmapError as error:
        instead = _checkpoint_instead(path, device, head, error) if engine == "auto" else None
        if instead is None:
            raise
        return instead
    published = found.source.config.decode.heads_of(found.source.config.model.classes)
    if head is not None and published != [head]:
        raise ConfigError(
            f"{path.name} holds the head {' and '.join(published)} alone, not {head!r}; export the checkpoint "
            f"with --head {head}, or give the checkpoint"
        )
    return found


def _checkpoint_instead(path: Path, device: str, head: str | None, reason: HdmapError) -> Engine | None:
    """PyTorch with the checkpoint of the same name; None where there is none that can be run."""
    checkpoint = path.with_suffix(SUFFIX)
    if not checkpoint.is_file():
        return None
    try:
        found = open_engine(checkpoint, device, None, head, "eager")
    except HdmapError:
        return None
    found.why = f"{checkpoint.name} in place of {path.name}: {reason}"
    _log.warning("PyTorch runs %s", found.why)
    return found


def _beside(
    path: Path, checkpoint: Checkpoint, place: torch.device, precision: str | None
) -> tuple[Engine | None, list[str]]:
    """An exported file of this checkpoint that can be run in its place; else why the ones that are there cannot."""
    reasons = []
    for suffix, kind in EXPORTED.items():
        candidate = path.with_suffix(suffix)
        if kind.found_on != place.type or precision not in (None, *kind.precisions) or not candidate.is_file():
            continue
        try:
            found = _exported(candidate, str(place), precision, why=f"{candidate.name} lies beside the checkpoint")
        except HdmapError as error:
            reasons.append(str(error))
            continue
        if found.source.sha256 != checkpoint.sha256:
            reasons.append(f"{candidate.name} was made of another checkpoint")
        elif found.source.max_views is not None:
            reasons.append(f"{candidate.name} is for rigs with at most {found.source.max_views} cameras per cell only")
        elif found.source.config != checkpoint.config:
            reasons.append(f"{candidate.name} publishes otherwise")
        else:
            _log.info("%s runs in %s, %s: %s", path.name, found.name, found.precision, found.why)
            return found, []
    for reason in reasons:
        _log.warning("%s runs in PyTorch: %s", path.name, reason)
    return None, reasons
