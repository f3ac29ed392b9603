"""The node in a real ROS graph."""

import json
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from hdmap_ros.diagnostics import STAGES

pytestmark = pytest.mark.ros

ELEMENTS = ("hdmap_ros/msg/MapElementArray", "/online_map/output/map_elements")
MARKERS = ("visualization_msgs/msg/MarkerArray", "/online_map/output/markers")
DIAGNOSTICS = ("diagnostic_msgs/msg/DiagnosticArray", "/diagnostics")


def stamp_of(message: Any) -> int:
    return message.header.stamp.sec * 10**9 + message.header.stamp.nanosec


def tasks(message: Any) -> dict[str, Any]:
    return {status.name.split(": ")[1]: status for status in message.status}


def test_six_cameras_in_map_out(graph: Any, start_node: Any, predictor: Any, rig_module: Any, tmp_path: Path) -> None:
    graph.open_cameras()
    maps, markers = graph.listen(*ELEMENTS), graph.listen(*MARKERS)
    report_file = tmp_path / "report.json"
    node = start_node(report_file=str(report_file))
    ticks = rig_module.ticks(10)
    graph.drive(ticks)
    anchor_stamps = [tick + rig_module.PHASES_NS["CAM_FRONT"] for tick in ticks]
    assert graph.until(lambda: maps and stamp_of(maps[-1]) == anchor_stamps[-1])
    message = maps[-1]
    assert {stamp_of(entry) for entry in maps} <= set(anchor_stamps)
    assert message.header.frame_id == "base_link"
    assert [element.label for element in message.elements] == [1] * 6 + [2]
    assert (message.camera_mask, message.model_id) == (0b111111, "rig_lines-00000000")
    assert message.sync_spread == pytest.approx(0.0426, abs=1e-6)
    assert (message.roi_min.x, message.roi_max.y) == (-30.0, 15.0)
    scores = [element.score for element in message.elements[:6]]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] == pytest.approx(220 / 255, abs=0.01)
    # The geometry: the brightest camera is CAM_FRONT_LEFT, which fired 7.6 ms before the anchor at 10 m/s.
    start = message.elements[0].points[0]
    mount = rig_module.base_from_camera("CAM_FRONT_LEFT")
    assert (start.x, start.y) == pytest.approx((mount[0, 3] - 0.076, mount[1, 3]), abs=1e-4)
    assert message.elements[6].closed and len(message.elements[6].points) == 4
    assert [entry.sequence for entry in maps] == list(range(maps[0].sequence, maps[0].sequence + len(maps)))
    # Markers are another topic: those of the last map may come after it.
    assert graph.until(
        lambda: markers and markers[-1].markers and markers[-1].markers[0].header.stamp == message.header.stamp
    )
    node.trigger_deactivate()
    report = json.loads(report_file.read_text())
    assert report["published"] == len(maps)
    assert report["images"] == dict.fromkeys(rig_module.CAMERAS, 10)
    assert report["synchroniser"]["complete"] == 10
    assert report["published"] + sum(report["dropped"].values()) == 10
    assert set(report["latency_ms"]) == set(STAGES)


def test_model_info_is_latched(graph: Any, start_node: Any, rig_module: Any) -> None:
    from rclpy.qos import DurabilityPolicy, QoSProfile

    start_node()
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    infos = graph.listen("hdmap_ros/msg/MapModelInfo", "/online_map/output/model_info", latched)
    assert graph.until(lambda: infos)
    assert list(infos[0].labels) == [1, 2]
    assert infos[0].label_names == ["divider", "ped_crossing"]
    assert infos[0].camera_names == list(rig_module.CAMERAS)


def test_model_info_follows_the_threshold_and_stays_in_the_cars_frame(graph: Any, start_node: Any) -> None:
    from rclpy.parameter import Parameter

    infos = graph.listen("hdmap_ros/msg/MapModelInfo", "/online_map/output/model_info")
    node = start_node(output_frame="odom")
    assert graph.until(lambda: infos)
    assert (infos[-1].header.frame_id, infos[-1].roi_min.x) == ("base_link", -30.0)
    node.set_parameters([Parameter("score_threshold", value=0.5)])
    assert graph.until(lambda: list(infos[-1].score_thresholds) == [0.5, 0.5])


@pytest.mark.parametrize("min_cameras", [5, 6])
def test_a_missing_camera(graph: Any, start_node: Any, rig_module: Any, min_cameras: int) -> None:
    graph.open_cameras()
    maps, diagnostics = graph.listen(*ELEMENTS), graph.listen(*DIAGNOSTICS)
    start_node(sync__min_cameras=min_cameras, diagnostics__period=0.1)
    graph.drive(rig_module.ticks(14), lost=lambda camera, index: camera == "CAM_BACK", pause_s=0.1)
    graph.spin(0.3)
    if min_cameras == 6:
        assert maps == []
        assert graph.until(lambda: diagnostics and tasks(diagnostics[-1])["synchronisation"].level == b"\x01")
        return
    assert graph.until(lambda: maps)
    assert {entry.camera_mask for entry in maps} == {0b110111}
    assert len(maps[-1].elements) == 6
    cameras = tasks(diagnostics[-1])["cameras"]
    assert "CAM_BACK: no_data" in cameras.message


def test_camera_info_with_nan_is_refused_then_mended(graph: Any, start_node: Any, rig_module: Any) -> None:
    graph.open_cameras()
    maps, diagnostics = graph.listen(*ELEMENTS), graph.listen(*DIAGNOSTICS)
    start_node(diagnostics__period=0.1)
    ticks = rig_module.ticks(24)
    graph.drive(ticks[:10], focal=float("nan"))
    assert graph.until(lambda: diagnostics and "bad_calibration" in tasks(diagnostics[-1])["cameras"].message)
    assert tasks(diagnostics[-1])["cameras"].level == b"\x02"
    assert maps == []
    graph.drive(ticks[10:])
    assert graph.until(lambda: maps)


def test_time_that_jumps_back(graph: Any, start_node: Any, rig_module: Any) -> None:
    graph.open_cameras()
    maps, markers = graph.listen(*ELEMENTS), graph.listen(*MARKERS)
    start_node()
    ticks = rig_module.ticks(24)
    graph.drive(ticks[12:])
    assert graph.until(lambda: maps and stamp_of(maps[-1]) > ticks[-1])
    count = len(maps)
    graph.drive(ticks[:12])
    assert graph.until(lambda: len(maps) > count and stamp_of(maps[-1]) > ticks[11])
    assert any(marker.action == 3 for array in markers for marker in array.markers)  # DELETEALL
    times = [stamp_of(entry) for entry in maps[count:]]
    assert times == sorted(times) and times[-1] < ticks[12]


def test_corrupt_images_do_not_stop_it(graph: Any, start_node: Any, rig_module: Any) -> None:
    graph.open_cameras()
    maps, diagnostics = graph.listen(*ELEMENTS), graph.listen(*DIAGNOSTICS)
    node = start_node(diagnostics__period=0.1)
    ticks = rig_module.ticks(24)
    graph.drive(ticks[:10], data=rig_module.jpeg(50)[:-20])
    assert graph.until(lambda: node.session.counts["rejected_image"] > 0)
    assert graph.until(lambda: "rejected_image" in tasks(diagnostics[-1])["cameras"].message)
    assert maps == []
    graph.drive(ticks[10:])
    assert graph.until(lambda: maps)


def test_the_burst_when_the_phases_are_known_is_mapped_in_full(
    graph: Any, start_node: Any, predictor: Any, rig_module: Any
) -> None:
    """Six sets at once while the first is at work for long; a newer one used to replace them."""
    graph.open_cameras()
    maps = graph.listen(*ELEMENTS)
    node = start_node(**{"sync.max_age": 10.0})
    held = Held(predictor)
    ticks = rig_module.ticks(8)
    graph.drive(ticks)
    assert graph.until(lambda: node.session._filter.synchronizer.statistics.complete == 8)
    held.release.set()
    assert graph.until(lambda: len(maps) == 8)
    assert [stamp_of(entry) for entry in maps] == [tick + rig_module.PHASES_NS["CAM_FRONT"] for tick in ticks]
    assert node.session.worker.statistics.superseded == 0


def test_a_slow_model_drops_sets_and_stays_at_the_newest(
    graph: Any, start_node: Any, predictor: Any, rig_module: Any
) -> None:
    graph.open_cameras()
    maps = graph.listen(*ELEMENTS)
    node = start_node()
    predictor.delay_s = 0.3
    ticks = rig_module.ticks(20)
    graph.drive(ticks)
    last = ticks[-1] + rig_module.PHASES_NS["CAM_FRONT"]
    assert graph.until(lambda: maps and stamp_of(maps[-1]) == last)
    superseded = node.session.worker.statistics.superseded
    assert superseded > 0
    assert len(maps) + superseded == 20


@dataclass
class Held:
    """A predictor that is at work from `begun` until the test sets `release`."""

    predictor: Any
    begun: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        complete = self.predictor.complete

        def held(observation: Any) -> Any:
            self.begun.set()
            assert self.release.wait(60)
            return complete(observation)

        self.predictor.complete = held


def test_shutdown_does_not_wait_for_a_slow_model(
    graph: Any, start_node: Any, predictor: Any, rig_module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes out of it later is dropped without a word: its publishers are gone."""
    graph.open_cameras()
    maps = graph.listen(*ELEMENTS)
    node = start_node()
    held = Held(predictor)
    logged: list[tuple[str, str]] = []
    monkeypatch.setattr(node, "log", lambda level, message: logged.append((level, message)))
    graph.drive(rig_module.ticks(8))
    assert graph.until(held.begun.is_set)
    worker = node.session.worker
    assert node.trigger_shutdown().name == "SUCCESS"
    assert (node.finalized, node.was_shut_down) == (True, True)
    assert ("warning", "the worker is still busy; its last map is lost") in logged
    held.release.set()
    assert worker.wait_idle(10.0)
    graph.spin(0.1)
    assert (maps, worker.statistics.failed) == ([], 0)
    assert "error" not in [level for level, _ in logged]


def test_a_map_from_before_a_restart_is_dropped(graph: Any, start_node: Any, predictor: Any, rig_module: Any) -> None:
    graph.open_cameras()
    maps = graph.listen(*ELEMENTS)
    session = start_node().session
    held = Held(predictor)
    graph.drive(rig_module.ticks(8))
    assert graph.until(held.begun.is_set)
    worker = session.worker
    session.stop(patience_s=0.0)
    session.start()
    held.release.set()
    assert worker.wait_idle(10.0)
    graph.spin(0.2)
    assert (maps, worker.statistics.done) == ([], 1)


def test_a_failing_model_deactivates_the_node(graph: Any, start_node: Any, predictor: Any, rig_module: Any) -> None:
    graph.open_cameras()
    graph.listen(*ELEMENTS)
    node = start_node(max_failures=2)
    predictor.fail = True
    graph.drive(rig_module.ticks(12))
    assert graph.until(lambda: node.session.worker is None)
    predictor.fail = False
    assert node.trigger_activate().name == "SUCCESS"


@pytest.mark.parametrize("min_cameras", [5, 6])
def test_one_odd_camera_stops_neither_node_nor_maps(
    graph: Any, start_node: Any, rig_module: Any, min_cameras: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CAM_BACK sends images of another shape than its CameraInfo, for good."""
    ok, tall = cv2.imencode(".jpg", np.zeros((160, 90, 3), np.uint8))
    assert ok
    graph.open_cameras()
    maps, diagnostics = graph.listen(*ELEMENTS), graph.listen(*DIAGNOSTICS)
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
    assert graph.until(lambda: "CAM_BACK: bad_calibration" in tasks(diagnostics[-1])["cameras"].message)
    assert len(said) == 1, "a reminder at most every five seconds"
    assert "camera CAM_BACK: the image has 90 x 160 pixels" in said[0]
    assert node.session.report()["problems"]["bad_calibration"]["cameras"]["CAM_BACK"] >= 3
    if min_cameras == 5:
        assert {entry.camera_mask for entry in maps} == {0b110111}
    monkeypatch.undo()
    count = len(maps)
    graph.drive(rig_module.ticks(30)[14:])
    assert graph.until(lambda: len(maps) > count and maps[-1].camera_mask == 0b111111)


def test_what_is_no_failure_of_the_network_does_not_deactivate(
    graph: Any, start_node: Any, rig_module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph.open_cameras()
    maps = graph.listen(*ELEMENTS)
    node = start_node(max_failures=2)

    def fail(*arguments: Any) -> None:
        raise RuntimeError("cannot be published")

    monkeypatch.setattr(node.session.output, "publish", fail)
    graph.drive(rig_module.ticks(12))
    assert graph.until(lambda: node.session.counts["failed"] > 3)
    assert not node.session.broken
    monkeypatch.undo()
    graph.drive(rig_module.ticks(20)[12:])
    assert graph.until(lambda: maps)


def test_a_lens_that_is_no_pinhole_is_told(
    graph: Any, start_node: Any, rig_module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph.open_cameras()
    maps, info = graph.listen(*ELEMENTS), type(graph.rig).info
    node = start_node()

    def fisheye(rig: Any, camera: str, stamp_ns: int, focal: float = 120.0) -> Any:
        message = info(rig, camera, stamp_ns, focal)
        message.distortion_model, message.d = "equidistant", [0.0] * 4
        return message

    monkeypatch.setattr(type(graph.rig), "info", fisheye)
    graph.drive(rig_module.ticks(12))
    assert graph.until(lambda: maps)
    assert node.session.report()["problems"]["distorted_lens"]["cameras"] == dict.fromkeys(rig_module.CAMERAS, 1)


def test_nobody_listens_nothing_is_computed(graph: Any, start_node: Any, predictor: Any, rig_module: Any) -> None:
    graph.open_cameras()
    node = start_node()
    graph.drive(rig_module.ticks(10))
    assert graph.until(lambda: node.session.counts["nobody_listens"] == 10)
    assert predictor.seen == []


def test_best_effort_cameras_are_heard(graph: Any, start_node: Any, rig_module: Any) -> None:
    from rclpy.qos import QoSProfile, ReliabilityPolicy

    graph.open_cameras(qos=QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT))
    maps = graph.listen(*ELEMENTS)
    start_node()
    graph.drive(rig_module.ticks(12))
    assert graph.until(lambda: maps)


def test_output_in_the_odometry_frame(graph: Any, start_node: Any, rig_module: Any) -> None:
    graph.open_cameras()
    maps = graph.listen(*ELEMENTS)
    start_node(output_frame="odom")
    ticks = rig_module.ticks(10)
    graph.drive(ticks)
    assert graph.until(lambda: maps)
    message = maps[-1]
    assert message.header.frame_id == "odom"
    travelled = rig_module.odom_from_base(stamp_of(message))[0, 3]
    assert message.elements[6].points[0].x == pytest.approx(5 + travelled, abs=1e-3)
    np.testing.assert_allclose([message.roi_min.x, message.roi_max.x], [travelled - 30, travelled + 30], atol=1e-3)


def test_services_enable_and_reset(graph: Any, start_node: Any, rig_module: Any) -> None:
    from std_srvs.srv import SetBool, Trigger

    graph.open_cameras()
    maps = graph.listen(*ELEMENTS)
    node = start_node()
    enable = graph.node.create_client(SetBool, "/online_map/enable")
    assert graph.until(enable.service_is_ready)
    answer = enable.call_async(SetBool.Request(data=False))
    assert graph.until(answer.done)
    graph.drive(rig_module.ticks(10))
    assert graph.until(lambda: node.session.counts["disabled"] == 10)
    assert maps == []
    reset = graph.node.create_client(Trigger, "/online_map/reset")
    assert graph.until(reset.service_is_ready)
    answer = reset.call_async(Trigger.Request())
    assert graph.until(answer.done)
    assert answer.result().success and node.session.counts["resets"] == 1


def test_lifecycle(graph: Any, start_node: Any, rig_module: Any) -> None:
    graph.open_cameras()
    maps = graph.listen(*ELEMENTS)
    node = start_node()
    graph.drive(rig_module.ticks(10))
    assert graph.until(lambda: maps)
    assert node.trigger_deactivate().name == "SUCCESS"
    assert not graph._images["CAM_BACK"][0].get_subscription_count()
    assert node.trigger_cleanup().name == "SUCCESS"
    assert node.trigger_configure().name == "SUCCESS"
    assert node.trigger_activate().name == "SUCCESS"
    assert graph.until(graph.matched)
    graph.spin(0.4)
    count = len(maps)
    graph.drive(rig_module.ticks(24)[12:])
    assert graph.until(lambda: len(maps) > count)
    assert node.trigger_shutdown().name == "SUCCESS"


def test_a_model_that_cannot_be_loaded_is_a_failure_that_can_be_mended(graph: Any, predictor: Any) -> None:
    from rclpy.parameter import Parameter

    from hdmap_core.errors import CheckpointError
    from hdmap_ros.online_map_node import FAILURE, SUCCESS, OnlineMapNode

    def load(config: Any) -> Any:
        if config.weights != "good":
            raise CheckpointError(f"no checkpoint at {config.weights}")
        return predictor

    overrides = [Parameter("model.weights", value="bad")]
    node = graph.add(OnlineMapNode(load, context=graph.context, parameter_overrides=overrides))
    assert node.trigger_configure() == FAILURE
    assert node.set_parameters([Parameter("model.weights", value="good")])[0].successful
    assert node.trigger_configure() == SUCCESS
    assert node.trigger_shutdown() == SUCCESS


def test_parameters_are_checked(graph: Any, start_node: Any) -> None:
    from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
    from rclpy.parameter import Parameter

    node = start_node()

    def refusal(name: str, value: Any) -> str:
        (result,) = node.set_parameters([Parameter(name, value=value)])
        assert not result.successful
        return result.reason

    assert "score_threshold" in refusal("score_threshold", 1.5)
    assert refusal("score_threshold", "high")
    assert "cleaned up" in refusal("sync.policy", "exact") or "clean" in refusal("sync.policy", "exact")
    assert "none of cycle, approximate, exact" in refusal("sync.policy", "magic")
    assert node.set_parameters([Parameter("score_threshold", value=0.25)])[0].successful
    assert node.config.score_threshold == 0.25
    with pytest.raises((InvalidParameterValueException, InvalidParameterTypeException)):
        start_node(activate=False, sync__timeout=7.0)


def as_dumped(node: Any) -> list[Any]:
    """Every parameter of a node as the service that `ros2 param load` calls takes it."""
    return [node.get_parameter(name).to_parameter_msg() for name in sorted(node._parameters)]


def test_loading_back_a_dump_is_no_error(graph: Any, start_node: Any) -> None:
    from rcl_interfaces.srv import SetParameters

    node = start_node(cameras__CAM_BACK__image_topic="/rear/image", sync__timeout=0.1)
    client = graph.node.create_client(SetParameters, "/online_map/set_parameters")
    assert graph.until(client.service_is_ready)

    def load(parameters: list[Any]) -> dict[str, str]:
        answer = client.call_async(SetParameters.Request(parameters=parameters))
        assert graph.until(answer.done)
        results = zip(parameters, answer.result().results, strict=True)
        return {parameter.name: result.reason for parameter, result in results if not result.successful}

    dump = as_dumped(node)
    names = {parameter.name for parameter in dump}
    assert {"use_sim_time", "cameras.CAM_BACK.image_topic", "camera_names"} < names
    assert any(name.startswith("qos_overrides.") for name in names), "read-only ones are among them"
    assert load(dump) == {}
    changed = {parameter.name: parameter for parameter in as_dumped(node)}
    changed["cameras.CAM_BACK.image_topic"].value.string_value = "/other"
    changed["sync.timeout"].value.double_value = 0.2
    changed["score_threshold"].value.double_value = 0.4
    refused = load(list(changed.values()))
    assert set(refused) == {"cameras.CAM_BACK.image_topic", "sync.timeout"}
    assert all("is read when the node is configured; clean the node up first" in why for why in refused.values())
    assert node.config.score_threshold == 0.4


def test_cameras_can_be_set_before_the_node_is_configured(graph: Any, start_node: Any) -> None:
    from rclpy.parameter import Parameter

    node = start_node(activate=False)
    assert node.set_parameters([Parameter("camera_names", value=["LEFT", "CAM_FRONT"])])[0].successful
    topic = Parameter("cameras.LEFT.image_topic", value="/left/image")
    assert node.set_parameters([topic])[0].successful
    assert node.trigger_configure().name == "SUCCESS"
    assert node.session.inputs.topics() == {"LEFT": "/left/image", "CAM_FRONT": "cam_front/image_raw/compressed"}
    assert not node.set_parameters([Parameter("cameras.LEFT.frame_id", value="left")])[0].successful
    assert node.trigger_cleanup().name == "SUCCESS"
    assert node.set_parameters([Parameter("cameras.LEFT.frame_id", value="left")])[0].successful


def test_a_tilde_in_a_path_is_the_home_folder(start_node: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    node = start_node(report_file="~/report.json", model__weights="~/none")
    assert node.config.weights == str(tmp_path / "none")
    assert node.get_parameter("report_file").value == "~/report.json"
    assert node.trigger_deactivate().name == "SUCCESS"
    assert json.loads((tmp_path / "report.json").read_text())["device"] == "cpu"


def test_a_report_that_cannot_be_written_keeps_no_node_active(start_node: Any, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    node = start_node(report_file=str(tmp_path / "file" / "report.json"))
    assert node.trigger_deactivate().name == "SUCCESS"
    assert node.session.worker is None


def test_diagnostics_name_the_device_that_is_used(graph: Any, start_node: Any) -> None:
    diagnostics = graph.listen(*DIAGNOSTICS)
    start_node(diagnostics__period=0.1, model__device="auto")
    assert graph.until(lambda: diagnostics)
    values = {pair.key: pair.value for pair in tasks(diagnostics[-1])["model"].values}
    assert values["device"] == "cpu"


@pytest.mark.parametrize(("stagger", "level"), [(True, b"\x01"), (False, b"\x00")])
def test_the_policy_exact_on_staggered_cameras_warns(
    graph: Any, start_node: Any, rig_module: Any, monkeypatch: pytest.MonkeyPatch, stagger: bool, level: bytes
) -> None:
    pytest.importorskip("message_filters", reason="comes with a sourced ROS, not with the wheels")
    if not stagger:
        monkeypatch.setattr(rig_module, "PHASES_NS", dict.fromkeys(rig_module.CAMERAS, 0))
    graph.open_cameras()
    graph.listen(*ELEMENTS)
    diagnostics = graph.listen(*DIAGNOSTICS)
    node = start_node(sync__policy="exact", diagnostics__period=0.1)
    graph.drive(rig_module.ticks(30))
    assert graph.until(lambda: min(node.session.inputs.received.values()) >= 25)
    diagnostics.clear()
    assert graph.until(lambda: diagnostics)
    status = tasks(diagnostics[-1])["synchronisation"]
    assert status.level == level
    assert ("use sync.policy cycle" in status.message) == stagger


def test_sync_policy_that_is_not_installed_is_a_failure(graph: Any, start_node: Any) -> None:
    from hdmap_ros.online_map_node import FAILURE, SUCCESS

    node = start_node(activate=False, sync__policy="approximate")
    try:
        import message_filters  # noqa: F401
    except ImportError:
        assert node.trigger_configure() == FAILURE
    else:
        assert node.trigger_configure() == SUCCESS


def test_a_model_that_needs_an_sd_map_is_refused(sd_checkpoint: Path) -> None:
    """No graph is needed for that."""
    pytest.importorskip("rclpy", reason="the node needs rclpy; run make setup")
    from hdmap_core.errors import ConfigError
    from hdmap_ros.node_config import OnlineMapConfig
    from hdmap_ros.online_map_node import load_model

    with pytest.raises(ConfigError, match="looks at an SD map as well, but here are only cameras"):
        load_model(OnlineMapConfig(weights=str(sd_checkpoint), device="cpu"))


def test_the_next_set_is_decoded_while_one_is_in_the_network(
    graph: Any, start_node: Any, predictor: Any, rig_module: Any
) -> None:
    """And both come out, in order."""
    graph.open_cameras()
    maps = graph.listen(*ELEMENTS)
    start_node()
    held, prepare, prepared = Held(predictor), predictor.prepare, []

    def noted(observation: Any, pool: Any) -> Any:
        prepared.append(observation.stamp_ns)
        return prepare(observation, pool)

    predictor.prepare = noted
    graph.drive(rig_module.ticks(8))
    assert graph.until(lambda: len(prepared) == 2)
    assert held.begun.is_set() and maps == []
    held.release.set()
    assert graph.until(lambda: len(maps) > 2)
    stamps = [stamp_of(entry) for entry in maps]
    assert stamps[:2] == prepared[:2] and stamps == sorted(stamps)
