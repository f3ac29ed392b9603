"""What this machine has: the answers are compared with what is installed here, and with what is taken away."""

import json
from importlib.metadata import version

import pytest
import torch

from hdmap_core import doctor
from hdmap_core.required_packages import EXTRAS, REQUIREMENTS


def findings(ended) -> dict[str, dict[str, object]]:
    return {finding["name"]: finding for finding in json.loads(ended.out)["findings"]}


def test_here_the_node_can_run(hdmap) -> None:
    ended = hdmap("doctor", "--json")
    assert ended.code == 0, ended.out
    found = findings(ended)
    assert json.loads(ended.out)["node_can_run"] is True
    assert found["torch"]["detail"] == version("torch")
    assert found["CUDA"]["ok"] is torch.cuda.is_available()
    assert {f"extra {name}" for name in EXTRAS} <= found.keys() and "extra view" in found
    assert {"Python", "hdmap_ros", "disk", "onnxruntime", "openvino", "tensorrt"} <= found.keys()
    assert {"rclpy", "hdmap_ros/msg/MapElementArray", "cv_bridge", "message_filters", "rviz2"} <= found.keys()
    assert "the node can run" in hdmap("doctor").out


@pytest.mark.parametrize("broken", [False, True], ids=["absent", "broken"])
def test_what_is_missing_is_named_with_its_remedy(hdmap, monkeypatch: pytest.MonkeyPatch, tmp_path, broken) -> None:
    if broken:
        (tmp_path / "no_such_module.py").write_text("raise OSError('built for another NumPy')")
        monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(REQUIREMENTS, "no_such_module", "no-such-package>=2.0")
    monkeypatch.delenv("ROS_DISTRO", raising=False)  # under colcon it is there and the advice has constraints
    ended = hdmap("doctor", "--json")
    assert ended.code == 1
    finding = findings(ended)["no_such_module"]
    assert (finding["ok"], finding["advice"]) == (False, "python3 -m pip install 'no-such-package>=2.0'")
    assert ("another NumPy" in str(finding["detail"])) is broken
    assert "the node cannot run: no_such_module" in hdmap("doctor").out


@pytest.mark.parametrize("distribution", ["", "jazzy"])
def test_an_engine_that_is_not_here_comes_like_any_package(hdmap, monkeypatch, distribution: str) -> None:
    monkeypatch.setenv("ROS_DISTRO", distribution)
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    found = findings(hdmap("doctor", "--json"))
    constraints = "-c src/hdmap_ros/constraints-jazzy.txt " if distribution else ""
    for extra, engine in (("export", "onnxruntime"), ("openvino", "openvino")):
        package = EXTRAS[extra][engine]
        assert found[engine]["ok"] is False
        assert found[engine]["advice"] == f"python3 -m pip install {constraints}'{package}'"


def test_a_part_that_cannot_look_does_not_stop_the_others(hdmap, monkeypatch: pytest.MonkeyPatch) -> None:
    def look() -> None:
        raise ModuleNotFoundError("No module named 'torch'")

    monkeypatch.setattr(doctor, "look", look)
    ended = hdmap("doctor", "--json")
    found = findings(ended)
    assert ended.code == 1 and "No module named 'torch'" in str(found["part core"]["detail"]) and "rclpy" in found
