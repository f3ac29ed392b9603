"""The models that teach: read from checkpoints, frozen, and checked against the student before anything is prepared."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hdmap_core.checkpoint import find_checkpoint, load_checkpoint
from hdmap_core.errors import CheckpointError
from hdmap_core.models import MapModel, ModelConfig
from hdmap_core.models.build import tap_channels
from training.config import TrainConfig
from training.distill.term import Head
from training.distill.terms import DistillationTerm


@dataclass(frozen=True)
class Source:
    """A frozen model.

    Attributes:
        model: in evaluation mode, no parameter needs a gradient; part of no other module.
        config: of the model.
        report: where it comes from, in a line.
        sha256: of its file.
    """

    model: MapModel
    config: ModelConfig
    report: str
    sha256: str


def load_sources(config: TrainConfig) -> dict[str, Source]:
    """The sources whose terms have a weight, by name, in the recipe's order, on the CPU.

    Raises:
        CheckpointError: if one cannot be read or does not fit the student; it says which, and why, in a line.
    """
    used = {term.source for term in config.distillation if term.weight}
    sources = {}
    for name, source in config.sources.items():
        if name not in used:
            continue
        try:
            path = find_checkpoint(source)
            checkpoint = load_checkpoint(path)
        except CheckpointError as error:
            raise CheckpointError(f"sources.{name}: {error}") from None
        theirs = checkpoint.config.model
        problem = _misfit(config.model, theirs) or _lack(config, name, theirs) or _moves(config, theirs)
        if problem:
            raise CheckpointError(f"sources.{name}: {path} cannot teach {config.model.name}: {problem}")
        report = f"taught by {name}: {theirs.name} ({path}, {checkpoint.sha256[:8]})"
        sources[name] = Source(checkpoint.model.requires_grad_(False), theirs, report, checkpoint.sha256)
    return sources


def _misfit(student: ModelConfig, source: ModelConfig) -> str | None:
    """Why a model cannot teach this student anything, or None. Resolution and size of images may differ."""
    if source.is_refiner:
        return "it is an HD-map refiner by itself, which looks at no sensor; give the model that was trained from it"
    if source.classes != student.classes:
        theirs, ours = (", ".join(label.value for label in model.classes) for model in (source, student))
        return f"it was trained for the classes {theirs}, the student has {ours}"
    ranges = [(model.grid.x_range, model.grid.y_range) for model in (source, student)]
    if ranges[0] != ranges[1]:
        theirs, ours = (f"x {list(x)} and y {list(y)} m" for x, y in ranges)
        return f"it was trained for {theirs}, the student's grid is {ours}"
    return None


def _moves(config: TrainConfig, source: ModelConfig) -> str | None:
    moving = [name for name in ("turn", "rotate", "shift") if getattr(config.augment, name)]
    if source.lidar_sweeps and moving:
        return (
            f"augment.{', '.join(moving)} would move the car's own LiDAR returns out of the box that its pillars leave "
            "out; set to 0"
        )
    return None


def _lack(config: TrainConfig, name: str, theirs: ModelConfig) -> str | None:
    """What a term of this source looks at and one of the two models has not, or None."""
    taps = {"student": tap_channels(config.model), "source": tap_channels(theirs)}
    for number, term in enumerate(config.distillation):
        if term.source != name or not term.weight:
            continue
        place = f"distillation.{number} ({term.kind})"
        for pair in term.pairs:
            for role, tap in (("student", pair.student), ("source", pair.source)):
                if tap not in taps[role]:
                    return f"{place} looks at the tap {tap} of the {role}, which has {', '.join(taps[role])}"
        if term.kind == "tgpd_published":
            for pair in term.pairs:
                ours, other = taps["student"][pair.student], taps["source"][pair.source]
                if ours != other:
                    return f"{place} needs features as wide; {pair.source} has {other} channels, the student's {ours}"
        if problem := _headless(term.needs, config.model, theirs, term):
            return f"{place} {problem}"
    return None


def _headless(needs: frozenset[Head], ours: ModelConfig, theirs: ModelConfig, term: DistillationTerm) -> str | None:
    kinds = [_rasters(model) for model in (ours, theirs)]
    same_rasters = kinds[0] is not None and kinds[0] == kinds[1]
    both_vectors = ours.vectors is not None and theirs.vectors is not None
    if "lines" in needs and kinds[0] is None:
        return "needs true lines as rasters: give the student dense heads or a segmentation head"
    if "rasters" in needs and not same_rasters:
        return f"compares rasters; the student has {kinds[0] or 'none'}, the source {kinds[1] or 'none'}"
    if "vectors" in needs and not both_vectors:
        return "compares polylines, and one of the two models has no vector head"
    if "any" in needs and not (same_rasters or both_vectors):
        return "compares rasters or polylines, and the two models have none of the same kind"
    if ours.vectors is not None and theirs.vectors is not None and needs & {"vectors", "any"}:
        counts = ours.vectors.num_points, theirs.vectors.num_points
        if counts[0] != counts[1]:
            return f"compares points; the student has {counts[0]} per element, the source {counts[1]}"
    if ours.dense is not None and theirs.dense is not None and term.kind == "mapdistill":
        counts = ours.dense.directions, theirs.dense.directions
        if counts[0] != counts[1]:
            return f"compares directions; the student has {counts[0]} bins, the source {counts[1]}"
    return None


def _rasters(model: ModelConfig) -> str | None:
    if model.dense is not None:
        return "dense heads"
    return None if model.segmentation is None else "masks"


def as_provenance(sources: Mapping[str, Source], config: TrainConfig) -> dict[str, dict[str, str]]:
    """What a student's checkpoint says of those that taught it."""
    return {
        name: {"name": source.config.name, "path": str(Path(config.sources[name])), "sha256": source.sha256}
        for name, source in sources.items()
    }
