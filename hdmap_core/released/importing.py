"""`hdmap import`: a released file becomes a checkpoint of ours, or one line says why not."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from hdmap_core.checkpoint import CheckpointConfig, save_checkpoint
from hdmap_core.config import changed
from hdmap_core.errors import CheckpointError, ConfigError
from hdmap_core.models import ModelConfig, build_model
from hdmap_core.models.state import listed
from hdmap_core.postprocess import DecodeConfig
from hdmap_core.released.dense_models import REGIONS, DenseModel, dense_config
from hdmap_core.released.dense_tensors import translate_dense
from hdmap_core.released.translation import Translation
from hdmap_core.released.weight_file import WeightFile, read_weight_file

NOTE = (
    "Weights of others, trained on nuScenes, which is for non-commercial use; their authors state no licence of the "
    "weights."
)
_REGION = re.compile(r"(\d+(?:\.\d+)?)x(\d+(?:\.\d+)?)")
_FAMILIES = ("hdmapnet", "pmapnet", "mapkd")


@dataclass(frozen=True)
class Imported:
    """What an import made.

    Attributes:
        kind: as `--as` would have it.
        title: the same in words.
        config: of the checkpoint.
        num_parameters: of its model.
    """

    kind: str
    title: str
    config: CheckpointConfig
    num_parameters: int


def import_file(path: str | Path, out: str | Path, *, kind: str | None = None, overrides: Sequence[str] = ()) -> Imported:
    """Reads a released file, translates it and writes a checkpoint; nothing is written unless all of it fits.

    Args:
        path: the file, as its authors offer it.
        out: the checkpoint to write.
        kind: what it is, as far as it cannot tell itself: family, region or both, `pmapnet-60x30`.
        overrides: of the checkpoint's config, such as `decode.score_threshold=0.3`.

    Raises:
        CheckpointError: if it cannot be read, is of no known model, or does not fit.
        ConfigError: for a kind or an override that cannot be.
        OutputError: if the checkpoint cannot be written.
    """
    file = read_weight_file(path)
    dense = DenseModel.of(file.tensors)
    if dense is None:
        raise CheckpointError(
            f"{path} is none of the models that are known (docs/released_weights.md): {len(file.tensors)} tensors such "
            f"as {listed(file.tensors)}"
        )
    family, region = _chosen(path, dense, kind)
    config = CheckpointConfig(
        model=dense_config(dense, region), decode=DecodeConfig(head="dense", max_elements=200)
    )
    config = changed(config, overrides, f"the config of {path}")
    translation = Translation(file.tensors, str(path))
    translate_dense(translation, config.model, direction_by_embedding=family == "hdmapnet")
    model = _filled(translation, config.model)
    written = f"{family}-{_written(region)}"
    save_checkpoint(out, model, config, _provenance(file, written, dense.title))
    return Imported(written, dense.title, config, sum(p.numel() for p in model.parameters()))


def _filled(translation: Translation, config: ModelConfig) -> torch.nn.Module:
    with torch.device("meta"):
        model = build_model(config)
    model.load_state_dict(translation.finished(model.state_dict()), assign=True)
    return model


def _provenance(file: WeightFile, kind: str, title: str) -> dict[str, str]:
    return {
        "imported_from": file.path.name,
        "imported_sha256": file.sha256,
        "kind": kind,
        "title": title,
        "layout": file.layout,
        "licence": NOTE,
    }


def _chosen(path: str | Path, model: DenseModel, kind: str | None) -> tuple[str, tuple[float, float]]:
    """Family and region: what was asked for, where the file leaves it open."""
    family, region = _parsed(kind)
    if family is not None and family not in model.families:
        raise ConfigError(f"--as {kind}: {path} is of {' or '.join(model.families)} ({model.title})")
    families = (family,) if family else model.families
    regions = (region,) if region else tuple(each for each in REGIONS if model.resolution(each) is not None)
    if region is not None and model.resolution(region) is None:
        raise ConfigError(f"--as {kind}: a grid of {model.cells} cells, as {path} has it, does not fit that region")
    if not regions:
        raise CheckpointError(f"{path}: a grid of {model.cells} cells fits none of the published regions")
    if len(families) * len(regions) > 1:
        choices = [f"{one}-{_written(other)}" for one in families for other in regions]
        raise ConfigError(
            f"{path} ({model.title}) does not tell which of these it is: {', '.join(choices)}; say it with --as"
        )
    return families[0], regions[0]


def _parsed(kind: str | None) -> tuple[str | None, tuple[float, float] | None]:
    family: str | None = None
    region: tuple[float, float] | None = None
    for part in kind.split("-") if kind else ():
        if (match := _REGION.fullmatch(part)) is not None:
            region = (float(match[1]), float(match[2]))
        elif part in _FAMILIES:
            family = part
        else:
            raise ConfigError(
                f"--as {kind}: {part!r} is neither a family ({', '.join(_FAMILIES)}) nor a region such as 60x30; "
                "write pmapnet-60x30"
            )
    return family, region


def _written(region: tuple[float, float]) -> str:
    return "x".join(f"{side:g}" for side in region)
