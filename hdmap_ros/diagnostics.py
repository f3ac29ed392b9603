"""What the node says about itself on /diagnostics: pure Python, so that it is tested without a graph.

Own code instead of diagnostic_updater, whose Python version runs on the node's clock and so falls silent with a
paused bag.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hdmap_ros.message_types import MessageTypes
from hdmap_ros.node_config import OnlineMapConfig
from hdmap_ros.output.local_map_output import LocalMapOutput

OK, WARN, ERROR = 0, 1, 2
_CYCLES_TO_JUDGE = 20


@dataclass(frozen=True)
class Status:
    """One task of the node: its level, a sentence, and key-value pairs."""

    name: str
    level: int
    message: str
    values: Mapping[str, Any] = field(default_factory=dict)


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


def cameras_status(states: Mapping[str, str], details: Mapping[str, str]) -> Status:
    """The cameras' states (`ok`, or the most specific reason why not) with the first reason as the sentence.

    Args:
        states: camera -> no_publisher, incompatible_qos, no_data, stale, waiting_camera_info, bad_calibration,
            rejected_image, no_transform, many_publishers, a problem's kind, or ok.
        details: camera -> a sentence, where there is one.
    """
    bad = {camera: state for camera, state in states.items() if state != "ok"}
    values: dict[str, Any] = {}
    for camera, state in states.items():
        values[camera] = state + (f": {details[camera]}" if state != "ok" and camera in details else "")
    if not bad:
        return Status("cameras", OK, "all cameras are delivering", values)
    camera, state = next(iter(bad.items()))
    waiting = state in ("no_publisher", "no_data", "waiting_camera_info")
    level = WARN if waiting or len(bad) < len(states) else ERROR
    if state in ("rejected_image", "bad_calibration"):
        level = ERROR
    return Status(
        "cameras", level, f"{camera}: {state}" + (f" and {len(bad) - 1} more" if len(bad) > 1 else ""), values
    )


def synchronisation_status(counts: Mapping[str, Any], problem: str = "") -> Status:
    """WARN when images are missing or the policy cannot join these cameras; names late cameras, clocks that moved."""
    sets = counts["complete"] + counts["partial"] + counts["incomplete"]
    level = WARN if counts["incomplete"] or problem else OK
    message = f"{counts['complete']} of {sets} sets complete" if sets else "no set yet"
    late = [camera for camera, images in counts.get("late_by_camera", {}).items() if 2 * images > sets]
    if late:
        message += f"; {', '.join(late)} too late for most: raise sync.timeout or set the clock right"
    if counts.get("last_move"):
        message += f"; stamps moved: {counts['last_move']}"
    return Status("synchronisation", level, problem or message, counts)


def latency_status(summary: Mapping[str, Mapping[str, float]], max_latency_ms: float) -> Status:
    """WARN when the 95th percentile of the whole way is over budget."""
    values: dict[str, Any] = {
        f"{stage}_{key}_ms": value for stage, numbers in summary.items() for key, value in numbers.items()
    }
    total = summary.get("total")
    in_budget = total is None or total["p95"] <= max_latency_ms
    values["processing_time_ms"] = total["p50"] if total else 0.0
    values["is_processing_time_ms_in_expected_range"] = in_budget
    message = "within budget" if in_budget else f"p95 is over the budget of {max_latency_ms:.0f} ms"
    return Status("latency", OK if in_budget else WARN, message if total else "no output yet", values)


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


def policy_problem(
    policy: str, complete: int, received: Mapping[str, int], newest_ns: Mapping[str, int], max_spread_s: float
) -> str:
    """Why a policy of message_filters makes (next to) no sets although every camera delivers; empty: it makes some.

    Args:
        policy: cycle, approximate or exact.
        complete: sets made so far.
        received: camera -> images so far.
        newest_ns: camera -> its newest stamp.
        max_spread_s: what `approximate` allows.
    """
    cycles = min(received.values(), default=0)
    if policy == "cycle" or cycles < _CYCLES_TO_JUDGE or complete * 10 >= cycles:
        return ""
    apart_ms = (max(newest_ns.values()) - min(newest_ns.values())) * 1e-6
    needs = "equal stamps" if policy == "exact" else f"stamps within sync.max_spread, {max_spread_s * 1e3:.0f} ms"
    return (
        f"sync.policy {policy} made {complete} sets of {cycles} images per camera: it needs {needs}, but the newest "
        f"stamps lie {apart_ms:.1f} ms apart; use sync.policy cycle, or trigger the cameras together"
    )


def to_message(types: MessageTypes, statuses: list[Status], stamp_ns: int, node: str, hardware_id: str) -> Any:
    """A DiagnosticArray with one status per task, named `node: task`."""
    status, pair = types.get("diagnostic_msgs/msg/DiagnosticStatus"), types.get("diagnostic_msgs/msg/KeyValue")
    return types.get("diagnostic_msgs/msg/DiagnosticArray")(
        header=types.header(stamp_ns, ""),
        status=[
            status(
                level=bytes([entry.level]),
                name=f"{node}: {entry.name}",
                message=entry.message,
                hardware_id=hardware_id or "none",
                values=[pair(key=key, value=str(value)) for key, value in entry.values.items()],
            )
            for entry in statuses
        ],
    )
