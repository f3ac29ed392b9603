"""The node's counters as one JSON object."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hdmap_core.files import write_atomically
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


def write_report(path: str | Path, report: Mapping[str, Any]) -> None:
    """Writes a report as JSON, atomically.

    Raises:
        OutputError: if the file cannot be written.
    """
    write_atomically(path, (json.dumps(report, indent=2) + "\n").encode())
