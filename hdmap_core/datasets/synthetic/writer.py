"""Writing a synthetic world as a nuScenes folder: in parallel, resumable, the same bytes whatever the workers.

A town's rows and map go to `parts/<town>.json` once all of its sensor files are there; the tables and maps are made
from all parts at the end.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from hdmap_core.datasets.nuscenes.tables import TABLES
from hdmap_core.datasets.synthetic.formats.map_expansion import empty_map, merge_into
from hdmap_core.datasets.synthetic.formats.tables import MASKS, shared_rows
from hdmap_core.datasets.synthetic.presets import CITY_SIZES, SynthConfig, TownPlan, plan_towns
from hdmap_core.datasets.synthetic.render_town import Hits, Recorded, describe, record
from hdmap_core.datasets.synthetic.sensors.other_rigs import CHANNELS as OTHER_CHANNELS
from hdmap_core.datasets.synthetic.sensors.other_rigs import other_rig
from hdmap_core.datasets.synthetic.sensors.rig import CAMERA_TICKS, CHANNELS, TICKS_PER_KEYFRAME
from hdmap_core.datasets.synthetic.sensors.ring_rig import CHANNELS as RING_CHANNELS
from hdmap_core.datasets.synthetic.world_folder import (
    Progress,
    claim,
    compact_json,
    counted,
    mark_complete,
    write_file,
    write_sd_map,
)
from hdmap_core.errors import DatasetError
from hdmap_core.running.parallel import map_scenes


def files_per_scene(config: SynthConfig, cameras: int = 6, ticks_per_turn: int = 1) -> int:
    """Number of sensor files of one scene whose rig has so many cameras, with a LiDAR turn every so many ticks."""
    gaps = config.keyframes - 1
    pictures = config.keyframes + gaps * len(CAMERA_TICKS) * config.sweeps
    turns = config.keyframes + gaps * (TICKS_PER_KEYFRAME // ticks_per_turn - 1) * (config.lidar == "all")
    return cameras * pictures + turns


def files_of(config: SynthConfig, plan: TownPlan, ticks_per_turn: int = 1) -> int:
    """Number of sensor files of a town."""
    if config.rigs == "nuscenes":
        return files_per_scene(config, ticks_per_turn=ticks_per_turn) * config.scenes
    rigs = (other_rig(config.rigs, plan.seed, number) for number in range(config.scenes))
    return sum(files_per_scene(config, len(rig.cameras), ticks_per_turn) for rig in rigs)


def write_dataset(
    root: str | Path, config: SynthConfig, workers: int = 1, progress: Progress | None = None
) -> dict[str, list[str]]:
    """Write, or finish writing, a synthetic nuScenes folder.

    Args:
        root: an empty or new folder, or one that the same configuration was being written to.
        config: what to write.
        workers: processes; the result does not depend on it.
        progress: called after each file, or with several workers after each piece of a town.

    Returns:
        Scene names by split.

    Raises:
        DatasetError: the folder holds something else; nothing is touched then.
        OutputError: a file cannot be written.
    """
    root, plans = Path(root), plan_towns(config)
    scenes: dict[str, list[str]] = {}
    for plan in plans:
        scenes.setdefault(plan.split, []).extend(plan.scene_names)
    is_complete = claim(root, config)
    pending = [] if is_complete else [plan for plan in plans if not _part_path(root, plan).is_file()]
    total = sum(files_of(config, plan) for plan in plans)
    advance = counted(progress, total - sum(files_of(config, plan) for plan in pending), total)
    if not is_complete:
        _record_all(root, config, pending, max(1, workers), advance)
        _assemble(root, config, plans, scenes)
        mark_complete(root, config)
    _remove_parts(root)
    return scenes


def _part_path(root: Path, plan: TownPlan) -> Path:
    return root / "parts" / f"{plan.key}.json"


def _remove_parts(root: Path) -> None:
    folder = root / "parts"
    if folder.is_dir():
        for path in folder.glob("*.json*"):
            path.unlink()
        folder.rmdir()


def _write_part(root: Path, config: SynthConfig, plan: TownPlan, counts: Hits) -> None:
    write_file(_part_path(root, plan), json.dumps(describe(config, plan, counts)).encode())


class _Chunk(NamedTuple):
    """A piece of work for a worker."""

    root: Path
    config: SynthConfig
    plan: TownPlan
    number: int
    chunks: int


def _record_chunk(work: _Chunk, tick: Callable[[], None] = lambda: None) -> Recorded:
    """In a worker: record a piece of a town; a town of one piece is finished there too."""
    recorded = record(work.config, work.plan, work.root, work.number, work.chunks, tick)
    if work.chunks == 1:
        _write_part(work.root, work.config, work.plan, recorded.hits)
    return recorded


def _record_all(
    root: Path, config: SynthConfig, pending: list[TownPlan], workers: int, advance: Callable[[int], None]
) -> None:
    """Record towns, by one worker file after file; `advance` is told of every so many files."""
    if workers == 1:
        for plan in pending:
            _record_chunk(_Chunk(root, config, plan, 0, 1), lambda: advance(1))
        return
    # Few towns and many workers: split towns, so that nobody idles.
    chunks = min(-(-4 * workers // max(1, len(pending))), max(1, files_per_scene(config) // 20))
    work = [_Chunk(root, config, plan, number, chunks) for plan in pending for number in range(chunks)]
    hits: dict[str, Hits] = {plan.key: {} for plan in pending}
    left = {plan.key: chunks for plan in pending}

    def finished(index: int, recorded: Recorded) -> None:
        plan = work[index].plan
        for scene, found in recorded.hits.items():
            hits[plan.key].setdefault(scene, {}).update(found)
        left[plan.key] -= 1
        if chunks > 1 and left[plan.key] == 0:
            _write_part(root, config, plan, hits.pop(plan.key))
        advance(recorded.files)

    map_scenes(_record_chunk, work, workers, done=finished)


def _assemble(root: Path, config: SynthConfig, plans: list[TownPlan], scenes: dict[str, list[str]]) -> None:
    """Tables, maps, masks, SD maps and splits from the parts."""
    rows: dict[str, list[Any]] = {name: [] for name in TABLES}
    maps = {city: empty_map(city) for city in CITY_SIZES}
    roads: dict[str, list[Any]] = {city: [] for city in CITY_SIZES}
    logs: dict[str, list[str]] = {}
    for plan in plans:
        path = _part_path(root, plan)
        try:
            part = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DatasetError(f"cannot read {path} ({error}); remove it and run the same command again") from None
        for name in TABLES:
            rows[name].extend(part["tables"][name])
        merge_into(maps[plan.city], part["map"])
        roads[plan.city].extend(part["sd"])
        logs.setdefault(plan.city, []).extend(row["token"] for row in part["tables"]["log"])
    channels = {"nuscenes": CHANNELS, "argoverse": RING_CHANNELS}.get(config.rigs, OTHER_CHANNELS)
    for name, shared in shared_rows(logs, channels, config.edition).items():
        rows[name] = shared + rows[name]
    for city, city_map in maps.items():
        write_file(root / "maps" / "expansion" / f"{city}.json", compact_json(city_map))
        write_file(root / "maps" / f"{MASKS[city]}.png", _tiny_mask())
        write_sd_map(root, city, roads[city])
    for name in TABLES:
        lines = ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows[name])
        write_file(root / config.version / f"{name}.json", f"[\n{lines}\n]\n".encode())
    write_file(root / config.version / "splits.json", json.dumps(scenes, indent=1).encode())


def _tiny_mask() -> bytes:
    """nuscenes-devkit wants a picture for every city; outside of it everything counts as off the road."""
    return cv2.imencode(".png", np.zeros((16, 16), dtype=np.uint8))[1].tobytes()
