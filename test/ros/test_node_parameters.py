"""The node's parameters in a real ROS graph."""

import json
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.ros


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
    fresh = start_node(activate=False)
    (result,) = fresh.set_parameters([Parameter("cameras.CAM_BACK.projection", value="rectified")])
    assert (result.successful, result.reason) == (
        False,
        "parameter cameras.CAM_BACK.projection: 'rectified' is none of auto, k, p",
    )
    for value in ("p", ""):
        assert fresh.set_parameters([Parameter("cameras.CAM_BACK.projection", value=value)])[0].successful
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


def test_model_info_follows_the_threshold_and_stays_in_the_cars_frame(graph: Any, start_node: Any) -> None:
    from rclpy.parameter import Parameter

    infos = graph.listen("hdmap_ros/msg/MapModelInfo", "/online_map/output/model_info")
    node = start_node(output_frame="odom")
    assert graph.until(lambda: infos)
    assert (infos[-1].header.frame_id, infos[-1].roi_min.x) == ("base_link", -30.0)
    node.set_parameters([Parameter("score_threshold", value=0.5)])
    assert graph.until(lambda: list(infos[-1].score_thresholds) == [0.5, 0.5])
