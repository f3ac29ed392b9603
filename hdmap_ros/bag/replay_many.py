"""Many bags through one model: a folder each, by processes of this machine or on a Ray cluster."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from hdmap_core.errors import BagError, ConfigError, HdmapError, OutputError
from hdmap_core.inference import Predictor, load_predictor
from hdmap_core.running.parallel import map_scenes, one_thread, ray_has_gpus
from hdmap_ros.bag.replay import replay_bag
from hdmap_ros.bag.sources import ReplayConfig
from hdmap_ros.bag.storage import STORAGE_ENDINGS


@dataclass(frozen=True)
class _Job:
    """One bag; pickled to workers."""

    bag: Path
    folder: Path
    weights: Path
    device: str
    config: ReplayConfig


def replay_bags(
    bags: Sequence[str | Path],
    weights: str | Path,
    device: str,
    folders: Sequence[str | Path],
    config: ReplayConfig,
    *,
    workers: int = 1,
    ray: str | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[dict[str, Any]]:
    """`replay_bag` for each bag, always on one thread, so that the maps do not depend on the number of workers.

    A bag that cannot be replayed does not keep the others from it.

    Args:
        bags: the bags.
        weights: a checkpoint file, loaded once per worker.
        device: see `load_predictor`; on Ray auto, cpu or cuda.
        folders: one per bag, for its three files.
        config: see there; the same for all.
        workers: see `map_scenes`.
        ray: see `map_scenes`; each task takes a GPU if the cluster has some.
        progress: called with bags done and bags in all.

    Returns:
        What the report.json of each bag holds, in the order of the bags.

    Raises:
        BagError: when all are done, if some could not be replayed; it names each with the reason.
        CheckpointError, ConfigError: if the model cannot be loaded.
        OutputError: as soon as a folder cannot be written.
        WorkerLostError: if workers keep dying.
    """
    device, gpus = (device, 0.0) if ray is None else _ray_device(device, ray, workers)
    weights = Path(weights).absolute()  # workers on Ray stand in another folder
    jobs = [
        _Job(Path(bag).absolute(), Path(folder).absolute(), weights, device, config)
        for bag, folder in zip(bags, folders, strict=True)
    ]
    finished = 0

    def count(_index: int, _report: dict[str, Any] | str) -> None:
        nonlocal finished
        finished += 1
        progress(finished, len(jobs))

    progress(0, len(jobs))
    found = map_scenes(_replay, jobs, workers, ray, count, gpus)
    failed = [f"{bag}: {reason}" for bag, reason in zip(bags, found, strict=True) if isinstance(reason, str)]
    if failed:
        others = f"; the other {len(jobs) - len(failed)} are done" if len(failed) < len(jobs) else ""
        raise BagError(f"{len(failed)} of {len(jobs)} bags could not be replayed{others}: {' | '.join(failed)}")
    return [report for report in found if not isinstance(report, str)]


def folders_of(bags: Sequence[str | Path], out: str | Path) -> list[Path]:
    """A folder inside `out` for each bag, called like it; for a single bag `out` itself.

    Raises:
        ConfigError: if two bags are called the same.
    """
    out = Path(out)
    if len(bags) == 1:
        return [out]
    named: dict[str, Path] = {}
    for bag in map(Path, bags):
        whole = bag.resolve()  # `.` and `..` have no name of their own
        name = whole.stem if whole.suffix in STORAGE_ENDINGS else whole.name
        if name in named:
            raise ConfigError(
                f"{named[name]} and {bag} would both go into {out / name}; rename one, or replay it alone"
            )
        named[name] = bag
    return [out / name for name in named]


def _replay(job: _Job) -> dict[str, Any] | str:
    """The report, or why there is none."""
    one_thread()
    predictor = _predictor(job.weights, job.device)
    try:
        return replay_bag(job.bag, predictor, job.folder, job.config)
    except OutputError:  # a full disk concerns all bags
        raise
    except HdmapError as error:
        return str(error).removeprefix(f"{job.bag}: ")


@lru_cache(maxsize=1)
def _predictor(weights: Path, device: str) -> Predictor:
    return load_predictor(weights, device, cameras_only=True)


def _ray_device(device: str, ray: str, workers: int) -> tuple[str, float]:
    """Device of each task and how many GPUs it takes.

    Raises:
        ConfigError: if the cluster cannot be reached, or lacks what is asked for.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"device {device!r} with --ray: use auto, cpu or cuda; Ray chooses which GPU")
    has_gpus = device != "cpu" and ray_has_gpus(ray, workers)
    if device == "cuda" and not has_gpus:
        raise ConfigError(f"device 'cuda' asked for, but the Ray cluster at {ray!r} has no GPU")
    return ("cuda", 1.0) if has_gpus else ("cpu", 0.0)
