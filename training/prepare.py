"""`hdmap prepare`: checks a data set and makes the stores that training opens."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Column, Table

from hdmap_core.datasets.opening import open_dataset, with_index
from hdmap_core.datasets.protocol import MapDataset
from hdmap_core.datasets.sensor_check import check_sensors
from hdmap_core.errors import DatasetError
from training.data.inspection import BadKeyframe, summary
from training.data.preparation import Preparation, bad_keyframes, inspection_of, left_out, prepare
from training.data.vector_store import CLASSES, VectorStore

TRAINVAL_KEYFRAMES = 34149


def usual_splits(dataset: MapDataset) -> tuple[str, ...]:
    """Of a data set: train and val, else mini_train and mini_val, as far as it has them.

    Raises:
        DatasetError: if it has none of them.
    """
    splits, present = dataset.splits, {scene.name for scene in dataset.scenes}
    for names in (("train", "val"), ("mini_train", "mini_val")):
        found = tuple(name for name in names if present & set(splits.get(name, ())))
        if found:
            return found
    raise DatasetError(f"{dataset.place} has no scene of train, val or mini; say which with --split")


def check(preparation: Preparation, splits: Sequence[str], console: Console) -> None:
    """Reports on tables, splits, maps and sensor files; makes no store.

    Args:
        preparation: where and how to look; its split does not matter.
        splits: whose keyframes to look at; all of the folder when empty.
        console: where to report.

    Raises:
        DatasetError: if keyframes cannot be used, saying how many, why and which first; if the model looks at LiDAR or
            an SD map, and a scene has no points or a city no SD map.
    """
    datasets: dict[str, tuple[MapDataset, list[str]]] = {}
    for split in splits or (None,):
        dataset = open_dataset(preparation.root, preparation.version, split=split, cache=preparation.cache)
        datasets.setdefault(dataset.version, (dataset, []))[1].extend([split] if split else [])
    for dataset, names in datasets.values():
        _check_dataset(preparation, with_index(dataset, preparation.cache), names, console)


def _check_dataset(preparation: Preparation, dataset: MapDataset, splits: Sequence[str], console: Console) -> None:
    console.print(f"{dataset.place}: {len(dataset.scenes)} scenes")
    console.print(_split_table(dataset))
    names = {name for split in splits for name in dataset.splits.get(split, ())}
    wanted = [scene for scene in dataset.scenes if not splits or scene.name in names]
    if not wanted:
        raise DatasetError(f"{dataset.place} has no scene of {', '.join(splits)}")
    tokens = [token for scene in wanted for token in scene.sample_tokens]
    total = len(tokens)
    with Progress(console=console) as progress:
        scenes = [scene.sample_tokens for scene in wanted]
        bad = bad_keyframes(preparation, scenes, dataset.version, progress)
    images = _images_looked_at(preparation, dataset.version)
    console.print(f"{total} keyframes, {total - len(bad)} complete, {images}")
    _show(bad, console)
    if bad:
        raise DatasetError(summary(bad, total))
    lidar, sd_map = preparation.model.lidar_sweeps > 0, preparation.model.sd_prior is not None
    check_sensors(dataset, tokens, lidar=lidar, sd_map=sd_map, ground=preparation.lidar_ground)
    lidar = lidar or preparation.lidar_ground
    if lidar or sd_map:
        console.print(" and ".join(["LiDAR sweeps"] * lidar + ["SD maps"] * sd_map) + " are there")


def _images_looked_at(preparation: Preparation, version: str) -> str:
    looked = "decoded" if preparation.decode else "there"
    cameras = inspection_of(preparation, version).cameras
    if cameras is None:
        return f"all images of their rigs {looked}"
    return f"{len(cameras)} images each {looked}" if cameras else "images not looked at"


def run(preparation: Preparation, splits: Sequence[str], console: Console) -> None:
    """Prepares splits one after the other and says what came of it.

    Args:
        preparation: how; its split does not matter.
        splits: their names; the usual ones when empty.
        console: where to report.

    Raises:
        DatasetError: if the folder cannot be used, or keyframes cannot and `on_bad` says `fail`.
        OutputError: if the cache cannot be written.
    """
    if not splits:
        dataset = open_dataset(preparation.root, preparation.version, cache=preparation.cache)
        splits = usual_splits(with_index(dataset, preparation.cache))
    for split in splits:
        started = time.monotonic()
        folder = prepare(replace(preparation, split=split))
        seconds = time.monotonic() - started
        bad = left_out(folder)
        _show(bad, console)
        if bad and preparation.on_bad == "fail":
            raise DatasetError(
                f"{folder} was made without {len(bad)} keyframes; delete it to make it again, or say --on-bad skip"
            )
        console.print(_summary(split, folder, seconds, preparation, len(bad)))


def _split_table(dataset: MapDataset) -> Table:
    present = {scene.name: len(scene.sample_tokens) for scene in dataset.scenes}
    table = Table("split", "scenes here", "of", "keyframes")
    for name, scenes in sorted(dataset.splits.items()):
        here = [present[scene] for scene in scenes if scene in present]
        if here:
            table.add_row(name, str(len(here)), str(len(scenes)), str(sum(here)))
    return table


def _show(bad: Sequence[BadKeyframe], console: Console) -> None:
    if not bad:
        return
    table = Table("keyframes", "count", Column("first", overflow="fold"))
    for reason, count in Counter(frame.reason for frame in bad).most_common():
        first = next(frame for frame in bad if frame.reason == reason)
        table.add_row(reason, str(count), f"{first.scene}, sample {first.token}: {first.detail}")
    console.print(table)


def _summary(split: str, folder: Path, seconds: float, preparation: Preparation, left: int) -> Table:
    store = VectorStore.read(folder)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    labels = np.asarray(store.shapes[store.shapes[:, 0] == 0, 1])
    counts = np.bincount(labels, minlength=len(CLASSES))
    table = Table(title=f"{split} → {folder}", show_header=False)
    table.add_row("keyframes", f"{len(store)}" + (f" ({left} left out)" if left else ""))
    for label in preparation.model.classes:
        count = int(counts[CLASSES.index(label)])
        table.add_row(f"{label} elements", f"{count} ({count / len(store):.1f} per keyframe)")
    if preparation.lidar_ground:
        table.add_row("ground", "by LiDAR")
    table.add_row("size on disk", f"{size / 1e6:.1f} MB ({size / len(store) / 1e3:.1f} kB per keyframe)")
    per_frame = size / len(store)
    table.add_row(f"{TRAINVAL_KEYFRAMES} keyframes would take", f"{per_frame * TRAINVAL_KEYFRAMES / 1e9:.2f} GB")
    workers = f"on Ray at {preparation.ray}" if preparation.ray else f"with {preparation.processes} processes"
    table.add_row("time", f"{seconds:.1f} s {workers}")
    return table
