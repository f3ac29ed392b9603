"""`hdmap import`: a released file becomes a checkpoint of ours, or one line says why not."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from hdmap_core.checkpoint import CheckpointConfig, check_sizes, save_checkpoint
from hdmap_core.config import changed
from hdmap_core.errors import CheckpointError, ConfigError, first_line
from hdmap_core.models import ModelConfig, build_model
from hdmap_core.models.state import listed
from hdmap_core.postprocess import DecodeConfig
from hdmap_core.released.dense_models import REGIONS, DenseModel, dense_config
from hdmap_core.released.dense_tensors import translate_dense
from hdmap_core.released.translation import Translation
from hdmap_core.released.vector_models import VectorModel, vector_config
from hdmap_core.released.vector_tensors import CAN_BUS, STANDING, translate_vectors
from hdmap_core.released.weight_file import WeightFile, read_weight_file

LICENCE = (
    "trained by others on nuScenes, which is for non-commercial use; whether the authors license their weights is for "
    "you to find out"
)
_REGION = re.compile(r"(\d+(?:\.\d+)?)x(\d+(?:\.\d+)?)")
_DENSE = ("hdmapnet", "pmapnet", "mapkd")
_VECTORS = ("mapqr", "mapfm", "maptr", "maptrv2")


@dataclass(frozen=True)
class Imported:
    """What an import made.

    Attributes:
        kind: as `--as` would have it.
        title: the same in words.
        config: of the checkpoint.
        num_parameters: of its model.
        notes: what whoever uses it has to know.
    """

    kind: str
    title: str
    config: CheckpointConfig
    num_parameters: int
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Plan:
    """How a file becomes a checkpoint: what it is, its config, and what fills a model of that config."""

    kind: str
    title: str
    config: CheckpointConfig
    fill: Callable[[Translation, ModelConfig], None]
    notes: tuple[str, ...] = ()


def import_file(
    path: str | Path,
    out: str | Path,
    *,
    kind: str | None = None,
    can_bus: Sequence[float] | None = None,
    overrides: Sequence[str] = (),
) -> Imported:
    """Reads a released file, translates it and writes a checkpoint; nothing is written unless all of it fits.

    Args:
        path: the file, as its authors offer it.
        out: the checkpoint to write.
        kind: what it is, as far as it cannot tell itself: family, region or both, `pmapnet-60x30`.
        can_bus: the 18 numbers that MapTR's line was told of the car's motion, to be folded in; None: it stands.
        overrides: of the checkpoint's config, such as `decode.score_threshold=0.3`.

    Raises:
        CheckpointError: if it cannot be read, is of no known model, or does not fit.
        ConfigError: for a kind, a vector or an override that cannot be.
        OutputError: if the checkpoint cannot be written.
    """
    asked = _parsed(kind)
    if Path(out).exists() and Path(path).exists() and Path(out).samefile(path):
        raise ConfigError(f"{path} is the file to read; name another one to write with -o")
    given = [] if can_bus is None else [math.isfinite(number) for number in can_bus]
    if can_bus is not None and (len(given) != CAN_BUS or not all(given)):
        raise ConfigError(
            f"a CAN-bus vector has {CAN_BUS} finite numbers; given are {len(given)}, {sum(given)} of them finite"
        )
    file = read_weight_file(path)
    plan = _plan(file, asked, can_bus)
    config = changed(plan.config, overrides, f"the config of {path}")
    check_sizes(file.path, config.model)
    translation = Translation(file.tensors, str(path))
    try:
        plan.fill(translation, config.model)
    except (RuntimeError, IndexError) as error:  # of tensors whose shapes contradict one another
        raise CheckpointError(f"{path} does not fit {plan.title}: {first_line(error)}") from None
    model = _filled(translation, config.model)
    save_checkpoint(out, model, config, _provenance(file, plan))
    return Imported(plan.kind, plan.title, config, sum(p.numel() for p in model.parameters()), plan.notes)


def _filled(translation: Translation, config: ModelConfig) -> nn.Module:
    with torch.device("meta"):
        model = build_model(config)
    model.load_state_dict(translation.finished(model.state_dict()), assign=True)
    return model


def _provenance(file: WeightFile, plan: _Plan) -> dict[str, object]:
    return {
        "imported": {"file": file.path.name, "sha256": file.sha256, "kind": plan.kind, "layout": file.layout},
        "dataset": f"nuScenes, by others: {plan.title}",
        "licence": LICENCE,
    }


def _plan(file: WeightFile, asked: "_Asked", can_bus: Sequence[float] | None) -> _Plan:
    try:
        dense = DenseModel.of(file.tensors)
        if dense is not None and can_bus is not None:
            raise ConfigError(f"{file.path} ({dense.title}) knows no CAN bus; leave the vector out")
        if dense is not None:
            return _dense_plan(file.path, dense, asked)
        vectors = VectorModel.of(file.tensors)
        if vectors is not None:
            return _vector_plan(file.path, vectors, asked, can_bus)
    except CheckpointError as error:
        raise CheckpointError(f"{file.path}: {error}") from None
    raise CheckpointError(
        f"{file.path} is none of the models that are known (docs/released_weights.md): {len(file.tensors)} tensors, "
        f"such as {listed(file.tensors)}"
    )


def _dense_plan(path: Path, model: DenseModel, asked: "_Asked") -> _Plan:
    family, region = _chosen(path, model, asked)
    config = CheckpointConfig(model=dense_config(model, region), decode=DecodeConfig(head="dense", max_elements=200))

    def fill(translation: Translation, chosen: ModelConfig) -> None:
        translate_dense(translation, chosen, direction_by_embedding=family == "hdmapnet")

    return _Plan(f"{family}-{_written(region)}", model.title, config, fill)


def _vector_plan(path: Path, model: VectorModel, asked: "_Asked", can_bus: Sequence[float] | None) -> _Plan:
    if asked.family not in (None, model.kind) or asked.region not in (None, (60.0, 30.0)):
        raise ConfigError(f"--as {asked.text}: {path} is {model.kind} of 60 x 30 m ({model.title})")

    if model.looks_by == "depth" and can_bus is not None:
        raise ConfigError(f"{path} ({model.title}) does not read the CAN bus; leave the vector out")

    def fill(translation: Translation, chosen: ModelConfig) -> None:
        translate_vectors(translation, model, chosen, can_bus=STANDING if can_bus is None else can_bus)

    notes = [
        "Its frame is nuScenes' LiDAR (model.ego_from_model); give that of your rig if it differs by more than "
        "centimetres."
    ]
    if model.looks_by != "depth" and can_bus is None:
        notes.insert(
            0,
            "It was trained with the car's heading and motion on the CAN bus, and now believes that it stands and "
            "looks east; --can-bus takes another vector.",
        )
    config = CheckpointConfig(model=vector_config(model), decode=DecodeConfig(head="vectors", max_elements=50))
    return _Plan(model.kind, model.title, config, fill, tuple(notes))


@dataclass(frozen=True)
class _Asked:
    """What `--as` says: family, region [m], and its text."""

    family: str | None
    region: tuple[float, float] | None
    text: str


def _parsed(kind: str | None) -> _Asked:
    family: str | None = None
    region: tuple[float, float] | None = None
    for part in kind.split("-") if kind else ():
        if (match := _REGION.fullmatch(part)) is not None:
            region = (float(match[1]), float(match[2]))
        elif part in (*_DENSE, *_VECTORS):
            family = part
        else:
            raise ConfigError(
                f"--as {kind}: {part!r} is neither a family ({', '.join((*_DENSE, *_VECTORS))}) nor a region such as "
                "60x30; write pmapnet-60x30"
            )
    return _Asked(family, region, kind or "")


def _chosen(path: Path, model: DenseModel, asked: _Asked) -> tuple[str, tuple[float, float]]:
    """Family and region: what was asked for, where the file leaves it open."""
    if asked.family is not None and asked.family not in model.families:
        raise ConfigError(f"--as {asked.text}: {path} is of {' or '.join(model.families)} ({model.title})")
    if asked.region is not None and model.resolution(asked.region) is None:
        raise ConfigError(f"--as {asked.text}: the {model.cells} cells of the grid in {path} do not fit that region")
    families = (asked.family,) if asked.family else model.families
    regions = (asked.region,) if asked.region else tuple(r for r in REGIONS if model.resolution(r) is not None)
    if not regions:
        raise CheckpointError(f"its grid of {model.cells} cells fits none of the published regions")
    if len(families) * len(regions) > 1:
        choices = [f"{one}-{_written(other)}" for one in families for other in regions]
        raise ConfigError(
            f"{path} ({model.title}) does not tell which of these it is: {', '.join(choices)}; say it with --as"
        )
    return families[0], regions[0]


def _written(region: tuple[float, float]) -> str:
    return "x".join(f"{side:g}" for side in region)
