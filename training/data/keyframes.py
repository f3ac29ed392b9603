"""Keyframes as training takes them: ground truth from a memory-mapped store, inputs from there or decoded now.

What `preprocess` makes of a keyframe has no weights in it, so it may be kept (`data.keep_inputs`): 1.3 GB per 4000
keyframes for the ground pixels of the student, 7 MB per keyframe for six images of 480 x 800. The folder's name holds
a hash of all that its content depends on; an interrupted preparation goes on with the scenes that are missing.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, fields
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import torch
from rich.progress import Progress

from hdmap_core.datasets.nuscenes import NuScenesDataset, scenes_of_split
from hdmap_core.elements import MapElement
from hdmap_core.errors import DatasetError, OutputError
from hdmap_core.model_io import ModelInput
from hdmap_core.models import ModelConfig
from hdmap_core.preprocess import preprocess
from training.data.vector_store import LAYERS, Areas, VectorStore

_VERSION = 2


@dataclass
class Keyframe:
    """One keyframe.

    Attributes:
        token: of the sample.
        inputs: a batch of one.
        elements: ground truth, metres in the ego frame.
        areas: polygon layers within the grid, metres in the ego frame.
        points: (P, 5) LiDAR points in the ego frame, or None when nobody asked for them.
    """

    token: str
    inputs: ModelInput
    elements: list[MapElement]
    areas: Areas
    points: np.ndarray | None = None


@dataclass(frozen=True)
class Keyframes:
    """The keyframes of a split; `inputs` holds a memory map (F, ...) per field of `ModelInput` that is kept."""

    root: Path
    model: ModelConfig
    truth: VectorStore
    inputs: dict[str, np.ndarray]
    points: bool = False

    @property
    def tokens(self) -> np.ndarray:
        """(F,) sample tokens."""
        return self.truth.tokens

    def __len__(self) -> int:
        return len(self.truth)

    def __getitem__(self, index: int) -> Keyframe:
        """Reads a keyframe.

        Raises:
            DatasetError, ImageError: naming a file that is missing or damaged.
        """
        token = str(self.tokens[index])
        kept = {name: torch.from_numpy(np.array(rows[index]))[None] for name, rows in self.inputs.items()}
        points = None
        if not kept or self.points:
            observation = _dataset(self.root).observation(token, images=not kept, points=self.points)
            points = observation.points
            inputs = ModelInput(**kept) if kept else preprocess(observation, self.model)
        else:
            inputs = ModelInput(**kept)
        return Keyframe(token, inputs, self.truth.elements(index), self.truth.areas(index), points)


def load_keyframes(
    root: Path,
    split: str,
    model: ModelConfig,
    *,
    keep_inputs: bool,
    points: bool = False,
    cache: Path | None = None,
    workers: int = 0,
) -> Keyframes:
    """The keyframes of a split, prepared now or before.

    Args:
        root: a nuScenes folder.
        split: its name.
        model: what the keyframes are prepared for.
        keep_inputs: keep the model's inputs as well as the ground truth, so that no image is decoded again.
        points: read the LiDAR sweep of each keyframe.
        cache: where prepared keyframes lie; `<root>/cache` by default.
        workers: processes; 0 = one per core.

    Raises:
        DatasetError: if the folder, the split or one of its files cannot be used.
        OutputError: if the cache cannot be written.
    """
    scenes = [scene.sample_tokens for scene in scenes_of_split(_dataset(Path(root)), split)]
    scenes = [tokens for tokens in scenes if tokens]
    if not scenes:
        raise DatasetError(f"split {split!r} of {root} has no keyframes")
    folder = (cache or Path(root) / "cache") / f"{split}-{_key(scenes, model, keep_inputs)}"
    if not (folder / "complete").is_file():
        _prepare(Path(root), scenes, model, folder, workers or os.cpu_count() or 1, keep_inputs)
    truth = VectorStore.read(folder)
    kept = {path.stem: _open(path) for path in sorted((folder / "inputs").glob("*.npy"))}
    return Keyframes(Path(root), model, truth, kept, points)


def _key(scenes: list[tuple[str, ...]], model: ModelConfig, keep_inputs: bool) -> str:
    grid = model.grid
    content: list[object] = [_VERSION, scenes, grid.x_range, grid.y_range, [c.value for c in model.classes], LAYERS]
    if keep_inputs:
        backbone = model.backbone
        content += [grid.resolution] if backbone is None else [backbone.image_size, backbone.cameras]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]


def _prepare(
    root: Path, scenes: list[tuple[str, ...]], model: ModelConfig, folder: Path, workers: int, keep_inputs: bool
) -> None:
    parts = folder / "parts"
    firsts = np.cumsum([0, *map(len, scenes)])
    try:
        parts.mkdir(parents=True, exist_ok=True)
        if keep_inputs and not (folder / "inputs").is_dir():
            _allocate(root, scenes[0][0], model, folder, int(firsts[-1]))
        jobs = [
            (root, tokens, int(first), model, folder, keep_inputs)
            for tokens, first in zip(scenes, firsts, strict=False)
            if not (parts / tokens[0] / "complete").is_file()
        ]
        with Progress() as progress:
            done = int(firsts[-1]) - sum(len(job[1]) for job in jobs)
            bar = progress.add_task(f"preparing {folder.name}", total=int(firsts[-1]), completed=done)
            for frames in _run(jobs, workers):
                progress.advance(bar, frames)
        VectorStore.joined([VectorStore.read(parts / tokens[0]) for tokens in scenes]).write(folder)
        (folder / "complete").touch()
        shutil.rmtree(parts)
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(f"cannot write the cache {folder}: {reason}; name another with data.cache=...") from None


Job = tuple[Path, tuple[str, ...], int, ModelConfig, Path, bool]


def _run(jobs: list[Job], workers: int) -> Iterator[int]:
    if workers == 1:
        yield from map(_prepare_scene, jobs)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for future in as_completed([pool.submit(_prepare_scene, job) for job in jobs]):
            yield future.result()


def _prepare_scene(job: Job) -> int:
    """Writes one scene's part of the cache; returns how many keyframes it has."""
    root, tokens, first, model, folder, keep_inputs = job
    cv2.setNumThreads(1)
    dataset, grid = _dataset(root), model.grid
    kept = {path.stem: _open(path, "r+") for path in (folder / "inputs").glob("*.npy")} if keep_inputs else {}
    frames = []
    for index, token in enumerate(tokens, start=first):
        if kept:
            inputs = preprocess(dataset.observation(token, points=False), model)
            for name, rows in kept.items():
                rows[index] = getattr(inputs, name)[0].numpy()
        city = dataset.vector_map(dataset.scene_of(token).location)
        areas = city.areas(dataset.map_from_ego(token), grid.x_range, grid.y_range, LAYERS)
        frames.append((token, dataset.elements(token, grid.x_range, grid.y_range, model.classes), areas))
    for rows in kept.values():
        rows.flush()
    part = folder / "parts" / tokens[0]
    part.mkdir(exist_ok=True)
    VectorStore.of(frames).write(part)
    (part / "complete").touch()
    return len(tokens)


def _allocate(root: Path, token: str, model: ModelConfig, folder: Path, frames: int) -> None:
    """Empty arrays (F, ...) for the fields of `ModelInput` that `preprocess` fills."""
    example = preprocess(_dataset(root).observation(token, points=False), model)
    fresh = folder / "inputs.part"
    fresh.mkdir(exist_ok=True)
    for field in fields(example):
        value = getattr(example, field.name)
        if value is not None:
            array = value[0].numpy()
            np.lib.format.open_memmap(fresh / f"{field.name}.npy", "w+", array.dtype, (frames, *array.shape)).flush()
    fresh.rename(folder / "inputs")


def _open(path: Path, mode: str = "r") -> np.ndarray:
    try:
        return np.load(path, mmap_mode=mode, allow_pickle=False)  # type: ignore[call-overload]
    except (OSError, ValueError) as error:
        folder = path.parents[1]
        raise DatasetError(f"the cache {folder} is damaged ({error}); delete it, it will be made again") from None


@lru_cache(maxsize=1)
def _dataset(root: Path) -> NuScenesDataset:
    return NuScenesDataset(root)
