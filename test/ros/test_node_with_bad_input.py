"""The node in a real ROS graph with cameras that are missing, broken or odd: what it says, and that it goes on."""

from typing import Any

import cv2
import numpy as np
import pytest

from hdmap_core.geometry.lens import Lens
from hdmap_ros.stamps import stamp_to_ns

pytestmark = pytest.mark.ros


@pytest.mark.parametrize("min_cameras", [5, 6])
def test_a_missing_camera(graph: Any, start_node: Any, rig_module: Any, min_cameras: int) -> None:
    graph.open_cameras()
    maps, diagnostics = graph.listen_to_maps(), graph.listen_to_diagnostics()
    start_node(sync__min_cameras=min_cameras, diagnostics__period=0.1)
    graph.drive(rig_module.ticks(14), lost=lambda camera, index: camera == "CAM_BACK", pause_s=0.1)
    graph.spin(0.3)
    if min_cameras == 6:
        assert maps == []
        assert graph.until(lambda: diagnostics and diagnostics[-1]["synchronisation"].level == b"\x01")
        return
    assert graph.until(lambda: maps)
    assert {entry.camera_mask for entry in maps} == {0b110111}
    assert len(maps[-1].elements) == 6
    assert any("CAM_BACK: no_data" in entry["cameras"].message for entry in diagnostics)


def test_camera_info_with_nan_is_refused_then_mended(graph: Any, start_node: Any, rig_module: Any) -> None:
    graph.open_cameras()
    maps, diagnostics = graph.listen_to_maps(), graph.listen_to_diagnostics()
    start_node(diagnostics__period=0.1)
    ticks = rig_module.ticks(24)
    graph.drive(ticks[:10], focal=float("nan"))
    assert graph.until(lambda: diagnostics and "bad_calibration" in diagnostics[-1]["cameras"].message)
    assert diagnostics[-1]["cameras"].level == b"\x02"
    assert maps == []
    graph.drive(ticks[10:])
    assert graph.until(lambda: maps)


def test_time_that_jumps_back(graph: Any, start_node: Any, rig_module: Any) -> None:
    graph.open_cameras()
    maps, markers = graph.listen_to_maps(), graph.listen_to_markers()
    start_node()
    ticks = rig_module.ticks(24)
    graph.drive(ticks[12:])
    assert graph.until(lambda: maps and stamp_to_ns(maps[-1].header.stamp) > ticks[-1])
    count = len(maps)
    graph.drive(ticks[:12])
    assert graph.until(lambda: len(maps) > count and stamp_to_ns(maps[-1].header.stamp) > ticks[11])
    assert any(marker.action == 3 for array in markers for marker in array.markers)  # DELETEALL
    times = [stamp_to_ns(entry.header.stamp) for entry in maps[count:]]
    assert times == sorted(times) and times[-1] < ticks[12]


def test_corrupt_images_do_not_stop_it(graph: Any, start_node: Any, rig_module: Any) -> None:
    graph.open_cameras()
    maps, diagnostics = graph.listen_to_maps(), graph.listen_to_diagnostics()
    node = start_node(diagnostics__period=0.1)
    ticks = rig_module.ticks(24)
    graph.drive(ticks[:10], data=rig_module.jpeg(50)[:-20])
    assert graph.until(lambda: node.session.counts["rejected_image"] > 0)
    assert graph.until(lambda: "rejected_image" in diagnostics[-1]["cameras"].message)
    assert maps == []
    graph.drive(ticks[10:])
    assert graph.until(lambda: maps)


@pytest.mark.parametrize("min_cameras", [5, 6])
def test_one_odd_camera_stops_neither_node_nor_maps(
    graph: Any, start_node: Any, rig_module: Any, min_cameras: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CAM_BACK sends images of another shape than its CameraInfo, for good."""
    ok, tall = cv2.imencode(".jpg", np.zeros((160, 90, 3), np.uint8))
    assert ok
    graph.open_cameras()
    maps, diagnostics = graph.listen_to_maps(), graph.listen_to_diagnostics()
    node = start_node(sync__min_cameras=min_cameras, max_failures=2, diagnostics__period=0.1)
    said: list[str] = []
    monkeypatch.setattr(node.session.pipeline.builder.problems, "_tell", said.append)
    image = type(graph.rig).image

    def odd(rig: Any, camera: str, stamp_ns: int, data: bytes | None = None) -> Any:
        return image(rig, camera, stamp_ns, tall.tobytes() if camera == "CAM_BACK" else data)

    monkeypatch.setattr(type(graph.rig), "image", odd)
    graph.drive(rig_module.ticks(14))
    assert graph.until(lambda: maps if min_cameras == 5 else node.session.counts["bad_calibration"] > 3)
    assert not node.session.broken
    assert graph.until(lambda: "CAM_BACK: bad_calibration" in diagnostics[-1]["cameras"].message)
    assert graph.until(lambda: node.session.report()["problems"]["bad_calibration"]["cameras"]["CAM_BACK"] >= 3)
    assert len(said) < 3, "a reminder at most every five seconds"
    assert "camera CAM_BACK: the image has 90 x 160 pixels" in said[0]
    if min_cameras == 5:
        assert {entry.camera_mask for entry in maps} == {0b110111}
    monkeypatch.undo()
    count = len(maps)
    graph.drive(rig_module.ticks(30)[14:])
    assert graph.until(lambda: len(maps) > count and maps[-1].camera_mask == 0b111111)


def test_a_lens_that_is_no_pinhole_is_allowed_for(
    graph: Any, start_node: Any, rig_module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph.open_cameras()
    maps, info = graph.listen_to_maps(), type(graph.rig).info
    node = start_node()
    node_predictor = node.session.pipeline.predictor

    def fisheye(rig: Any, camera: str, stamp_ns: int, focal: float = 120.0) -> Any:
        message = info(rig, camera, stamp_ns, focal)
        message.distortion_model, message.d = "equidistant", [0.0] * 4
        return message

    monkeypatch.setattr(type(graph.rig), "info", fisheye)
    graph.drive(rig_module.ticks(12))
    assert graph.until(lambda: maps)
    assert node_predictor.seen[-1].rig.lenses == (Lens("fisheye", (0.0, 0.0, 0.0, 0.0)),) * len(rig_module.CAMERAS)
    report = node.session.report()
    assert report["problems"] == {}
    assert report["cameras"] == dict.fromkeys(rig_module.CAMERAS, "raw, equidistant")


@pytest.mark.parametrize(("stagger", "level"), [(True, b"\x01"), (False, b"\x00")])
def test_the_policy_exact_on_staggered_cameras_warns(
    graph: Any, start_node: Any, rig_module: Any, monkeypatch: pytest.MonkeyPatch, stagger: bool, level: bytes
) -> None:
    pytest.importorskip("message_filters", reason="comes with a sourced ROS, not with the wheels")
    if not stagger:
        monkeypatch.setattr(rig_module, "PHASES_NS", dict.fromkeys(rig_module.CAMERAS, 0))
    graph.open_cameras()
    graph.listen_to_maps()
    diagnostics = graph.listen_to_diagnostics()
    node = start_node(sync__policy="exact", diagnostics__period=0.1)
    graph.drive(rig_module.ticks(30))
    assert graph.until(lambda: min(node.session.inputs.received.values()) >= 25)
    diagnostics.clear()
    assert graph.until(lambda: diagnostics)
    status = diagnostics[-1]["synchronisation"]
    assert status.level == level
    assert ("use sync.policy cycle" in status.message) == stagger
