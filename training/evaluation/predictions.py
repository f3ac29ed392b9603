"""Predictions of many frames: in pieces of scenes, by any number of workers, never computed twice.

A folder holds `predictions.jsonl` and `predictions.meta.json`, which says what they are of: the checkpoint's SHA-256,
the data set, head, device, corruption, and a digest of this program's sources. Of dense heads it also holds
`overlaps.json`, for their mIoU. While they are being made, each finished piece lies in `resume/`. What agrees in all of
that is taken instead of being computed again; anything else is left aside and replaced at the end.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from hdmap_core.datasets.opening import open_dataset
from hdmap_core.datasets.protocol import MapDataset
from hdmap_core.elements import MapElement, read_elements, write_elements
from hdmap_core.errors import ElementError
from hdmap_core.files import json_object, remove_folder, write_atomically
from hdmap_core.inference import Predictor, load_predictor
from hdmap_core.inference.one_ahead import one_ahead
from hdmap_core.inference.predictor import PreparedInput
from hdmap_core.running.parallel import map_scenes
from training.corruptions import Corruption, corrupt
from training.evaluation.raster_overlap import Overlap, raster_overlap

PIECE = 20
"""Frames per piece of work, of one scene: what is lost at most per worker when the power goes."""
_SOURCES = ("hdmap_core", "training/corruptions", "training/data", "training/evaluation/raster_overlap.py")


@dataclass(frozen=True)
class Source:
    """What decides a prediction, apart from the frame; pickled to workers.

    Attributes:
        checkpoint: a file.
        sha256: of its content.
        version: which data set of the folder.
        data_digest: see `MapDataset.digest`.
        head: see `load_predictor`.
        dense: the model has dense heads.
        lidar_ground: see `MapDataset.observation`.
    """

    checkpoint: Path
    sha256: str
    dataroot: Path
    version: str
    data_digest: str
    head: str | None
    device: str
    dense: bool = False
    corruption: Corruption | None = None
    lidar_ground: bool = False

    @property
    def has_overlaps(self) -> bool:
        """Whether frames get an overlap with the truth: of corrupted ones nobody asks for the mIoU."""
        return self.dense and self.corruption is None

    def identity(self) -> dict[str, Any]:
        """What must be equal for predictions to be reused, as plain JSON values."""
        return {
            "checkpoint_sha256": self.sha256,
            "data": self.data_digest,
            "head": self.head,
            "device": self.device.partition(":")[0],
            "lidar_ground": self.lidar_ground,
            "corruption": None if self.corruption is None else asdict(self.corruption),
            "program": _program_digest(),
        }


@dataclass(frozen=True)
class Wanted:
    """Predictions from one source, kept in `folder` if there is one."""

    source: Source
    folder: Path | None


class Predicted(NamedTuple):
    """What a model says of a frame; `overlap` is None unless the source `has_overlaps`."""

    elements: list[MapElement]
    overlap: Overlap | None


@dataclass(frozen=True)
class _Piece:
    source: Source
    tokens: tuple[str, ...]


def predict_frames(
    wanted: Sequence[Wanted],
    scenes: Sequence[Sequence[str]],
    *,
    workers: int = 1,
    ray: str | None = None,
    gpus: float = 0.0,
    progress: Callable[[int], None] = lambda frames: None,
) -> list[dict[str, Predicted]]:
    """Predicts the same frames from several sources.

    Args:
        wanted: the sources (clean, corrupted, another checkpoint), each with a folder of its own.
        scenes: per scene the tokens of its frames.
        workers: see `map_scenes`.
        ray: see `map_scenes`.
        gpus: see `map_scenes`.
        progress: called with the number of frames that are finished or were found.

    Returns:
        Per source: token -> what was predicted, in the order of the frames. Numbers are as the files hold them
        (millimetres), whether they were computed now or read.

    Raises:
        DatasetError, ImageError: if a frame cannot be read.
        OutputError: if a folder cannot be written.
        WorkerLostError: if workers keep dying.
    """
    tokens = [token for scene in scenes for token in scene]
    found = [_reusable(want, tokens) for want in wanted]
    pieces: list[tuple[int, _Piece]] = []
    for index, want in enumerate(wanted):
        for scene in scenes:
            missing = [token for token in scene if token not in found[index]]
            for start in range(0, len(missing), PIECE):
                pieces.append((index, _Piece(want.source, tuple(missing[start : start + PIECE]))))
    progress(sum(map(len, found)))

    def done(number: int, frames: dict[str, Predicted]) -> None:
        index, piece = pieces[number]
        found[index].update(frames)
        _keep(wanted[index], piece, frames)
        progress(len(frames))

    map_scenes(_predict_piece, [piece for _, piece in pieces], workers, ray, done, gpus)
    ordered = [{token: frames[token] for token in tokens} for frames in found]
    for want, frames in zip(wanted, ordered, strict=True):
        _finish(want, frames)
    return ordered


def _predict_piece(piece: _Piece) -> dict[str, Predicted]:
    """In a worker."""
    source = piece.source
    predictor = _predictor(source.checkpoint, source.sha256, source.device, source.head)
    model, grid = predictor.config.model, predictor.info.grid
    dataset, sweeps = _dataset(source.dataroot, source.version, source.data_digest), predictor.info.lidar_sweeps

    def prepare(token: str) -> PreparedInput:
        enough = predictor.info.enough_pixels if source.corruption is None else None
        observation = dataset.observation(
            token,
            points=sweeps > 0,
            sweeps=max(1, sweeps),
            at_least=enough,
            coarse=enough is not None,
            lidar_ground=source.lidar_ground,
        )
        if source.corruption is not None:
            observation = corrupt(observation, source.corruption)
        return predictor.prepare(observation)

    frames = {}
    for token, outcome in one_ahead(piece.tokens, prepare, predictor.complete):
        prediction, overlap = outcome.result(), None
        if source.has_overlaps and prediction.raster is not None:
            truth = dataset.elements(token, grid.x_range, grid.y_range, model.classes, model.crossings)
            overlap = raster_overlap(prediction.raster, truth, model)
        frames[token] = Predicted([MapElement.from_json(element.to_json()) for element in prediction.elements], overlap)
    return frames


@lru_cache(maxsize=2)  # a checkpoint and its baseline
def _predictor(checkpoint: Path, sha256: str, device: str, head: str | None) -> Predictor:
    return load_predictor(checkpoint, device, head=head)


@lru_cache(maxsize=1)
def _dataset(root: Path, version: str, digest: str) -> MapDataset:
    return open_dataset(root, version)


@cache
def _program_digest() -> str:
    """Of the sources: a change of the code makes what was predicted before stale."""
    root = Path(__file__).resolve().parents[2]
    digest = hashlib.sha256()
    for path in program_sources(root):
        digest.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return digest.hexdigest()


def program_sources(root: Path) -> list[Path]:
    """The files of this program, below `root`, that predictions and their overlaps depend on."""
    places = [root / name for name in _SOURCES]
    return sorted(file for place in places for file in ([place] if place.is_file() else place.rglob("*.py")))


def _reusable(want: Wanted, tokens: Iterable[str]) -> dict[str, Predicted]:
    if want.folder is None:
        return {}
    identity = want.source.identity()
    frames: dict[str, list[MapElement]] = {}
    overlaps: dict[str, Overlap] = {}
    try:
        if (whole := json_object(want.folder / "predictions.meta.json")) and whole == _meta(want):
            frames.update(read_elements(want.folder / "predictions.jsonl"))
            overlaps.update(json_object(want.folder / "overlaps.json"))
        resume = want.folder / "resume"
        if json_object(resume / "meta.json").get("of") == identity:
            for path in sorted(resume.glob("*.jsonl")):
                frames.update(read_elements(path))
                overlaps.update(json_object(path.with_suffix(".json")))
    except (OSError, ElementError):  # it was written by a program, and only saves time: compute instead
        return {}
    wanted = set(tokens) & frames.keys()
    if want.source.has_overlaps:
        wanted &= overlaps.keys()
    return {token: Predicted(frames[token], overlaps.get(token)) for token in frames if token in wanted}


def _keep(want: Wanted, piece: _Piece, frames: Mapping[str, Predicted]) -> None:
    if want.folder is None:
        return
    resume = want.folder / "resume"
    if json_object(resume / "meta.json").get("of") != want.source.identity():
        remove_folder(resume)
        write_atomically(resume / "meta.json", _json({"of": want.source.identity()}))
    if want.source.has_overlaps:  # first, so that elements are never without
        write_atomically(resume / f"{piece.tokens[0]}.json", _json(_overlaps(frames)))
    write_elements(resume / f"{piece.tokens[0]}.jsonl", _elements(frames))


def _finish(want: Wanted, frames: Mapping[str, Predicted]) -> None:
    if want.folder is None:
        return
    if want.source.has_overlaps:
        write_atomically(want.folder / "overlaps.json", _json(_overlaps(frames)))
    write_elements(want.folder / "predictions.jsonl", _elements(frames))
    write_atomically(want.folder / "predictions.meta.json", _json(_meta(want)))
    remove_folder(want.folder / "resume")


def _meta(want: Wanted) -> dict[str, Any]:
    """What the finished files of a folder are of, and their digests: one that was changed is not taken."""
    assert want.folder is not None
    names = ("predictions.jsonl", *(("overlaps.json",) if want.source.has_overlaps else ()))
    digests = {name: hashlib.sha256((want.folder / name).read_bytes()).hexdigest() for name in names}
    return {"of": want.source.identity(), "sha256": digests}


def _elements(frames: Mapping[str, Predicted]) -> dict[str, list[MapElement]]:
    return {token: frame.elements for token, frame in frames.items()}


def _overlaps(frames: Mapping[str, Predicted]) -> dict[str, Overlap | None]:
    return {token: frame.overlap for token, frame in frames.items()}


def _json(content: object) -> bytes:
    return (json.dumps(content, indent=1) + "\n").encode()
