"""Ctrl-C as a terminal sends it, to every process of the command: one line, exit code 130, the same command goes on."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hdmap_core.running.interruption import Interrupted, raise_on_ctrl_c

LINE = "interrupted; the same command finishes it\n"
SMALL = ("--preset", "tiny", "--image-size", "180x320", "--lidar", "none")


def started(*arguments: object) -> "subprocess.Popen[str]":
    """`hdmap` as the leader of a process group of its own."""
    command = [sys.executable, "-m", "hdmap_core", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def interrupted(process: "subprocess.Popen[str]") -> tuple[int, str]:
    """Exit code and stderr after Ctrl-C; nothing of the group is left."""
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return process.returncode, err
        time.sleep(0.05)
    raise AssertionError("a worker outlives the command")


@pytest.mark.parametrize("workers", [1, 2])
def test_synth_stops_and_goes_on(tmp_path: Path, workers: int) -> None:
    out = tmp_path / "town"
    process = started("synth", out, *SMALL, "--workers", workers)
    while not any(out.glob("samples/*/*.jpg")) and process.poll() is None:
        time.sleep(0.02)
    code, err = interrupted(process)
    assert code == 130, err
    assert err.endswith(LINE) and "Traceback" not in err and err.count("\n") <= 2, err
    again = started("synth", out, *SMALL, "--workers", workers)
    assert again.wait(timeout=120) == 0
    again.communicate()
    assert not list(out.rglob("*.part")) and (out / "v1.0-mini" / "sample.json").is_file()


@pytest.mark.parametrize("seed", range(3))
def test_synth_stops_while_it_starts(tmp_path: Path, seed: int) -> None:
    """Imports, workers that are being made: the moment is drawn anew by each seed, and what it hits by the machine."""
    process = started("synth", tmp_path / "town", *SMALL, "--workers", 3)
    time.sleep(0.3 + 2.0 * random.Random(seed).random())
    code, err = interrupted(process)
    assert (code, err.count("Traceback")) == (130, 0) and err.endswith(LINE), err


def test_the_handler_raises_once() -> None:
    before = signal.getsignal(signal.SIGINT)
    try:
        raise_on_ctrl_c()
        with pytest.raises(Interrupted) as caught:
            signal.raise_signal(signal.SIGINT)
        assert caught.value.code == 130 and isinstance(caught.value, SystemExit)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL, "the second one ends the process"
    finally:
        signal.signal(signal.SIGINT, before)


def test_while_modules_are_imported_the_process_ends_on_the_spot(tmp_path: Path) -> None:
    """Some modules drop the exception; it must not be lost."""
    (tmp_path / "careless.py").write_text(
        "import signal\ntry:\n    signal.raise_signal(signal.SIGINT)\nexcept BaseException:\n    pass\n"
    )
    handler = "from hdmap_core.running.interruption import raise_on_ctrl_c\nraise_on_ctrl_c()\n"
    script = handler + "import careless\nprint('lost')\n"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", LINE)


def test_what_is_unfinished_goes_also_when_an_import_is_interrupted(tmp_path: Path) -> None:
    program = """
import os, signal, sys
from pathlib import Path
from hdmap_core.running.interruption import one_line_on_ctrl_c, unfinished

class Import:
    def find_spec(self, name, path=None, target=None):
        if name == "nothing":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Import())
with one_line_on_ctrl_c(), unfinished(Path("part")):
    Path("part").mkdir()
    Path("part", "content").touch()
    import nothing
"""
    ended = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (130, LINE)
    assert list(tmp_path.iterdir()) == []
