"""What a source says of each keyframe, kept on disk: it then runs once per keyframe, not once per step and run.

One file per field of the output and one row per keyframe, memory-mapped, filled as batches ask. Only what terms look at
is kept: their taps, rasters, the directions that MapDistill compares, polylines. Rasters and features are in half
precision, polylines in full. Several runs may share a folder, at the same time too: they write the same.
"""

import hashlib
import json
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hdmap_core.errors import OutputError, os_errors_as
from hdmap_core.files import PART, alone, make_folder
from hdmap_core.model_io import DenseOutput, ModelOutput, VectorOutput
from training.config import TrainConfig
from training.data.keyframes import Keyframes
from training.data.vector_store import open_rows
from training.distill.sources import Source

_VERSION = 1


class KeptOutputs:
    """The outputs of one source for the keyframes of one split.

    Args:
        folder: where the files lie; made if it is not there.
        tokens: of all keyframes, in the order of the rows.
        fields: what is kept, by the names of `_split`.
    """

    def __init__(self, folder: Path, tokens: Sequence[str], fields: Sequence[str]) -> None:
        make_folder(folder)
        self._folder, self._fields = folder, fields
        self._rows = {token: row for row, token in enumerate(tokens)}
        self._open: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def recall(self, tokens: Sequence[str]) -> ModelOutput | None:
        """What was kept of these keyframes, float32 on the CPU; None unless all of it is there."""
        rows = [self._rows[token] for token in tokens]
        found = {}
        for name in self._fields:
            if name not in self._open and not (self._folder / f"{name}.there.npy").is_file():
                return None
            values, there = self._open_field(name)
            if not there[rows].all():
                return None
            found[name] = torch.from_numpy(values[rows]).float()
        return _joined(found)

    def keep(self, tokens: Sequence[str], output: ModelOutput) -> None:
        """Writes what a source said of these keyframes.

        Raises:
            OutputError: if there is no room for a file, or it cannot be written.
        """
        rows, said = [self._rows[token] for token in tokens], _split(output)
        for name in self._fields:
            value = said[name].detach().float().cpu()
            dtype = np.float32 if name.startswith("vectors.") else np.float16
            self._make_field(name, (len(self._rows), *value.shape[1:]), np.dtype(dtype))
            values, there = self._open_field(name)
            values[rows] = value.numpy()
            there[rows] = True

    def _make_field(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        last = self._folder / f"{name}.there.npy"
        if last.is_file():
            return
        with os_errors_as(OutputError, f"cannot write {self._folder}"), alone(self._folder / "lock"):
            if last.is_file():  # another run has made it meanwhile
                return
            size, free = math.prod(shape) * dtype.itemsize, shutil.disk_usage(self._folder).free
            if size > free:
                raise OutputError(
                    f"{self._folder} has {free / 1e9:.1f} GB left, {name} of {shape[0]} keyframes needs "
                    f"{size / 1e9:.1f}; give data.cache=... another disk, or data.keep_sources=false"
                )
            for path, each in ((self._folder / f"{name}.npy", dtype), (last, np.dtype(bool))):
                part = path.with_name(path.name + PART)
                np.lib.format.open_memmap(part, "w+", each, shape if path != last else shape[:1]).flush()
                part.rename(path)

    def _open_field(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        if name not in self._open:
            values, there = (open_rows(self._folder, f"{name}{end}", "r+") for end in (".npy", ".there.npy"))
            self._open[name] = (values, there)
        return self._open[name]


def kept_outputs(config: TrainConfig, sources: Mapping[str, Source], training: Keyframes) -> dict[str, KeptOutputs]:
    """Of each source, beside the prepared keyframes of the training split; none unless `data.keep_sources`."""
    if not config.data.keep_sources:
        return {}
    tokens = training.tokens.tolist()
    kept = {}
    for name, source in sources.items():
        content = [_VERSION, source.sha256, training.version, tokens, config.optim.precision, training.reduced]
        key = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]
        folder = training.cache / f"said-by-{source.config.name}-{key}"
        kept[name] = KeptOutputs(folder, tokens, looked_at(config, name, source))
    return kept


def looked_at(config: TrainConfig, name: str, source: Source) -> list[str]:
    """The fields of a source's output that a recipe's terms may look at."""
    terms = [term for term in config.distillation if term.source == name and term.weight]
    model = source.config
    fields = [f"taps.{tap}" for tap in sorted({pair.source for term in terms for pair in term.pairs})]
    fields += ["semantic"] if model.segmentation is not None else []
    if model.dense is not None:
        fields += ["dense.semantic"]
        fields += ["dense.direction"] if any(term.kind == "mapdistill" for term in terms) else []
    if model.vectors is not None and any(term.needs & {"vectors", "any"} for term in terms):
        fields += ["vectors.logits", "vectors.points", "vectors.queries"]
    return fields


def _split(output: ModelOutput) -> dict[str, Tensor]:
    """Fields with the batch first."""
    fields = {f"taps.{name}": value for name, value in output.taps.items()}
    if output.semantic is not None:
        fields["semantic"] = output.semantic
    if output.dense is not None:
        fields |= {"dense.semantic": output.dense.semantic, "dense.direction": output.dense.direction}
    if output.vectors is not None:
        fields |= {"vectors.logits": output.vectors.logits[-1:].transpose(0, 1)}
        fields |= {"vectors.points": output.vectors.points[-1:].transpose(0, 1)}
        if output.vectors.queries is not None:
            fields["vectors.queries"] = output.vectors.queries
    return fields


def _joined(fields: Mapping[str, Tensor]) -> ModelOutput:
    """What `_split` came from, as far as terms look at it: the last decoder layer, no embeddings."""
    output = ModelOutput(semantic=fields.get("semantic"))
    output.taps = {name.removeprefix("taps."): v for name, v in fields.items() if name.startswith("taps.")}
    if "dense.semantic" in fields:
        semantic = fields["dense.semantic"]
        nothing = semantic[:, :0]
        output.dense = DenseOutput(semantic, nothing, fields.get("dense.direction", nothing))
    if "vectors.logits" in fields:
        logits, points = (fields[f"vectors.{name}"].transpose(0, 1) for name in ("logits", "points"))
        output.vectors = VectorOutput(logits, points, queries=fields.get("vectors.queries"))
    return output
