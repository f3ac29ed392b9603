"""Which engine runs a file: its suffix says it, and `auto` may take an exported file that lies beside a checkpoint."""

import logging
from pathlib import Path
from typing import cast, get_args

import torch

from hdmap_core.checkpoint import Checkpoint, CheckpointConfig, load_checkpoint
from hdmap_core.errors import CheckpointError, ConfigError, HdmapError
from hdmap_core.inference import onnx_engine, openvino_engine
from hdmap_core.inference.engine import EagerEngine, Engine, EngineName
from hdmap_core.inference.onnx_engine import OnnxEngine
from hdmap_core.inference.openvino_engine import OpenVinoEngine
from hdmap_core.postprocess import Head

EXPORTED = (openvino_engine.SUFFIX, onnx_engine.SUFFIX)
"""Suffixes of exported files, the fastest on a CPU first (docs/results/engines.md)."""
_ENGINES: dict[str, tuple[EngineName, ...]] = {
    onnx_engine.SUFFIX: ("onnxruntime", "onnxruntime-tensorrt"),
    openvino_engine.SUFFIX: ("openvino",),
}
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
        engine: an `EngineName`, or `auto`: what the suffix says. For a checkpoint on the CPU in fp32 that is the
            exported file beside it (same name, `.xml`, then `.onnx`) if it was made of this very checkpoint, publishes
            the same and agrees with its sample, in int8 too unless a precision is asked for; else PyTorch.
            `Engine.why` and the log say which and why.

    Raises:
        CheckpointError, ConfigError, MissingDependencyError: see `load_predictor`.
    """
    names = ("auto", *get_args(EngineName))
    if engine not in names:
        raise ConfigError(f"engine {engine!r}: use {', '.join(names)}")
    if head is not None and head not in get_args(Head):
        raise ConfigError(f"head {head!r}: use {' or '.join(get_args(Head))}")
    suffix = path.suffix.lower()
    if suffix in _ENGINES:
        return _exported(path, device, precision, head, engine)
    if engine not in ("auto", "eager"):
        wanted = next(path.with_suffix(suffix) for suffix, able in _ENGINES.items() if engine in able)
        raise ConfigError(
            f"engine {engine!r} does not run a checkpoint; give {wanted.name} "
            f"(`hdmap export {path} --format {'onnx' if wanted.suffix == onnx_engine.SUFFIX else 'openvino'}`)"
        )
    place, asked = device_of(device), precision
    precision = precision or ("fp16" if place.type == "cuda" else "fp32")
    if precision not in ("fp32", "fp16") or (precision == "fp16" and place.type != "cuda"):
        raise ConfigError(f"precision {precision!r} on {place}: use fp32 anywhere, or fp16 on cuda")
    checkpoint = _publishing(load_checkpoint(path), path, head)
    why = "asked for" if engine == "eager" else "no exported file beside the checkpoint"
    if engine == "auto" and place.type != "cpu":
        why = f"PyTorch runs checkpoints on {place}"
    elif engine == "auto":
        found, reasons = _beside(path, checkpoint, asked)
        if found is not None:
            return found
        why = "; ".join(reasons) or why
    return EagerEngine(checkpoint, place, precision, why)


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
    if checkpoint.config.model.view_transform is None:
        raise CheckpointError(
            f"{path} is an HD-map refiner by itself, which looks at no sensor; give the model that was trained from it "
            "(start.hd_refiner)"
        )
    if head is None:
        return checkpoint
    decoding = checkpoint.config.decode.only(cast(Head, head))
    config = checkpoint.config.model_copy(update={"decode": decoding})
    return Checkpoint(checkpoint.model, config, checkpoint.provenance, checkpoint.sha256)


def _exported(path: Path, device: str, precision: str | None, head: str | None, engine: str, why: str = "") -> Engine:
    able = _ENGINES[path.suffix.lower()]
    others = " or ".join(able)
    if engine not in ("auto", *able):
        raise ConfigError(f"engine {engine!r} does not run {path.name}; use {others}, or give the checkpoint")
    allowed = ("fp32", "bf16") if able == ("openvino",) else ("fp32", "int8")
    if precision not in (None, *allowed):
        raise ConfigError(f"precision {precision!r} of {path.name}: use {' or '.join(allowed)}")
    why = why or "the file's suffix"
    found: Engine
    if able == ("openvino",):
        found = OpenVinoEngine(path, device, precision or "fp32", why)
    else:
        found = OnnxEngine(path, device, able[0] if engine == "auto" else cast(EngineName, engine), why)
    if precision not in (None, found.precision):
        raise ConfigError(f"{path.name} computes in {found.precision}, not in {precision}; export it again with that")
    published = heads_of(found.source.config)
    if head is not None and published != {head}:
        raise ConfigError(
            f"{path.name} holds the head {' and '.join(sorted(published))} alone, not {head!r}; export the checkpoint "
            f"with --head {head}, or give the checkpoint"
        )
    return found


def heads_of(config: CheckpointConfig) -> set[str]:
    """The heads whose elements are published."""
    return {config.decode.head_of(label) for label in config.model.classes}


def _beside(path: Path, checkpoint: Checkpoint, precision: str | None) -> tuple[Engine | None, list[str]]:
    """An exported file of this checkpoint that can be run in its place; else why the ones that are there cannot."""
    reasons = []
    for candidate in (path.with_suffix(suffix) for suffix in EXPORTED):
        if not candidate.is_file():
            continue
        try:
            found = _exported(candidate, "cpu", precision, None, "auto", f"{candidate.name} lies beside the checkpoint")
        except HdmapError as error:
            reasons.append(str(error))
            continue
        if found.source.sha256 != checkpoint.sha256:
            reasons.append(f"{candidate.name} was made of another checkpoint")
        elif found.source.config != checkpoint.config:
            reasons.append(f"{candidate.name} publishes otherwise")
        else:
            _log.info("%s runs in %s, %s: %s", path.name, found.name, found.precision, found.why)
            return found, []
    for reason in reasons:
        _log.warning("%s runs in PyTorch: %s", path.name, reason)
    return None, reasons
