"""The node's counters as one JSON object and as diagnostics."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hdmap_core.files import write_atomically
from hdmap_ros.diagnostics import ERROR, OK, WARN, Status, cameras_status, latency_status, synchronisation_status
from hdmap_ros.node_config import OnlineMapConfig
from hdmap_ros.output.local_map_output import LocalMapOutput
from hdmap_ros.output.map_output import MapOutput
from hdmap_ros.sync.image_sets import SyncStatistics
from hdmap_ros.worker import WorkerStatistics


def synchroniser_counts(statistics: SyncStatistics) -> dict[str, Any]:
    """The synchroniser's counters and the spread of the latest sets."""
    spreads_ms = np.array(statistics.spreads_ns, dtype=np.float64) * 1e-6
    return {
        "complete": statistics.complete,
        "partial": statistics.partial,
        "incomplete": statistics.incomplete,
        "superseded": statistics.superseded,
        "late_images": statistics.late,
        "duplicate_images": statistics.duplicate,
        "unplaced_images": statistics.unplaced,
        "resets": statistics.resets,
        "missing": dict(statistics.missing),
        "late_by_camera": dict(statistics.late_by_camera),
        "moved": dict(statistics.moved),
        "last_move": str(statistics.last_move or ""),
        "spread_p50_ms": round(float(np.median(spreads_ms)), 3) if spreads_ms.size else 0.0,
        "spread_max_ms": round(float(spreads_ms.max()), 3) if spreads_ms.size else 0.0,
    }


def node_report(
    info: Any,
    synchroniser: SyncStatistics,
    worker: WorkerStatistics,
    counts: Mapping[str, int],
    output: MapOutput,
    latency_ms: Mapping[str, Mapping[str, float]],
    images: Mapping[str, int],
    seconds: float,
    problems: Mapping[str, Any],
    cameras: Mapping[str, str],
) -> dict[str, Any]:
    """Everything that was counted since the node was configured, rate and age since it became active: JSON values.

    `seconds` is how long it was active.
    `cameras` says how the images of each are taken: rectified, or raw and through which lens.
    `dropped` holds sets that were complete enough but did not become a map, by reason: `superseded` waited while the
    worker was busy and a newer one came; `stale` waited too long; the others name what was missing.
    """
    return {
        "model_id": info.model_id,
        "engine": info.engine,
        "engine_why": info.engine_why,
        "device": info.device,
        "precision": info.precision,
        "seconds": round(seconds, 3),
        "images": dict(images),
        "cameras": dict(cameras),
        "synchroniser": synchroniser_counts(synchroniser),
        "sets": synchroniser.sets,
        "published": output.published,
        "published_since_active": output.published_since_start,
        "published_elements": output.published_elements,
        "rate_hz": round(output.rate_hz, 3),
        "map_age_s": round(output.age_s, 3),
        "resets": counts.get("resets", 0),
        "dropped": {"superseded": worker.superseded} | {why: sets for why, sets in counts.items() if why != "resets"},
        "problems": dict(problems),
        "latency_ms": {stage: dict(numbers) for stage, numbers in latency_ms.items()},
    }


def node_statuses(
    report: Mapping[str, Any],
    camera_states: Mapping[str, str],
    camera_details: Mapping[str, str],
    motion_compensated: bool,
    broken: bool,
    config: OnlineMapConfig,
    sync_problem: str,
    expected: bool,
    news: Mapping[str, str],
) -> list[Status]:
    """The tasks on /diagnostics: model, cameras, synchronisation, latency, output.

    `expected`: somebody wants maps. `news`: kind -> what came up since the last time with no single camera.
    """
    others = "; ".join(message for kind, message in news.items() if kind != "failed")
    model = {key: report[key] for key in ("model_id", "engine", "engine_why", "precision", "device")}
    counts = ("published", "published_since_active", "published_elements", "rate_hz", "map_age_s")
    output = {key: report[key] for key in counts}
    sync = {**report["synchroniser"], **{f"dropped_{reason}": n for reason, n in report["dropped"].items()}}
    sync["motion_compensation"] = str(motion_compensated).lower()
    return [
        model_status(model, broken, news.get("failed", "")),
        cameras_status(camera_states, camera_details),
        synchronisation_status(sync, sync_problem),
        latency_status(report["latency_ms"], config.max_latency_ms),
        output_status(output, config, expected, others),
    ]


def model_status(values: Mapping[str, Any], broken: bool, failure: str) -> Status:
    """ERROR when sets keep failing; WARN when one has failed since the last time, with the reason."""
    if broken:
        return Status("model", ERROR, f"failing: {failure}" if failure else "failing", values)
    return Status("model", WARN if failure else OK, f"a set failed: {failure}" if failure else "running", values)


def output_status(counts: Mapping[str, Any], config: OnlineMapConfig, expected: bool, problem: str = "") -> Status:
    """WARN with a problem, before the first map, and when the last one is old although somebody wants maps."""
    if problem:
        return Status("output", WARN, problem, counts)
    if not counts["published_since_active"]:
        return Status("output", WARN, "nothing published yet", counts)
    if counts["map_age_s"] <= max(config.stale_after, 2 / config.max_rate if config.max_rate else 0.0):
        return Status("output", OK, "publishing", counts)
    message = f"the last map is {counts['map_age_s']:.1f} s old" + ("" if expected else "; none is wanted")
    return Status("output", WARN if expected else OK, message, counts)


def over_time_status(local_map: LocalMapOutput) -> Status:
    """WARN where maps cannot be joined, with the reason."""
    memory = local_map.memory
    values = {"frame": memory.frame, "local_maps": local_map.published, "breaks": memory.breaks}
    if memory.paused:
        return Status("over_time", WARN, f"no numbers, local map paused: {memory.paused}", values)
    return Status("over_time", OK, "joining maps" if memory.has_map else "numbering, no local map", values)


def write_report(path: str | Path, report: Mapping[str, Any]) -> None:
    """Writes a report as JSON, atomically.

    Raises:
        OutputError: if the file cannot be written.
    """
    write_atomically(path, (json.dumps(report, indent=2) + "\n").encode())
