"""How a node's process ends: by signals at any time, by the transition `shutdown`, and without a traceback."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hdmap_ros.stop_signals import Stopped, beside

# Hooks that a process of a test runs before anything else.
SIGNAL_AT_IMPORT = """
import os, runpy, signal, sys, time

class AtImport:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), {number})
            time.sleep(3600)

sys.meta_path.insert(0, AtImport())
sys.argv = ["online_map_node", "--ros-args", "-p", "model.warmup_iterations:=0"]
runpy.run_module("hdmap_ros.online_map_node", run_name="__main__", alter_sys=True)
"""
QUICK_NODE = """
import atexit, types
from hdmap_core.geometry import BEVGrid
from hdmap_ros import online_map_node as module

names = ("model_name", "model_id", "weights_sha256", "dataset", "precision", "engine", "engine_why")
words = dict.fromkeys(names, "quick")
numbers = {"points_per_element": 0, "score_threshold": 0.0, "image_size": None, "grid": BEVGrid()}
info = types.SimpleNamespace(**words, **numbers, classes=(), camera_names=(), device="cpu")
atexit.register(print, "the interpreter was torn down")
module.load_model = lambda config: types.SimpleNamespace(info=info)
module.main()
"""


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "_ROS_WHEELS_BOOTSTRAP_COMPLETE"}
    # Not that of this process, in which nodes of other tests may have the same name.
    domain = {"ROS_DOMAIN_ID": str(20 + os.getpid() % 80), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    return kept | domain | {"PYTHONUNBUFFERED": "1"}


def test_the_result_of_work_beside() -> None:
    assert beside(lambda: threading.current_thread() is threading.main_thread(), lambda: False) is False
    with pytest.raises(ZeroDivisionError):
        beside(lambda: 1 / 0, lambda: False)


def test_work_is_left_when_a_signal_has_come() -> None:
    release = threading.Event()
    try:
        with pytest.raises(Stopped):
            beside(release.wait, lambda: [signal.SIGINT])
    finally:
        release.set()


@pytest.mark.ros
@pytest.mark.parametrize(
    ("module", "number"),
    [("rclpy", signal.SIGINT), ("cv2", signal.SIGTERM), ("hdmap_core.inference", signal.SIGINT)],
)
def test_a_signal_while_it_imports_or_loads(module: str, number: signal.Signals) -> None:
    """The last one is imported while the node loads its model. An import that never ends stands for a slow one."""
    pytest.importorskip("rclpy", reason="the node needs rclpy; run make setup")
    program = SIGNAL_AT_IMPORT.format(module=module, number=int(number))
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, env=environment(), check=False
    )
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr


@pytest.fixture
def quick_node(start_process: Callable[..., Any]) -> Callable[..., Any]:
    """Starts processes of the real node with a model that needs no loading."""
    pytest.importorskip("rclpy", reason="the node needs rclpy; run make setup")
    words = (sys.executable, "-c", QUICK_NODE, "--ros-args", "-p", "model.warmup_iterations:=0")
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return lambda *arguments: start_process(*words, *arguments, **streams, env=environment())


def until(process: subprocess.Popen[str], text: str) -> str:
    """What the process says up to a line with the text."""
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if text in line:
            return said
    raise AssertionError(f"ended with {process.wait()} before it said {text!r}: {said}")


@pytest.mark.ros
def test_a_signal_ends_the_running_node(quick_node: Callable[..., Any], tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    process = quick_node("-p", f"report_file:={report}")
    until(process, "online_map active")
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)  # an impatient launch
    rest = process.communicate(timeout=60)[0]
    assert process.returncode == 0
    assert "Traceback" not in rest
    assert "torn down" not in rest, "that takes seconds of CPU once torch is loaded"
    assert '"device": "cpu"' in report.read_text()


@pytest.mark.ros
def test_a_finalized_node_ends_and_a_wrong_transition_does_not(quick_node: Callable[..., Any]) -> None:
    process = quick_node("-p", "autostart:=false")
    code = """
import rclpy, sys
from lifecycle_msgs.srv import ChangeState
from lifecycle_msgs.msg import Transition
rclpy.init()
node = rclpy.create_node("manager")
client = node.create_client(ChangeState, "/online_map/change_state")
assert client.wait_for_service(60)
for transition in (Transition.TRANSITION_ACTIVATE, Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_CONFIGURE,
                   Transition.TRANSITION_INACTIVE_SHUTDOWN):
    answer = client.call_async(ChangeState.Request(transition=Transition(id=transition)))
    rclpy.spin_until_future_complete(node, answer, timeout_sec=60)
    print(answer.result().success)
"""
    manager = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env=environment(), check=False
    )
    assert manager.stdout.split() == ["False", "True", "False", "True"], manager.stderr
    rest = process.communicate(timeout=60)[0]
    assert (process.returncode, "Traceback" in rest) == (0, False), rest


@pytest.mark.ros
def test_a_node_that_cannot_start_says_so_and_ends_with_1(quick_node: Callable[..., Any]) -> None:
    process = quick_node("--params-file", "/absent.yaml")
    rest = process.communicate(timeout=60)[0]
    assert (process.returncode, "Traceback" in rest) == (1, False), rest
    assert "/absent.yaml" in rest
