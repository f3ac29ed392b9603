"""Faults in a real graph: the node names the cause, makes no wrong map, and is at full rate again afterwards."""

import json
import random
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="the ROS graph needs rclpy; run make setup")
pytestmark = pytest.mark.ros

NAMES = (
    *("killed_CAM_FRONT", "killed_CAM_FRONT_RIGHT", "killed_CAM_BACK_RIGHT", "killed_CAM_BACK", "killed_CAM_BACK_LEFT"),
    *("killed_CAM_FRONT_LEFT", "all_silent", "silent", "jpeg_cut", "jpeg_cut_now_and_then", "jpeg_of_noise"),
    *("image_of_no_bytes", "focal_nan", "focal_zero", "focal_negative", "focal_infinite", "another_shape", "tf_gap"),
    *("stamps_of_the_future", "stamps_of_zero", "every_image_twice", "two_publishers", "burst", "network_raises"),
    "gpu_out_of_memory",
)


@pytest.fixture
def predictor(faults: ModuleType, rig_module: Any) -> Any:
    return faults.FaultyPredictor(rig_module.RigLines())


@pytest.fixture
def traffic(faults: ModuleType, graph: Any, rig_module: Any, predictor: Any) -> Any:
    return faults.Traffic(graph, rig_module, predictor)


@pytest.fixture
def node(traffic: Any, start_node: Any) -> Any:
    quick = {"diagnostics.period": 0.1, "diagnostics.stale_after": 0.5, "sync.min_cameras": 5}
    return start_node(**quick)


def test_every_fault_is_tested(faults: ModuleType, rig_module: Any) -> None:
    assert [fault.name for fault in faults.make_faults(rig_module)] == list(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_fault_is_named_and_overcome(name: str, faults: ModuleType, traffic: Any, node: Any) -> None:
    fault = next(entry for entry in faults.make_faults(traffic.rig) if entry.name == name)
    assert traffic.until(traffic.at_full_rate) is not None
    traffic.mark()
    fault.begin(traffic)
    sent = traffic.cycles
    assert traffic.until(lambda: traffic.named(fault) and traffic.cycles >= sent + 12, [fault]) is not None
    fault.end(traffic)
    traffic.mark()
    assert traffic.until(traffic.at_full_rate) is not None
    assert traffic.until(traffic.healthy) is not None
    assert traffic.wrong_maps() == []
    assert node.session.worker is not None, "still active"


@pytest.mark.parametrize("name", ["killed_CAM_BACK", "jpeg_cut", "tf_gap", "stamps_of_the_future", "network_raises"])
def test_what_is_new_does_not_wait_for_the_period(name: str, faults: ModuleType, traffic: Any, start_node: Any) -> None:
    """A minute, of which nobody waits."""
    start_node(**{"diagnostics.period": 60.0, "diagnostics.stale_after": 0.5, "sync.min_cameras": 5})
    fault = next(entry for entry in faults.make_faults(traffic.rig) if entry.name == name)
    assert traffic.until(traffic.at_full_rate) is not None
    traffic.mark()
    fault.begin(traffic)
    assert traffic.until(lambda: traffic.named(fault), [fault], most=200) is not None
    fault.end(traffic)


def test_diagnostics_do_not_follow_what_comes_and_goes(faults: ModuleType, traffic: Any, start_node: Any) -> None:
    start_node(**{"diagnostics.period": 60.0, "sync.min_cameras": 5})
    fault = next(entry for entry in faults.make_faults(traffic.rig) if entry.name == "jpeg_cut_now_and_then")
    assert traffic.until(traffic.at_full_rate) is not None
    assert traffic.until(lambda: traffic.named(fault), [fault]) is not None
    traffic.mark()
    begin_s, begin = time.monotonic(), traffic.cycles
    assert traffic.until(lambda: traffic.cycles >= begin + 40, [fault]) is not None, "five or six damaged ones more"
    reminders = (time.monotonic() - begin_s) // 2.0 + 1
    assert len(traffic.diagnostics[traffic.since[1] :]) <= reminders


def test_a_camera_without_stamps_is_in_no_map(faults: ModuleType, traffic: Any, node: Any) -> None:
    """In real time, where its images come some 40 ms before the time that they are of: 0.4 m at this speed."""
    fault = next(entry for entry in faults.make_faults(traffic.rig, "CAM_BACK_LEFT") if entry.name == "stamps_of_zero")
    traffic.start_now()
    assert traffic.until(traffic.at_full_rate) is not None
    without = faults.FULL_MASK & ~(1 << traffic.rig.CAMERAS.index("CAM_BACK_LEFT"))
    assert traffic.until(lambda: traffic.maps[-1].camera_mask == without, [fault]) is not None
    begin, sent = len(traffic.maps), traffic.cycles
    assert traffic.until(lambda: traffic.named(fault) and traffic.cycles >= sent + 24, [fault]) is not None
    assert {entry.camera_mask for entry in traffic.maps[begin:]} == {without}
    traffic.mark()
    assert traffic.until(traffic.at_full_rate) is not None
    assert traffic.wrong_maps() == []


def test_random_faults_together(faults: ModuleType, traffic: Any, node: Any) -> None:
    """Short, with a fixed seed; `benchmarks/fault_soak.py` goes on for ten minutes."""
    chance = random.Random(15)
    for _ in range(6):
        chosen = chance.sample(faults.make_faults(traffic.rig, chance.choice(traffic.rig.CAMERAS)), 2)
        assert traffic.until(traffic.at_full_rate) is not None
        for fault in chosen:
            fault.begin(traffic)
        for _ in range(chance.randrange(3, 15)):
            traffic.cycle(chosen)
        for fault in chosen:
            fault.end(traffic)
        traffic.mark()
        assert traffic.until(traffic.at_full_rate) is not None, chosen
        assert traffic.wrong_maps() == [], chosen
        assert node.session.worker is not None, chosen


def test_a_rig_whose_clock_is_ahead_of_the_nodes(faults: ModuleType, traffic: Any, node: Any) -> None:
    """Its maps are right, its stamps are told."""
    ahead = faults.Fault("ahead", cause="CAM_FRONT=future_stamp: camera CAM_FRONT: its stamps lie")
    traffic.cycles = round((time.time_ns() + 60_000_000_000 - traffic.rig.START_NS) / faults.PERIOD_NS)
    assert traffic.until(lambda: traffic.at_full_rate() and traffic.named(ahead)) is not None
    assert traffic.wrong_maps() == []


@pytest.mark.parametrize("name", ["info", "image"])
def test_what_is_missing_from_the_start_is_named(name: str, faults: ModuleType, traffic: Any, node: Any) -> None:
    def alter(traffic: Any, shot: Any) -> None:
        setattr(shot, name, None)

    cause = {"info": "waiting_camera_info", "image": "no_data"}[name]
    absent = faults.Fault(f"no_{name}", cause=f"CAM_BACK={cause}", alter=alter)
    assert traffic.until(lambda: traffic.named(absent), [absent]) is not None
    assert traffic.maps == []
    traffic.mark()
    assert traffic.until(lambda: traffic.at_full_rate() and traffic.healthy()) is not None
    assert traffic.wrong_maps(traffic.since[0]) == []


def test_a_full_disk_leaves_the_last_report_and_stops_no_node(
    traffic: Any, start_node: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linux's own full disk stands where the report is written."""
    report = tmp_path / "report.json"
    report.write_text("the last one")
    Path(f"{report}.part").symlink_to("/dev/full")
    node = start_node(report_file=str(report))
    logged: list[tuple[str, str]] = []
    monkeypatch.setattr(node, "log", lambda level, message: logged.append((level, message)))
    assert traffic.until(traffic.at_full_rate) is not None
    assert node.trigger_deactivate().name == "SUCCESS"
    assert ("error", f"cannot write {report}: No space left on device") in logged
    assert report.read_text() == "the last one"
    assert node.trigger_activate().name == "SUCCESS"
    traffic.mark()
    assert traffic.until(traffic.at_full_rate) is not None
    assert node.trigger_deactivate().name == "SUCCESS"
    assert json.loads(report.read_text())["published"] >= 5
