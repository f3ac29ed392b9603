"""Makes the store of a split: ground truth of every keyframe, and, if asked for, what `preprocess` makes of its images.

What `preprocess` makes has no weights in it, so it may be kept (`data.keep_inputs`): 1.3 GB per 4000 keyframes for the
ground pixels of the student, 7 MB per keyframe for six images of 480 x 800. The folder's name holds a hash of all that
its content depends on; an interrupted preparation goes on with the scenes that are missing.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Literal

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from hdmap_core.datasets.opening import open_dataset, with_index
from hdmap_core.datasets.protocol import MapDataset, scenes_of_split
from hdmap_core.errors import DatasetError, OutputError, os_errors_as
from hdmap_core.files import alone, write_atomically
from hdmap_core.geometry import BEVGrid
from hdmap_core.model_io import ModelInput
from hdmap_core.models import ModelConfig
from hdmap_core.preprocess import PLAIN, ImageFit, camera_inputs
from hdmap_core.running.parallel import map_scenes
from training.data.inspection import BadKeyframe, Inspection, find_bad, opened, summary
from training.data.vector_store import LAYERS, VectorStore, damaged, open_rows

_VERSION = 4
_RESOLUTION = 0.1  # ground truth does not depend on it
OnBad = Literal["fail", "skip"]
Scenes = list[tuple[str, ...]]


@dataclass(frozen=True)
class Preparation:
    """What a store is made of.

    Attributes:
        root: a data set's folder (`open_dataset`).
        version: which data set of it; by default the one that the split tells.
        cache: where stores and indices lie.
        split: whose keyframes.
        model: for its grid and classes, and for its inputs if they are kept.
        keep_inputs: keep the model's inputs as well as the ground truth, so that no image is decoded again.
        sweeps: how many LiDAR sweeps of each keyframe will be needed, its own and those before it.
        lidar_ground: the inputs are of the ground that each keyframe's sweep shows (`MapDataset.observation`).
        decode: decode every image to see whether it is whole.
        on_bad: what to do about keyframes that cannot be used: stop, or leave them out and record them.
        workers: processes; 0 = one per core.
        ray: address of a Ray cluster to run on instead.
    """

    root: Path
    cache: Path
    split: str
    model: ModelConfig
    keep_inputs: bool = False
    sweeps: int = 0
    lidar_ground: bool = False
    decode: bool = False
    on_bad: OnBad = "fail"
    workers: int = 0
    ray: str | None = None
    version: str | None = None

    @property
    def processes(self) -> int:
        """Workers, counted."""
        return self.workers or os.cpu_count() or 1

    @property
    def sweeps_read(self) -> int:
        """How many sweeps of each keyframe must be there."""
        return max(self.sweeps, int(self.lidar_ground))


def prepare(preparation: Preparation) -> Path:
    """The folder of the store, made now or before.

    Raises:
        DatasetError: if the folder or the split cannot be used; if keyframes cannot and `on_bad` says `fail`.
        OutputError: if the cache cannot be written.
    """
    if preparation.model.is_refiner:  # whatever `keep_inputs` says
        preparation = replace(preparation, keep_inputs=False)
    root, split = preparation.root, preparation.split
    dataset = open_dataset(root, preparation.version, split=split, cache=preparation.cache)
    preparation = replace(preparation, version=dataset.version)
    scenes = [scene.sample_tokens for scene in scenes_of_split(dataset, split) if scene.sample_tokens]
    if not scenes:
        raise DatasetError(f"split {split!r} of {root} has no keyframes")
    name = f"{split}-{store_key(preparation, scenes, dataset)}"
    folder = preparation.cache / name
    if preparation.model.is_refiner and not (folder / "complete").is_file():
        folder = preparation.cache / f"maps-{name}"  # nobody looks for images, so it must serve no model of cameras
    if not (folder / "complete").is_file():
        advice = "name another with data.cache=..."
        with os_errors_as(OutputError, f"cannot write the cache {folder}", advice), alone(folder / "lock"):
            if not (folder / "complete").is_file():  # another run may have made it meanwhile
                (folder / "parts").mkdir(parents=True, exist_ok=True)
                _make(preparation, folder, scenes, dataset)
    return folder


def model_of_grid(text: str) -> ModelConfig:
    """A model that stands for all of its grid and the three usual classes, e.g. of `60x30` metres.

    Raises:
        ConfigError: if that is no grid.
    """
    return ModelConfig(name="grid", grid=BEVGrid.parse(text, _RESOLUTION))


def inspection_of(preparation: Preparation, version: str) -> Inspection:
    """What every keyframe must have: the cameras that the model names, else all of its rig; for a refiner, none."""
    model = preparation.model
    named = () if model.image_backbone is None else model.image_backbone.cameras
    cameras = () if model.is_refiner else named or None
    return Inspection(
        preparation.root, version, preparation.cache, cameras, preparation.sweeps_read, preparation.decode
    )


def bad_keyframes(preparation: Preparation, scenes: Scenes, version: str, progress: Progress) -> list[BadKeyframe]:
    """Those of the scenes that cannot be used, in order; a bar says how far the search is."""
    bar = progress.add_task(f"checking {preparation.split}".strip(), total=sum(map(len, scenes)))
    return find_bad(
        scenes,
        inspection_of(preparation, version),
        preparation.processes,
        preparation.ray,
        lambda count: progress.advance(bar, count),
    )


def left_out(folder: Path) -> list[BadKeyframe]:
    """The keyframes that a store was made without."""
    try:
        return [BadKeyframe(**bad) for bad in json.loads((folder / "left_out.json").read_text(encoding="utf-8"))]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError) as error:
        raise damaged(folder, error) from None


def store_key(preparation: Preparation, scenes: Scenes, dataset: MapDataset) -> str:
    """A hash of all that a store's content depends on; of the true maps, what `truth_state` says.

    Which cameras and sweeps its keyframes were looked through for decides which of them it has.
    """
    model = preparation.model
    grid = model.grid
    maps = dataset.truth_state()
    classes = [label.value for label in model.classes]
    backbone = model.image_backbone
    cameras = () if backbone is None else backbone.cameras
    content: list[object] = [_VERSION, preparation.version, scenes, grid.x_range, grid.y_range, classes, LAYERS, maps]
    content += [cameras, preparation.sweeps_read, model.crossings]
    if preparation.keep_inputs:
        content += [grid.resolution] if model.sees_ground else []
        fit = PLAIN if backbone is None else ImageFit.of(backbone)
        content += [] if backbone is None else [backbone.image_size]
        content += [] if fit == PLAIN else [fit]
        content += ["ground from LiDAR"] if preparation.lidar_ground else []
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]


def _make(preparation: Preparation, folder: Path, scenes: Scenes, dataset: MapDataset) -> None:
    dataset = with_index(dataset, preparation.cache)
    opened.cache_clear()  # it may have been opened without the index
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn()) as progress:
        bad = {frame.token for frame in _inspected(preparation, folder, scenes, dataset.version, progress)}
        scenes = [tuple(token for token in tokens if token not in bad) for tokens in scenes]
        scenes = [tokens for tokens in scenes if tokens]
        if not scenes:
            raise DatasetError(f"no keyframe of split {preparation.split!r} of {preparation.root} can be used")
        firsts = np.cumsum([0, *map(len, scenes)]).tolist()
        if preparation.keep_inputs and not (folder / "inputs").is_dir():
            _allocate(preparation, scenes[0][0], folder, firsts[-1])
        jobs = [
            (preparation, tokens, first, folder)
            for tokens, first in zip(scenes, firsts, strict=False)
            if not (folder / "parts" / tokens[0] / "complete").is_file()
        ]
        done = firsts[-1] - sum(len(job[1]) for job in jobs)
        bar = progress.add_task(f"preparing {folder.name}", total=firsts[-1], completed=done)
        map_scenes(
            _prepare_scene,
            jobs,
            preparation.processes,
            preparation.ray,
            lambda number, frames: progress.advance(bar, frames),
        )
    VectorStore.joined([VectorStore.read(folder / "parts" / tokens[0]) for tokens in scenes]).write(folder)
    (folder / "complete").touch()
    shutil.rmtree(folder / "parts")


def _inspected(
    preparation: Preparation, folder: Path, scenes: Scenes, version: str, progress: Progress
) -> Sequence[BadKeyframe]:
    """The keyframes to leave out, found now or before an interruption."""
    record = folder / "left_out.json"
    if record.is_file():
        return left_out(folder)
    bad = bad_keyframes(preparation, scenes, version, progress)
    if bad and preparation.on_bad == "fail":
        told = summary(bad, sum(map(len, scenes)))
        raise DatasetError(f"{told}. Put right what is missing, or leave them out with `hdmap prepare --on-bad skip`")
    if bad:  # what an older run left may count them in
        shutil.rmtree(folder / "inputs", ignore_errors=True)
        shutil.rmtree(folder / "parts")
        (folder / "parts").mkdir()
    write_atomically(record, json.dumps([asdict(frame) for frame in bad], indent=1).encode())
    return bad


Job = tuple[Preparation, tuple[str, ...], int, Path]


def _prepare_scene(job: Job) -> int:
    """Writes one scene's part of the store; returns how many keyframes it has."""
    preparation, tokens, first, folder = job
    dataset, model = _dataset(preparation), preparation.model
    grid = model.grid
    kept = kept_inputs(folder, "r+") if preparation.keep_inputs else {}
    frames = []
    for index, token in enumerate(tokens, start=first):
        if kept:
            inputs = _camera_inputs(preparation, dataset, token)
            for name, rows in kept.items():
                value = getattr(inputs, name)[0].numpy()
                if value.shape != rows.shape[1:]:
                    raise DatasetError(
                        f"sample {token}: {name} of this rig are {value.shape}, the first keyframe's {rows.shape[1:]}; "
                        "inputs of several rigs cannot be kept side by side, say data.keep_inputs=false"
                    )
                rows[index] = value
        areas = dataset.areas(token, grid.x_range, grid.y_range, LAYERS)
        frames.append(
            (token, dataset.elements(token, grid.x_range, grid.y_range, model.classes, model.crossings), areas)
        )
    for rows in kept.values():
        assert isinstance(rows, np.memmap)
        rows.flush()
    part = folder / "parts" / tokens[0]
    part.mkdir(exist_ok=True)
    VectorStore.of(frames).write(part)
    (part / "complete").touch()
    return len(tokens)


def _allocate(preparation: Preparation, token: str, folder: Path, frames: int) -> None:
    """Empty arrays (F, ...) for the fields of `ModelInput` that `preprocess` fills."""
    dataset = _dataset(preparation)
    example = _camera_inputs(preparation, dataset, token)
    fresh = folder / "inputs.part"
    fresh.mkdir(exist_ok=True)
    for field in fields(example):
        value = getattr(example, field.name)
        if value is not None:
            array = value[0].numpy()
            np.lib.format.open_memmap(fresh / f"{field.name}.npy", "w+", array.dtype, (frames, *array.shape)).flush()
    fresh.rename(folder / "inputs")


def _camera_inputs(preparation: Preparation, dataset: MapDataset, token: str) -> ModelInput:
    points, lidar_ground = preparation.sweeps > 0, preparation.lidar_ground
    return camera_inputs(dataset.observation(token, points=points, lidar_ground=lidar_ground), preparation.model)


def _dataset(preparation: Preparation) -> MapDataset:
    assert preparation.version is not None
    return opened(preparation.root, preparation.version, preparation.cache)


def kept_inputs(folder: Path, mode: Literal["r", "r+"] = "r") -> dict[str, np.ndarray]:
    """The inputs that a store keeps, memory-mapped (F, ...), by the names of their fields in `ModelInput`.

    Raises:
        DatasetError: if one is damaged.
    """
    files = sorted((folder / "inputs").glob("*.npy"))
    return {path.stem: open_rows(folder, f"inputs/{path.name}", mode) for path in files}
