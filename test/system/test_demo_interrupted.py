"""Ctrl-C in `make demo`, at any moment: one line, exit code 130, no process left.

A terminal sends SIGINT to the whole foreground process group; so do these tests.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINE = "demo: stopped; "
LOADED = """
import importlib.util, signal, sys
spec = importlib.util.spec_from_file_location("demo", sys.argv[1])
demo = importlib.util.module_from_spec(spec)
spec.loader.exec_module(demo)
signal.signal(signal.SIGTERM, demo.stop)"""
# What `make demo` does before the drive, without the town that takes longer.
DRIVE = f"""{LOADED}
from pathlib import Path
out = Path(sys.argv[3])
print("driving", flush=True)
demo.drive_through_node(Path(sys.argv[2]), out / "map.mcap", out, demo.default_weights(), 1.0)
"""

# Ctrl-C in the very moment in which a process has been made and nobody has written it down yet.
STARTING = f"""{LOADED}
import os, subprocess
made = subprocess.Popen.__init__
def interrupted(process, *arguments, **options):
    made(process, *arguments, **options)
    os.kill(os.getpid(), signal.SIGTERM)
subprocess.Popen.__init__ = interrupted
demo.start([sys.executable, "-c", "import time; time.sleep(60)", sys.argv[2]]).wait()
"""


def interrupted(command: list[object], until: Callable[[subprocess.Popen[str]], object]) -> tuple[int, str]:
    """Runs a command as the Makefile does and presses Ctrl-C once `until` returns; exit code and stderr."""
    process = subprocess.Popen(
        ["bash", str(ROOT / "scripts" / "ctrl_c.sh"), "demo", *map(str, command)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        until(process)
        os.killpg(process.pid, signal.SIGINT)
        _, told = process.communicate(timeout=60)
    finally:
        process.kill()
    return process.returncode, told


def assert_one_line(code: int, told: str) -> None:
    assert code == 130, told
    lines = [line for line in told.splitlines() if line]
    assert len(lines) == 1 and lines[0].startswith(LINE), told


def processes_of(marker: str) -> list[str]:
    """Command lines of living processes that name `marker`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it has just ended
            continue
        if marker in line:
            found.append(line)
    return found


@pytest.mark.parametrize("delay_s", [0.03, 0.3, 1.0])
def test_while_python_starts(tmp_path: Path, delay_s: float) -> None:
    demo = [sys.executable, ROOT / "scripts" / "demo.py", "--out", tmp_path / "demo"]
    assert_one_line(*interrupted(demo, lambda process: time.sleep(delay_s)))


def test_while_the_town_is_made(tmp_path: Path) -> None:
    out = tmp_path / "demo"

    def town_begun(process: subprocess.Popen[str]) -> None:
        while not (out / "world").exists():
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)

    demo = [sys.executable, ROOT / "scripts" / "demo.py", "--out", out]
    assert_one_line(*interrupted(demo, town_begun))
    assert processes_of(str(out)) == []


def test_while_a_process_starts(tmp_path: Path) -> None:
    command = [sys.executable, "-c", STARTING, ROOT / "scripts" / "demo.py", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert_one_line(done.returncode, done.stderr)
    assert processes_of(str(tmp_path)) == []


@pytest.mark.ros
@pytest.mark.parametrize("moment", ["the node starts", "the node maps"])
def test_during_the_drive(tiny_world: Path, scene: str, tmp_path: Path, hdmap: Callable, moment: str) -> None:
    pytest.importorskip("rclpy", reason="the ROS graph needs rclpy; run make setup")
    drive = tmp_path / "drive.mcap"
    assert hdmap("bag", "write", tiny_world, "--scene", scene, "-o", drive, "--no-lidar").code == 0
    sign = "online_map active" if moment == "the node maps" else ""

    def reached(process: subprocess.Popen[str]) -> None:
        log = tmp_path / "node.log"
        while not log.exists() or sign not in log.read_text(encoding="utf-8"):
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)

    command = [sys.executable, "-c", DRIVE, ROOT / "scripts" / "demo.py", drive, tmp_path]
    assert_one_line(*interrupted(command, reached))
    assert processes_of(str(tmp_path)) == []
    for name in ("node", "recorder", "player"):
        assert "terminate called" not in (tmp_path / f"{name}.log").read_text(encoding="utf-8")


def test_the_set_up_says_one_line_as_well(tmp_path: Path) -> None:
    """And hands the exit code of a command that ends by itself on."""
    program = "import time; print('begun', flush=True); time.sleep(60)"
    nested = ["bash", "-c", '"$0" -c "$1" & wait', sys.executable, program]
    code, told = interrupted(nested, lambda process: process.stdout and process.stdout.readline())
    assert_one_line(code, told)
    wrapped = ["bash", str(ROOT / "scripts" / "ctrl_c.sh"), "setup", "bash", "-c", "echo out; echo err >&2; exit 7"]
    done = subprocess.run(wrapped, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")
