"""Levels and sentences of the node's diagnostics."""

import re

import pytest

from hdmap_ros.diagnostics import (
    ERROR,
    OK,
    WARN,
    cameras_status,
    latency_status,
    output_status,
    policy_problem,
    synchronisation_status,
)
from hdmap_ros.node_config import OnlineMapConfig
from hdmap_ros.node_report import synchroniser_counts
from hdmap_ros.sync.image_sets import Move, SyncStatistics


def test_latency_over_budget_is_a_warning() -> None:
    summary = {"total": {"p50": 90.0, "p95": 140.0, "p99": 150.0, "max": 200.0}}
    assert latency_status(summary, 150).level == OK
    over = latency_status(summary, 100)
    assert (over.level, over.message) == (WARN, "p95 is over the budget of 100 ms")
    assert over.values["is_processing_time_ms_in_expected_range"] is False
    assert latency_status({}, 100).message == "no output yet"


@pytest.mark.parametrize(
    ("states", "level", "message"),
    [
        ({"a": "ok", "b": "ok"}, OK, "all cameras are delivering"),
        ({"a": "ok", "b": "stale"}, WARN, "b: stale"),
        ({"a": "stale", "b": "stale"}, ERROR, "a: stale and 1 more"),
        ({"a": "no_publisher", "b": "no_publisher"}, WARN, "a: no_publisher and 1 more"),
        ({"a": "ok", "b": "rejected_image"}, ERROR, "b: rejected_image"),
        ({"a": "ok", "b": "bad_calibration"}, ERROR, "b: bad_calibration"),
    ],
)
def test_cameras(states: dict[str, str], level: int, message: str) -> None:
    status = cameras_status(states, {"b": "why"})
    assert (status.level, status.message) == (level, message)
    if states["b"] == "rejected_image":
        assert status.values["b"] == "rejected_image: why"


def test_synchronisation_names_clocks_that_moved_and_cameras_that_come_late() -> None:
    statistics = SyncStatistics(complete=4, partial=20)
    statistics.late_by_camera["CAM_BACK"] = 19
    statistics.last_move = Move("CAM_FRONT", 40_000_000, 5_000_000_000)
    message = synchronisation_status(synchroniser_counts(statistics)).message
    assert message == (
        "4 of 24 sets complete; CAM_BACK too late for most: raise sync.timeout or set the clock right; "
        "stamps moved: CAM_FRONT by +40.0 ms at 5.000 s"
    )


def test_incomplete_sets_are_a_warning() -> None:
    counts = {"complete": 9, "partial": 0, "incomplete": 1}
    assert synchronisation_status(counts).level == WARN
    assert synchronisation_status({**counts, "incomplete": 0}).message == "9 of 9 sets complete"


@pytest.mark.parametrize(
    ("policy", "complete", "images", "told"),
    [
        ("exact", 0, 20, r"exact made 0 sets of 20 images per camera: it needs equal stamps.* 42\.6 ms apart"),
        ("approximate", 1, 40, r"it needs stamps within sync\.max_spread, 30 ms.*use sync\.policy cycle"),
        ("exact", 0, 5, ""),  # too early to say
        ("exact", 18, 20, ""),  # a triggered rig
        ("cycle", 0, 40, ""),  # the synchroniser's own business
    ],
)
def test_a_policy_that_cannot_join_these_cameras(policy: str, complete: int, images: int, told: str) -> None:
    received, newest_ns = {"a": images, "b": images + 3}, {"a": 10**9, "b": 10**9 + 42_600_000}
    problem = policy_problem(policy, complete, received, newest_ns, 0.03)
    assert re.search(told, problem) if told else not problem
    counts = {"complete": complete, "partial": 0, "incomplete": 0}
    assert synchronisation_status(counts, problem).level == (WARN if told else OK)


@pytest.mark.parametrize(
    ("published", "age_s", "expected", "max_rate", "level", "message"),
    [
        (0, 0.0, True, 0.0, WARN, "nothing published yet"),
        (5, 0.9, True, 0.0, OK, "publishing"),
        (5, 7.25, True, 0.0, WARN, "the last map is 7.2 s old"),
        (5, 7.25, False, 0.0, OK, "the last map is 7.2 s old; none is wanted"),
        (5, 7.25, True, 0.2, OK, "publishing"),
    ],
)
def test_an_old_map_is_told_where_one_is_wanted(
    published: int, age_s: float, expected: bool, max_rate: float, level: int, message: str
) -> None:
    config = OnlineMapConfig(stale_after=1.0, max_rate=max_rate)
    status = output_status({"published_since_active": published, "map_age_s": age_s}, config, expected)
    assert (status.level, status.message, status.values["map_age_s"]) == (level, message, age_s)
