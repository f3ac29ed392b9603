"""What the benchmarks share: CPU seconds, tables of figures, a synthetic town to measure on."""

import time
from collections.abc import Callable, Collection
from pathlib import Path

from rich.table import Table

from hdmap_core.datasets.nuscenes import NuScenesDataset
from hdmap_core.datasets.synthetic.presets import PRESETS
from hdmap_core.datasets.synthetic.writer import write_dataset


def cpu_s(work: Callable[[], object]) -> float:
    """CPU seconds of this process."""
    start = time.process_time()
    work()
    return time.process_time() - start


def figures(title: str, *columns: str, words: Collection[str] = ()) -> Table:
    """An empty table: figures to the right; to the left those that hold words, the first column if none is named."""
    table = Table(title=title)
    for column in columns:
        table.add_column(column, justify="left" if column in (words or columns[:1]) else "right")
    return table


def town(folder: Path, preset: str = "tiny", **changes: object) -> NuScenesDataset:
    """One town of a preset without LiDAR, written into the folder; `changes` are fields of the preset."""
    write_dataset(folder, PRESETS[preset].model_copy(update={"towns": {"val": 1}, "lidar": "none"} | changes))
    return NuScenesDataset(folder)
