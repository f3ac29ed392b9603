"""The node as a user who may do nothing: it needs no root, no home folder, and leaves only its log and its report."""

import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="the ROS graph needs rclpy; run make setup")
pytestmark = [
    pytest.mark.ros,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="root needs setpriv to be less"),
]

NOBODY = 54321 if os.geteuid() == 0 else os.geteuid()
"""A number without a name, as containers have them."""


def is_open(path: str) -> bool:
    """Whether everybody may go there."""
    return all(folder.stat().st_mode & 0o001 for folder in Path(path).resolve().parents)


# None of root's capabilities is left to it. But where Python or this checkout lies in a folder that is root's alone, as
# root's home is, nobody else can start it: there it may read what root may, and still write nothing more.
READING = "" if all(map(is_open, (sys.executable, sys.prefix, sys.base_prefix, __file__))) else ",+dac_read_search"
LESS_THAN_ROOT = (
    *("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"),
    *(f"--inh-caps=-all{READING}", f"--ambient-caps=-all{READING}", "--bounding-set=-all" + READING),
)
ANYBODYS = [path for path in map(Path, ("/tmp", "/var/tmp", "/run/lock")) if path.is_dir()]
LISTENER = """
import rclpy
from hdmap_ros.msg import MapElementArray

rclpy.init()
node, maps = rclpy.create_node("listener"), []
node.create_subscription(MapElementArray, "/online_map/output/map_elements", maps.append, 10)
while not maps:
    rclpy.spin_once(node)
rclpy.shutdown()
"""


@pytest.fixture
def folders(drive: Path) -> Iterator[dict[str, Path]]:
    """A home folder with a bag that cannot be written, and two that can, for log and report; where all may look."""
    with tempfile.TemporaryDirectory() as root:
        Path(root).chmod(0o755)
        made = {name: Path(root, name) for name in ("home", "log", "out")}
        for name, folder in made.items():
            folder.mkdir()
            if os.geteuid() == 0 and name != "home":
                os.chown(folder, NOBODY, NOBODY)
        shutil.copy(drive, made["home"])
        made["home"].chmod(0o555)
        yield made
        made["home"].chmod(0o755)


@pytest.fixture
def start(folders: dict[str, Path], start_process: Callable[..., Any]) -> Callable[..., Any]:
    """Starts Python as that user."""
    hidden = ("_ROS_WHEELS_BOOTSTRAP_COMPLETE", "XDG_CACHE_HOME", "TMPDIR", "USER", "LOGNAME")
    kept = {name: value for name, value in os.environ.items() if name not in hidden}
    environment = kept | {"HOME": str(folders["home"]), "ROS_LOG_DIR": str(folders["log"])}
    less = LESS_THAN_ROOT if os.geteuid() == 0 else ()
    return lambda *words: start_process(*less, sys.executable, *words, env=environment, cwd=folders["home"])


def owned() -> set[Path]:
    """What belongs to this user where everybody may write; /dev/shm holds the memory of ROS's transport and tracing."""
    found = set()
    for folder in ANYBODYS:
        with os.scandir(folder) as entries:
            found |= {Path(entry.path) for entry in entries if entry.stat(follow_symlinks=False).st_uid == NOBODY}
    return found


def test_it_maps_and_leaves_its_log_and_its_report(folders: dict[str, Path], start: Callable[..., Any]) -> None:
    """The real node with the shipped student."""
    before, report = owned(), folders["out"] / "report.json"
    parameters = [f"report_file:={report}", "model.device:=cpu", "model.warmup_iterations:=1", "sync.max_age:=10.0"]
    words = [word for entry in parameters for word in ("-p", entry)]
    node = start("-m", "hdmap_ros.online_map_node", "--ros-args", *words)
    listener = start("-c", LISTENER)
    player = start("-m", "hdmap_ros.bag.player", "drive.mcap", "--wait", "240", "--rate", "0.5")
    assert player.wait(300) == 0
    assert listener.wait(60) == 0
    assert node.poll() is None
    status = Path(f"/proc/{node.pid}/status").read_text().splitlines()
    assert next(line for line in status if line.startswith("Uid:")).split()[1:] == [str(NOBODY)] * 4
    node.send_signal(signal.SIGINT)
    assert node.wait(60) == 0
    assert json.loads(report.read_text())["published"] >= 1
    assert [*folders["out"].iterdir()] == [report]
    assert [*folders["log"].iterdir()] and [*folders["home"].iterdir()] == [folders["home"] / "drive.mcap"]
    if os.geteuid() == 0:  # other programs of a user who is a person may leave something meanwhile
        assert owned() - before == set()
