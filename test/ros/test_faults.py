"""Faults in a real graph: the node names the cause, makes no wrong map, and is at full rate again afterwards."""

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


@pytest.fixture(scope="session")
def faults(load_module: Any) -> ModuleType:
    return load_module(Path(__file__).with_name("fault_injection.py"))


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
