"""Separate processes in one graph: player, node, recorder; and how the node's process ends."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hdmap_ros.bag.mcap import open_bag
from hdmap_ros.bag.write import write_bag

pytest.importorskip("rclpy", reason="the ROS graph needs rclpy; run make setup")
pytestmark = pytest.mark.ros

ELEMENTS = "/online_map/output/map_elements"
NODE = """
import sys
sys.path.insert(0, {folder!r})
import importlib.util
spec = importlib.util.spec_from_file_location("rig", {conftest!r})
rig = importlib.util.module_from_spec(spec)
sys.modules["rig"] = rig
spec.loader.exec_module(rig)
from hdmap_ros.online_map_node import run
sys.exit(run(lambda config: rig.RigLines()))
"""


@contextmanager
def process(*command: str) -> Iterator[subprocess.Popen[str]]:
    environment = {name: value for name, value in os.environ.items() if name != "_ROS_WHEELS_BOOTSTRAP_COMPLETE"}
    started = subprocess.Popen(
        [sys.executable, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**environment, "PYTHONUNBUFFERED": "1"},
    )
    try:
        yield started
    finally:
        if started.poll() is None:
            started.kill()
            started.wait()


def wait_for_line(started: subprocess.Popen[str], text: str) -> None:
    assert started.stdout is not None
    for line in started.stdout:
        if text in line:
            return
    pytest.fail(f"the process ended without saying {text!r}")


def end(started: subprocess.Popen[str]) -> tuple[int, str]:
    started.send_signal(signal.SIGINT)
    output, _ = started.communicate(timeout=30)
    return started.returncode, output


def test_bag_to_player_to_node_to_recorder(rig_nuscenes: Path, tmp_path: Path) -> None:
    write_bag(rig_nuscenes, "scene-0001", tmp_path / "drive.mcap")
    conftest = Path(__file__).parents[1] / "conftest.py"
    script = tmp_path / "node.py"
    script.write_text(NODE.format(folder=str(conftest.parents[2]), conftest=str(conftest)))
    topics = [
        f"{ELEMENTS}:hdmap_ros/msg/MapElementArray",
        "/online_map/output/markers:visualization_msgs/msg/MarkerArray",
        "/online_map/output/model_info:hdmap_ros/msg/MapModelInfo",
        "/diagnostics:diagnostic_msgs/msg/DiagnosticArray",
        "/parameter_events:rcl_interfaces/msg/ParameterEvent",
        "/tf_static:tf2_msgs/msg/TFMessage",
    ]
    report_file = tmp_path / "report.json"
    arguments = ["--ros-args", "-p", f"report_file:={report_file}", "-p", "sync.max_age:=5.0"]
    map_file = tmp_path / "map.mcap"
    with (
        process("-m", "hdmap_ros.bag.recorder", "-o", str(map_file), *topics) as recorder,
        process(str(script), *arguments) as node,
    ):
        wait_for_line(node, "online_map active")
        player = ["-m", "hdmap_ros.bag.player", str(tmp_path / "drive.mcap"), "--clock", "50"]
        with process(*player) as playing:
            output, _ = playing.communicate(timeout=60)
        assert playing.returncode == 0, output
        played = json.loads(output.splitlines()[-1])
        time.sleep(2.0)  # the phases are learnt from silence when the bag is this short
        code, output = end(node)
        assert code == 0, output
        code, output = end(recorder)
        assert code == 0, output
    assert played["played"]["/cam_back/image_raw/compressed"] == 8
    report = json.loads(report_file.read_text())
    recorded = json.loads(output.splitlines()[-1])["recorded"]
    assert report["published"] == recorded[ELEMENTS] > 0
    assert report["published"] + sum(report["dropped"].values()) == report["synchroniser"]["complete"]
    with open_bag(map_file) as bag:
        arrays = list(bag.messages(lambda topic: topic == ELEMENTS))
        assert bag.counts["/online_map/output/model_info"] == bag.counts["/tf_static"] == 1
        assert bag.counts["/diagnostics"] > 0
        with open_bag(tmp_path / "drive.mcap") as drive:
            assert drive.start_ns <= bag.start_ns <= bag.end_ns <= drive.end_ns, "one clock, the bag's"
    for _, log_ns, array in arrays:
        assert log_ns == array.header.stamp.sec * 10**9 + array.header.stamp.nanosec
        assert len(array.elements) == 7


@pytest.mark.parametrize(
    ("argument", "reason"),
    [
        ("model.weights:=/nowhere/model.safetensors", "/nowhere/model.safetensors"),
        ("sync.timeout:=9.0", "sync.timeout"),
    ],
)
def test_a_node_that_cannot_start_says_why(argument: str, reason: str) -> None:
    with process("-m", "hdmap_ros.online_map_node", "--ros-args", "-p", argument) as node:
        output, _ = node.communicate(timeout=60)
    assert node.returncode == 1
    assert reason in output
    assert "Traceback" not in output


def run(*command: str) -> tuple[int, str]:
    with process(*command) as started:
        output, _ = started.communicate(timeout=60)
    return started.returncode, output


def test_a_player_without_listeners(rig_nuscenes: Path, tmp_path: Path) -> None:
    write_bag(rig_nuscenes, "scene-0001", tmp_path / "drive.mcap", keyframes_only=True)
    code, output = run("-m", "hdmap_ros.bag.player", str(tmp_path / "drive.mcap"), "--wait", "0.2")
    assert code == 2
    assert "nobody listened to /cam_back/image_raw/compressed" in output
    assert "Traceback" not in output


def test_a_player_says_what_is_no_bag(tmp_path: Path) -> None:
    path = tmp_path / "drive.bag"
    path.write_bytes(b"#ROSBAG V2.0\n" + bytes(99))
    code, output = run("-m", "hdmap_ros.bag.player", str(path))
    assert code == 2
    assert f"error: {path} is a ROS 1 bag; run rosbags-convert --src" in output
    assert "Traceback" not in output


def test_a_recorder_with_a_wrong_type(tmp_path: Path) -> None:
    code, output = run("-m", "hdmap_ros.bag.recorder", "-o", str(tmp_path / "a.mcap"), "/a:no_such/msg/Thing")
    assert code == 2
    assert "no_such/msg/Thing is not installed" in output
    assert list(tmp_path.iterdir()) == []


def test_stamps_in_cdr_bytes(bag_rig: Any) -> None:
    from hdmap_ros.bag.recorder import stamp_of
    from hdmap_ros.message_types import bag_types

    _, store = bag_types()
    stamp = 1_700_000_000_123_456_789
    image = bytes(store.serialize_cdr(bag_rig.image("CAM_BACK", stamp), "sensor_msgs/msg/CompressedImage"))
    assert stamp_of("sensor_msgs/msg/CompressedImage", image) == stamp
    tf = bytes(store.serialize_cdr(bag_rig.tf(stamp), "tf2_msgs/msg/TFMessage"))
    assert stamp_of("tf2_msgs/msg/TFMessage", tf) == 0
