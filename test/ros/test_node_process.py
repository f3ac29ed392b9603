"""The node as a process of its own: killed and started again under load; what it writes, and where it connects to."""

import json
import os
import signal
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="the ROS graph needs rclpy; run make setup")
pytestmark = pytest.mark.ros

HERE = Path(__file__).parent
STAND_IN = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("conftest", {conftest!r})
module = sys.modules["conftest"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
from hdmap_ros import online_map_node
online_map_node.run(lambda config: module.RigLines())
"""
# Notes every file that Python opens to write, moves or removes, and every socket that leads somewhere.
AUDITED = """
import json, os, sys
notes = {notes!r}
NOTED = ("os.rename", "os.remove", "os.link", "os.symlink", "socket.connect", "socket.bind", "socket.sendto",
         "socket.getaddrinfo", "urllib.Request")
file = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

def hook(event, arguments):
    writes = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    if writes or event in NOTED:
        os.write(file, (json.dumps([event, *map(str, arguments)]) + "\\n").encode())

sys.addaudithook(hook)
from hdmap_ros import online_map_node
online_map_node.main()
"""


@pytest.fixture
def traffic(faults: ModuleType, graph: Any, rig_module: Any) -> Any:
    return faults.Traffic(graph, rig_module, faults.FaultyPredictor(rig_module.RigLines()))


def node_in(program: str, *parameters: str) -> list[str]:
    """The command of a node that this program runs."""
    return [sys.executable, "-c", program, "--ros-args", *(word for entry in parameters for word in ("-p", entry))]


def test_killed_and_started_again_under_load(traffic: Any, start_process: Any) -> None:
    program = STAND_IN.format(conftest=str(HERE / "conftest.py"))
    for _ in range(2):
        traffic.mark()
        process = start_process(*node_in(program))
        assert traffic.until(traffic.at_full_rate, most=1500) is not None
        process.send_signal(signal.SIGKILL)  # amid the images
        for _ in range(3):
            traffic.cycle()
        assert process.wait(30) == -signal.SIGKILL
    assert traffic.wrong_maps() == []


def test_it_writes_its_log_and_its_report_and_connects_to_nobody(
    traffic: Any, start_process: Any, tmp_path: Path
) -> None:
    """The shipped student in the real node. What DDS does beneath Python is ROS's own network, not the node's."""
    home, log, notes, report = (tmp_path / name for name in ("home", "log", "notes", "out"))
    for folder in (home, log, report):
        folder.mkdir()
    places = {"HOME": home, "TMPDIR": home, "ROS_LOG_DIR": log, "XDG_CACHE_HOME": home / "cache"}
    hidden = ("_ROS_WHEELS_BOOTSTRAP_COMPLETE", "PYTHONDONTWRITEBYTECODE")
    kept = {name: value for name, value in os.environ.items() if name not in hidden}
    environment = kept | {name: str(path) for name, path in places.items()} | {"PYTHONDONTWRITEBYTECODE": "1"}
    parameters = [f"report_file:={report / 'report.json'}", "model.device:=cpu", "model.warmup_iterations:=1"]
    process = start_process(*node_in(AUDITED.format(notes=str(notes)), *parameters), env=environment, cwd=home)
    assert traffic.until(lambda: traffic.maps, most=1500) is not None
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    assert json.loads((report / "report.json").read_text())["published"] >= 1
    events = [json.loads(line) for line in notes.read_text().splitlines()]
    written = {Path(event[1]) for event in events if event[0] == "open"}
    written = {path for path in written if not path.is_relative_to(log)}
    probes = {path for path in written if path.parent == home}  # Python asks whether TMPDIR can be written to
    assert written - probes - {Path("/dev/null")} == {report / "report.json.part"}
    elsewhere = [event for event in events if event[0] != "open" and Path(event[1]) not in probes]
    assert [event for event in elsewhere if event[0] != "os.rename"] == []
    assert [event[1:3] for event in elsewhere] == [[str(report / "report.json.part"), str(report / "report.json")]]
    assert [path for path in home.rglob("*") if not path.name.startswith("torchinductor_")] == []
    assert [*report.iterdir()] == [report / "report.json"]
