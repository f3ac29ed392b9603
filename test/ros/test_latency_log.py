"""Percentiles of the latest sets."""

from hdmap_ros.latency_log import LatencyLog


def test_percentiles_per_stage_in_order() -> None:
    log = LatencyLog()
    for value in range(1, 101):
        log.add({"total": 2.0 * value, "network": float(value)})
    summary = log.summary()
    assert list(summary) == ["network", "total"]
    assert summary["network"] == {"p50": 50.5, "p95": 95.05, "p99": 99.01, "max": 100.0}
