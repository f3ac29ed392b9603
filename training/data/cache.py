"""Keyframes preprocessed once: ground pixels in one memory-mapped array, ground truth beside it.

The model's view transform of ground pixels has no weights, so nothing is lost by preparing them before training; a
folder of 4000 keyframes takes 1.3 GB and opens at once. The cache's name holds a hash of everything it depends on.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from rich.progress import Progress

from hdmap_core.datasets.nuscenes import NuScenesDataset, scenes_of_split
from hdmap_core.elements import MapClass, MapElement, read_elements, write_elements
from hdmap_core.errors import DatasetError, OutputError
from hdmap_core.geometry import BEVGrid
from hdmap_core.preprocess import ground_grid, ground_pixels

_VERSION = 1


@dataclass(frozen=True)
class Keyframes:
    """Preprocessed keyframes of a split: `ground` (F, 4, 2Y, 2X) uint8 memory map, ground truth per frame."""

    tokens: tuple[str, ...]
    ground: np.ndarray
    elements: tuple[tuple[MapElement, ...], ...]

    def __len__(self) -> int:
        return len(self.tokens)


def load_keyframes(
    root: Path, split: str, *, grid: BEVGrid, classes: Sequence[MapClass], cache: Path | None = None, workers: int = 0
) -> Keyframes:
    """The keyframes of a split, from the cache or prepared now.

    Raises:
        DatasetError: if the folder, the split or one of its files cannot be used.
        OutputError: if the cache cannot be written.
    """
    dataset = NuScenesDataset(root)
    tokens = [token for scene in scenes_of_split(dataset, split) for token in scene.sample_tokens]
    if not tokens:
        raise DatasetError(f"split {split!r} of {root} has no keyframes")
    key = json.dumps([_VERSION, tokens, grid.x_range, grid.y_range, grid.resolution, [c.value for c in classes]])
    folder = (cache or Path(root) / "cache") / f"{split}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
    if not (folder / "elements.jsonl").is_file():  # written last
        _prepare(Path(root), tokens, grid, classes, folder, workers or os.cpu_count() or 1)
    frames = read_elements(folder / "elements.jsonl")
    try:
        ground = np.load(folder / "ground.npy", mmap_mode="r")
    except (OSError, ValueError) as error:
        raise DatasetError(f"the cache {folder} is damaged ({error}); delete it, it will be made again") from None
    return Keyframes(tuple(frames), ground, tuple(tuple(elements) for elements in frames.values()))


def _prepare(
    root: Path, tokens: list[str], grid: BEVGrid, classes: Sequence[MapClass], folder: Path, workers: int
) -> None:
    shape = (len(tokens), 4, *ground_grid(grid).shape)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        ground = np.lib.format.open_memmap(folder / "ground.npy", "w+", np.uint8, shape)
        frames: dict[str, list[MapElement]] = {}
        with Progress() as progress:
            bar = progress.add_task(f"preparing {folder.name}", total=len(tokens))
            for index, (pixels, elements) in enumerate(_results(root, tokens, grid, tuple(classes), workers)):
                ground[index] = pixels
                frames[tokens[index]] = elements
                progress.advance(bar)
        ground.flush()
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(
            f"cannot write the cache {folder}: {reason}; name another folder with data.cache=..."
        ) from None
    write_elements(folder / "elements.jsonl", frames)


def _results(
    root: Path, tokens: list[str], grid: BEVGrid, classes: tuple[MapClass, ...], workers: int
) -> Iterator[tuple[np.ndarray, list[MapElement]]]:
    jobs = [(root, token, grid, classes) for token in tokens]
    if workers == 1:
        yield from map(_prepare_one, jobs)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(_prepare_one, jobs, chunksize=16)


def _prepare_one(job: tuple[Path, str, BEVGrid, tuple[MapClass, ...]]) -> tuple[np.ndarray, list[MapElement]]:
    root, token, grid, classes = job
    cv2.setNumThreads(1)
    dataset = _dataset(root)
    observation = dataset.observation(token, points=False)
    return ground_pixels(observation, grid), dataset.elements(token, grid.x_range, grid.y_range, classes)


@lru_cache(maxsize=1)
def _dataset(root: Path) -> NuScenesDataset:
    return NuScenesDataset(root)
