"""Odd input that needs a node of its own in a real graph: what lacks from the start, and what ends the node's activity.

The rows of docs/abnormal_input.md that `test_abnormal_input.py` has not.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from hdmap_ros.stamps import stamp_to_ns

pytest.importorskip("rclpy", reason="the ROS graph needs rclpy; run make setup")
pytestmark = pytest.mark.ros

CAMERA = "CAM_BACK"
QUICK = {"diagnostics.period": 0.1, "sync.max_age": 10.0}


@pytest.fixture
def predictor(faults: ModuleType, rig_module: Any) -> Any:
    return faults.FaultyPredictor(rig_module.RigLines())


@pytest.fixture
def traffic(faults: ModuleType, graph: Any, rig_module: Any, predictor: Any) -> Any:
    return faults.Traffic(graph, rig_module, predictor)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The frames of the images that are decoded."""
    from hdmap_ros.observing import set_decoding

    frames: list[str] = []
    decode = set_decoding.decode_image

    def noted(message: Any, *arguments: Any) -> Any:
        frames.append(message.header.frame_id)
        return decode(message, *arguments)

    monkeypatch.setattr(set_decoding, "decode_image", noted)
    return frames


def test_a_rig_without_stamps_goes_by_arrival(faults: ModuleType, traffic: Any, start_node: Any) -> None:
    """No camera has any; so none is late by the others, and a map has the time at which its images came."""

    def no_stamp(traffic: Any, shot: Any) -> None:
        shot.image.header.stamp = type(shot.image.header.stamp)()

    fault = faults.Fault(
        "no_stamps", cause="CAM_FRONT=zero_stamp: camera CAM_FRONT: its images have no stamp", alter=no_stamp
    )
    used = faults.Fault("used", cause="their time of arrival is used, as no camera has stamps")
    traffic.start_now()
    start_node(**QUICK)
    assert traffic.until(lambda: traffic.named(fault) and traffic.named(used) and traffic.maps, [fault]) is not None
    stamp_ns = stamp_to_ns(traffic.maps[-1].header.stamp)
    assert abs(time.time_ns() - stamp_ns) < 60_000_000_000
    assert len(traffic.maps[-1].elements) == 7


def logged_by(node: Any, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Level and text of what the session logs from now on."""
    lines: list[tuple[str, str]] = []
    monkeypatch.setattr(node, "log", lambda level, message: lines.append((level, message)))
    return lines


def altered(faults: ModuleType, cause: str, change: Callable[[Any, Any], None]) -> Any:
    """A fault of CAM_BACK with what is said of it in the task `cameras`."""
    fault = faults.altered("odd", "", change, CAMERA)
    return replace(fault, cause=cause)


def without_info(traffic: Any, shot: Any) -> None:
    shot.info = None


def test_a_camera_that_is_absent_at_the_start_is_waited_for(
    faults: ModuleType, traffic: Any, start_node: Any, predictor: Any
) -> None:
    traffic.kill(CAMERA)
    node = start_node(**QUICK)
    told: list[str] = []
    node.session._reminders._tell = told.append
    absent = faults.Fault("absent", cause="CAM_BACK=no_publisher")
    assert traffic.until(lambda: traffic.named(absent) and told) is not None
    assert traffic.maps == [] and predictor.inner.seen == []
    assert told[0] == "waiting for images: cam_back/image_raw/compressed (no_publisher)"
    traffic.revive(CAMERA)
    traffic.mark()
    assert traffic.until(lambda: traffic.at_full_rate() and traffic.healthy()) is not None
    assert traffic.wrong_maps() == []


def test_images_without_camera_info_are_not_decoded(
    faults: ModuleType, traffic: Any, start_node: Any, decoded: list[str]
) -> None:
    start_node(**QUICK, sync__min_cameras=5)
    fault = altered(faults, "CAM_BACK=waiting_camera_info: camera CAM_BACK: no CameraInfo has come yet", without_info)
    assert traffic.until(lambda: traffic.named(fault) and len(traffic.maps) > 3, [fault]) is not None
    assert CAMERA.lower() not in decoded and "cam_front" in decoded
    assert {entry.camera_mask for entry in traffic.maps} == {0b110111}
    traffic.mark()
    assert traffic.until(lambda: traffic.at_full_rate() and traffic.healthy()) is not None
    assert traffic.wrong_maps() == []


def test_a_calibration_file_fills_in_until_a_camera_info_comes(
    faults: ModuleType, traffic: Any, start_node: Any, predictor: Any, tmp_path: Path
) -> None:
    entry = {"intrinsics": [[125.0, 0, 79.5], [0, 125.0, 44.5], [0, 0, 1]], "image_size": [90, 160]}
    path = tmp_path / "rig.yaml"
    path.write_text(yaml.safe_dump({"cameras": {CAMERA: entry}}))
    start_node(**QUICK, calibration__source="topic_then_file", calibration__file=str(path))
    fault = altered(faults, "", without_info)
    assert traffic.until(lambda: traffic.at_full_rate() and traffic.healthy(), [fault]) is not None
    assert predictor.focals == {120.0, 125.0}
    predictor.focals.clear()
    traffic.mark()
    assert traffic.until(lambda: traffic.at_full_rate() and traffic.healthy() and predictor.focals == {120.0})
    assert traffic.wrong_maps() == []


def test_without_any_transform_nothing_comes_out(faults: ModuleType, traffic: Any, start_node: Any) -> None:
    def silent(traffic: Any, shot: Any) -> None:
        shot.tf = None

    traffic.graph._tf_static.publish(traffic.graph.rig.types.get("tf2_msgs/msg/TFMessage")(transforms=[]))
    start_node(**QUICK)
    cause = "CAM_FRONT=no_transform: camera CAM_FRONT: no transform base_link <- cam_front"
    nothing = faults.Fault("nothing", cause=cause, alter=silent)
    assert traffic.until(lambda: traffic.named(nothing), [nothing]) is not None
    assert traffic.maps == []
    traffic.graph._tf_static.publish(traffic.graph.rig.tf_static())
    traffic.mark()
    assert traffic.until(lambda: traffic.at_full_rate() and traffic.healthy()) is not None
    assert traffic.wrong_maps() == []


def test_a_gpu_without_memory_three_times_in_a_row_ends_the_activity(
    faults: ModuleType, traffic: Any, start_node: Any, predictor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    freed: list[bool] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: freed.append(True))
    node = start_node(**QUICK)
    logged = logged_by(node, monkeypatch)
    assert traffic.until(traffic.at_full_rate) is not None
    words = "CUDA out of memory. Tried to allocate 2.00 GiB"
    predictor.error, predictor.failures = torch.OutOfMemoryError(words), 3
    gave_up = faults.Fault("gave_up", "model", f"failing: the network failed: OutOfMemoryError: {words}")
    assert traffic.until(lambda: node.session.worker is None and traffic.named(gave_up)) is not None
    assert ("error", "3 sets failed in a row; deactivating") in logged
    assert len(freed) == 3
    assert node.trigger_activate().name == "SUCCESS"
    traffic.mark()
    assert traffic.until(lambda: traffic.at_full_rate() and traffic.healthy()) is not None
    assert traffic.wrong_maps() == []


@pytest.fixture
def small_model(tmp_path: Path) -> Any:
    """A real network of random weights; nine elements."""
    import torch

    from hdmap_core.checkpoint import CheckpointConfig, save_checkpoint
    from hdmap_core.geometry import BEVGrid
    from hdmap_core.inference import load_predictor
    from hdmap_core.models import build_model

    decoder = {"num_queries": 9, "num_points": 4, "channels": 8, "layers": 1, "attention_heads": 2}
    unet = {"kind": "unet", "channels": (8, 8), "blocks": (1, 1), "out_channels": 8}
    slots = {"bev_encoder": unet, "vectors": {"kind": "scatter_gather", **decoder}}
    grid = BEVGrid((-6.0, 6.0), (-3.0, 3.0), 0.5)
    made = {"model": {"name": "small", "grid": grid, **slots}, "decode": {"score_threshold": 0.0}}
    config = CheckpointConfig.model_validate(made)
    torch.manual_seed(0)
    save_checkpoint(tmp_path / "small.safetensors", build_model(config.model), config, {})
    return load_predictor(tmp_path / "small.safetensors", "cpu")


def test_elements_that_are_no_numbers_are_left_out_and_told(
    faults: ModuleType, graph: Any, rig_module: Any, small_model: Any
) -> None:
    """And when nothing else comes any more, the network has failed: there is no empty map."""
    forward, spoiled = small_model.engine.model.forward, [0]

    def spoil(*inputs: Any) -> Any:
        output = forward(*inputs)
        output.vectors.points[-1, 0, : spoiled[0], 0] = float("nan")
        return output

    small_model.engine.model.forward = spoil
    traffic = faults.Traffic(graph, rig_module, small_model)
    node = graph.start_node(small_model, **QUICK)
    assert traffic.until(traffic.at_full_rate) is not None
    spoiled[0] = 2
    lost = "2 elements that the network gave are no numbers; they are left out"
    traffic.mark()
    assert traffic.until(lambda: traffic.named(faults.Fault("lost", "output", lost))) is not None
    assert traffic.until(traffic.at_full_rate) is not None
    counted = node.session.report()["problems"]["not_finite"]["count"]
    assert traffic.until(lambda: node.session.report()["problems"]["not_finite"]["count"] > counted) is not None
    assert all(element.points for entry in traffic.maps for element in entry.elements)
    spoiled[0] = 9
    gone = "failing: the network failed: all 9 elements that the network gave are no numbers"
    assert traffic.until(lambda: traffic.named(faults.Fault("gone", "model", gone))) is not None
    assert not any(len(entry.elements) == 0 for entry in traffic.maps)
    spoiled[0] = 0
    assert node.trigger_activate().name == "SUCCESS"
    traffic.mark()
    assert traffic.until(lambda: traffic.at_full_rate() and traffic.healthy()) is not None
