"""Recordings of rigs whose stamps step, drift and jitter, where they lie beside the repository."""

import json
from pathlib import Path
from typing import Any

import pytest

from hdmap_ros.bag.layouts import load_layout
from hdmap_ros.bag.replay import ReplayConfig, replay_bag


@pytest.mark.parametrize(
    ("case", "least", "moved"),
    [
        ("sync_phase_step_40ms", 190, ["CAM_BACK"]),
        ("sync_drift_1000ppm", 390, []),
        ("sync_arrival_jitter_10ms", 195, []),
    ],
)
def test_a_recorded_rig(
    case: str, least: int, moved: list[str], shared_case: Any, predictor: Any, tmp_path: Path
) -> None:
    bag = shared_case(f"{case}/drive.mcap")
    replay_bag(bag, predictor, tmp_path / "out", ReplayConfig(load_layout("hdmap"), every=100))
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["sets"] >= least
    assert list(report["synchroniser"]["moved"]) == moved
    assert bool(report["synchroniser"]["last_move"]) == bool(moved)
