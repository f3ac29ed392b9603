"""The node's life cycle in a real ROS graph: what it does when it starts, stops, fails, or is told to."""

import gc
import json
import resource
import threading
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.ros

LOSE_NOTHING = {"input_qos.depth": 10, "sync.timeout": 1.0, "sync.max_age": 10.0}
"""For what counts sets: on a busy machine the executor comes to the images late."""


def test_lifecycle(graph: Any, start_node: Any, rig_module: Any) -> None:
    graph.open_cameras()
    maps = graph.listen_to_maps()
    node = start_node()
    graph.drive(rig_module.ticks(10))
    assert graph.until(lambda: maps)
    assert node.trigger_deactivate().name == "SUCCESS"
    assert graph.until(lambda: not graph._images["CAM_BACK"][0].get_subscription_count())
    assert node.trigger_cleanup().name == "SUCCESS"
    assert node.trigger_configure().name == "SUCCESS"
    assert node.trigger_activate().name == "SUCCESS"
    assert graph.until(graph.matched)
    count = len(maps)
    graph.drive(rig_module.ticks(24)[12:])
    assert graph.until(lambda: len(maps) > count)
    assert node.trigger_shutdown().name == "SUCCESS"


def test_what_had_come_before_the_node_was_closed_is_ignored(graph: Any, start_node: Any, rig_module: Any) -> None:
    """An executor may hand it on all the same: to subscriptions that are destroyed."""
    graph.open_cameras()
    maps = graph.listen_to_maps()
    node = start_node(**LOSE_NOTHING)
    graph.drive(rig_module.ticks(10))
    assert graph.until(lambda: len(maps) == 10)
    graph.drive(rig_module.ticks(14)[10:], pause_s=-1.0)
    assert node.trigger_deactivate().name == "SUCCESS"
    assert node.trigger_cleanup().name == "SUCCESS"
    graph.spin(0.3)
    assert len(maps) == 10


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


def test_shutdown_does_not_wait_for_a_slow_model(
    graph: Any, start_node: Any, predictor: Any, rig_module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes out of it later is dropped without a word: its publishers are gone."""
    graph.open_cameras()
    maps = graph.listen_to_maps()
    node = start_node()
    predictor.release.clear()
    logged: list[tuple[str, str]] = []
    monkeypatch.setattr(node, "log", lambda level, message: logged.append((level, message)))
    graph.drive(rig_module.ticks(8))
    assert graph.until(predictor.begun.is_set)
    worker = node.session.worker
    assert node.trigger_shutdown().name == "SUCCESS"
    assert (node.finalized, node.was_shut_down) == (True, True)
    assert ("warning", "the worker is still busy; its last map is lost") in logged
    predictor.release.set()
    assert worker.wait_idle(10.0)
    graph.spin(0.1)
    assert (maps, worker.statistics.failed) == ([], 0)
    assert "error" not in [level for level, _ in logged]


def test_a_map_from_before_a_restart_is_dropped(graph: Any, start_node: Any, predictor: Any, rig_module: Any) -> None:
    graph.open_cameras()
    maps = graph.listen_to_maps()
    session = start_node().session
    predictor.release.clear()
    graph.drive(rig_module.ticks(8))
    assert graph.until(predictor.begun.is_set)
    worker = session.worker
    session.stop(patience_s=0.0)
    session.start()
    predictor.release.set()
    assert worker.wait_idle(10.0)
    graph.spin(0.2)
    assert (maps, worker.statistics.done) == ([], 1)


def test_a_map_in_work_during_a_reset_is_forgotten(
    graph: Any, start_node: Any, predictor: Any, rig_module: Any
) -> None:
    """It belongs to the drive before: nothing of it is sent, drawn, numbered or fused."""
    graph.open_cameras()
    maps = graph.listen_to_maps()
    session = start_node(sync__max_age=0.0).session
    predictor.release.clear()
    graph.drive(rig_module.ticks(8))
    assert graph.until(predictor.begun.is_set)
    session.reset("test")
    predictor.release.set()
    assert session.worker.wait_idle(10.0)
    graph.spin(0.2)
    assert (maps, session.counts["forgotten"], session.local_map.memory.fused()) == ([], 1, None)


def test_a_fused_map_that_is_traced_while_the_node_stops_is_not_sent(
    graph: Any, start_node: Any, rig_module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its publisher is gone when it is ready."""
    graph.open_cameras()
    graph.listen_to_maps()
    node = start_node(local_map__period=0.0, sync__max_age=0.0)
    session, begun, release = node.session, threading.Event(), threading.Event()
    memory, sent = session.local_map.memory, session.local_map.published
    fused = memory.fused

    def slow() -> Any:
        found = fused()
        begun.set()
        assert release.wait(60)
        return found

    monkeypatch.setattr(memory, "fused", slow)
    graph.drive(rig_module.ticks(8))
    assert graph.until(begun.is_set)
    worker = session.worker
    session.stop(patience_s=0.0)
    assert node.trigger_deactivate().name == node.trigger_cleanup().name == "SUCCESS"
    release.set()
    assert worker.wait_idle(10.0)
    assert (session.local_map.published, worker.statistics.failed) == (sent, 0)


def test_counts_add_up_over_several_activations(
    graph: Any, start_node: Any, predictor: Any, rig_module: Any, tmp_path: Path
) -> None:
    graph.open_cameras()
    maps = graph.listen_to_maps()
    node = start_node(report_file=str(tmp_path / "report.json"), sync__max_age=0.0)
    predictor.delay_s = 0.1  # sets are superseded
    for begin in (0, 20):
        graph.drive(rig_module.ticks(40)[begin : begin + 20])
        assert graph.until(lambda: node.session.worker.wait_idle(0.0))
        assert node.trigger_deactivate().name == "SUCCESS"
        report = json.loads((tmp_path / "report.json").read_text())
        assert report["published"] + sum(report["dropped"].values()) == report["sets"]
        assert node.trigger_activate().name == "SUCCESS"
        assert graph.until(graph.matched)
    assert graph.until(lambda: report["published"] == maps[-1].sequence + 1), "the last one is on its way"
    assert report["published"] > report["published_since_active"] > 0


def test_a_node_that_is_destroyed_while_active_leaves_no_threads(graph: Any, start_node: Any, rig_module: Any) -> None:
    graph.open_cameras()
    maps, before = graph.listen_to_maps(), {*threading.enumerate()}
    node = start_node()
    graph.drive(rig_module.ticks(8))
    assert graph.until(lambda: maps)
    graph.executor.remove_node(node)
    graph.nodes.remove(node)
    node.destroy_node()
    assert graph.until(lambda: {*threading.enumerate()} <= before)


def test_a_failing_model_deactivates_the_node(graph: Any, start_node: Any, predictor: Any, rig_module: Any) -> None:
    graph.open_cameras()
    graph.listen_to_maps()
    node = start_node(max_failures=2)
    predictor.fail = True
    graph.drive(rig_module.ticks(12))
    assert graph.until(lambda: node.session.worker is None)
    predictor.fail = False
    assert node.trigger_activate().name == "SUCCESS"


def test_what_is_no_failure_of_the_network_does_not_deactivate(
    graph: Any, start_node: Any, rig_module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph.open_cameras()
    maps = graph.listen_to_maps()
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


def test_services_enable_and_reset(graph: Any, start_node: Any, rig_module: Any) -> None:
    from std_srvs.srv import SetBool, Trigger

    graph.open_cameras()
    maps = graph.listen_to_maps()
    node = start_node(**LOSE_NOTHING)
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


def test_a_report_that_cannot_be_written_keeps_no_node_active(start_node: Any, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    node = start_node(report_file=str(tmp_path / "file" / "report.json"))
    assert node.trigger_deactivate().name == "SUCCESS"
    assert node.session.worker is None


def test_a_hundred_life_cycles_leave_nothing_behind(graph: Any, start_node: Any, rig_module: Any) -> None:
    """Threads, files, ends in the graph; of the memory what grows after the first forty."""

    def held() -> dict[str, int]:
        ends = {"publishers": node.publishers, "subscriptions": node.subscriptions, "services": node.services}
        counts = {name: len([*entries]) for name, entries in {**ends, "timers": node.timers}.items()}
        return counts | {"threads": len(new_threads()), "files": len([*Path("/proc/self/fd").iterdir()])}

    def new_threads() -> set[threading.Thread]:
        return {*threading.enumerate()} - others  # those of other tests may end meanwhile

    def new_workers() -> list[threading.Thread]:
        return [each for each in new_threads() if "online_map" in each.name]

    def resident_mib() -> float:
        gc.collect()
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20

    graph.open_cameras()
    graph.listen_to_maps()
    node = start_node(activate=False)
    others = {*threading.enumerate()}
    ticks = rig_module.ticks(100)
    before, after, mib = {}, {}, {}
    for index in range(100):
        assert node.trigger_configure().name == "SUCCESS"
        assert node.trigger_activate().name == "SUCCESS"
        graph.drive([ticks[index]], pause_s=0.001)
        assert node.trigger_deactivate().name == "SUCCESS"
        assert node.trigger_cleanup().name == "SUCCESS"
        if index in (4, 39, 99):
            assert graph.until(lambda: not new_workers())
            after, mib[index] = held(), resident_mib()
            before = before or after
    assert after["files"] <= before["files"] + 2, "Fast DDS opens a port when a listener comes"
    assert after | {"files": 0} == before | {"files": 0}
    assert mib[99] - mib[39] < 16, mib
