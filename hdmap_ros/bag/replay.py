"""A bag through synchroniser, builder and predictor without a ROS graph: deterministic, every set, any speed.

The same classes as in the node do the work, and as there the next set is prepared while one is in the network.
Transforms and the first CameraInfo of each camera are read ahead, so that their arrival does not matter.
"""

import functools
import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hdmap_core.elements import MapElement, write_elements
from hdmap_core.errors import BagError
from hdmap_core.exchange.map_file import write_map
from hdmap_core.geometry.map_origin import MapOrigin
from hdmap_core.inference.one_ahead import one_ahead
from hdmap_ros.bag.map_writer import MapWriter
from hdmap_ros.bag.mcap import open_bag, write_mcap
from hdmap_ros.bag.sources import BagSources, ReplayConfig
from hdmap_ros.bag.sweeps import see_ground_by_lidar
from hdmap_ros.latency_log import LatencyLog
from hdmap_ros.node_report import synchroniser_counts, write_report
from hdmap_ros.observing.observation_builder import NotReadyError
from hdmap_ros.output.map_memory import MapMemory
from hdmap_ros.pipeline import InferenceError, MapPipeline, Predictor, PreparedSet, check_cameras
from hdmap_ros.problems import Problems
from hdmap_ros.sync.image_sets import ImageSet, SyncStatistics


def replay_bag(
    path: str | Path,
    predictor: Predictor,
    folder: str | Path,
    config: ReplayConfig,
    progress: Callable[[int, int], None] = lambda done, total: None,
    warn: Callable[[str], None] = lambda message: None,
) -> dict[str, Any]:
    """Writes `predictions.jsonl`, `map.mcap` and `report.json`, and the fused map where the config says.

    A line of predictions.jsonl is a set, its token the anchor's stamp; where a stamp comes a second time, because the
    recording began anew, `#2` and so on follow.

    Args:
        path: bag.
        predictor: loaded model.
        folder: where the three files go.
        config: see there.
        progress: called with messages done and messages in all.
        warn: called with each problem that the node would warn about, once per camera.

    Returns:
        What report.json holds. `published` and the counts in `dropped` add up to `sets`; `problems` is a
        `Problems.report`.

    Raises:
        BagError: if the bag cannot be read, lacks a topic, or yields no map; the message says why.
        ConfigError: if the model needs a camera that the layout does not name.
        InferenceError: if the network fails `max_failures` times in a row.
        OutputError: if the folder cannot be written.
    """
    path, folder, node = Path(path), Path(folder), config.node
    problems = Problems(warn)
    with open_bag(path, config.recover) as bag:
        check_cameras(predictor.info, node.camera_names)
        sources = BagSources(bag, config, problems)
        pipeline, statistics = MapPipeline(sources.builder, predictor), sources.sync.statistics
        if config.lidar_ground:
            see_ground_by_lidar(sources.builder, bag, config, problems)
        counts: Counter[str] = Counter()
        latencies = LatencyLog()
        frames: dict[str, list[MapElement]] = {}
        used: Counter[str] = Counter()
        failures = 0
        begin = time.perf_counter()
        reach = 0.0 if config.fuse is None else np.inf
        tell = functools.partial(problems.add, "jump", "")
        memory = MapMemory(predictor.info, pipeline.builder.transforms, node.base_frame, node.fixed_frame, reach, tell)

        def inferred(prepared: PreparedSet) -> tuple[PreparedSet, Any]:
            return prepared, pipeline.infer(prepared)

        with write_mcap(folder / "map.mcap") as output:
            writer = MapWriter(output, predictor.info, node)
            sets = sources.sets(progress)
            for images, outcome in one_ahead(_every(config.every, sets, counts), pipeline.prepare, inferred):
                try:
                    result = memory.number(pipeline.result_of(*outcome.result()))
                    failures = 0
                except NotReadyError as error:
                    counts[error.state] += 1
                    error.tell(problems)
                    continue
                except InferenceError as error:
                    counts["failed"] += 1
                    problems.add("failed", "", str(error))
                    failures += 1
                    if failures >= node.max_failures:
                        raise
                    continue
                latencies.add({stage: value for stage, value in result.timings_ms.items() if stage != "wait"})
                used.update(itertools.compress(node.camera_names, result.camera_mask))
                frames[_unused(str(images.stamp_ns), frames)] = result.elements
                writer.write(result, memory.restarted)
                memory.fuse(result)
            if not frames:  # raised in here, so that an older map.mcap stays
                raise BagError(f"{path}: no set of images became a map ({_why_no_map(problems, statistics)})")
        for camera, number in sources.images.items():
            if not used[camera]:
                problems.add("never_used", camera, f"camera {camera}: none of its {number} images went into a map")
        write_elements(folder / "predictions.jsonl", frames)
        seconds = time.perf_counter() - begin
        report = {
            "bag": path.name,
            "data": str(path.resolve()),
            "model_id": predictor.info.model_id,
            "images": dict(sources.images),
            "cameras": pipeline.builder.readings,
            "sets": statistics.sets,
            "published": len(frames),
            "published_elements": sum(map(len, frames.values())),
            "dropped": dict(counts),
            "problems": problems.report(),
            "synchroniser": synchroniser_counts(statistics),
            "seconds": round(seconds, 3),
            "rate_hz": round(len(frames) / seconds, 3),
            "latency_ms": latencies.summary(),
            "latency_ms_by_map": latencies.newest(),
        }
        write_report(folder / "report.json", report)
        if config.fuse is not None:
            _write_fused(config.fuse, memory, path, images.stamp_ns, config.origin)
        return report


def _every(step: int, sets: Iterable[ImageSet], counts: Counter[str]) -> Iterator[ImageSet]:
    for number, images in enumerate(sets):
        if number % step:
            counts["skipped"] += 1
        else:
            yield images


def _write_fused(path: Path, memory: MapMemory, bag: Path, stamp_ns: int, origin: MapOrigin | None) -> None:
    fused = memory.fused()
    if fused is None:
        raise BagError(f"{bag}: no map could be fused into {path}: {memory.paused}")
    elements, fixed_from_map = fused
    write_map(path, elements, fixed_from_map, memory.frame, stamp_ns, origin)


def _unused(token: str, frames: dict[str, list[MapElement]]) -> str:
    """The token, numbered if the recording has begun anew and it is taken."""
    names = itertools.chain([token], (f"{token}#{number}" for number in itertools.count(2)))
    return next(name for name in names if name not in frames)


def _why_no_map(problems: Problems, statistics: SyncStatistics) -> str:
    reasons = [entry["message"] for entry in problems.report().values()]
    if not statistics.sets:
        reasons.append(f"synchroniser: {synchroniser_counts(statistics)}")
    return "; ".join(reasons)
