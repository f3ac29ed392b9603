import multiprocessing
import os
import threading
import time
from pathlib import Path

import pytest

from hdmap_core.errors import OutputError
from hdmap_core.files import alone, make_folder, write_atomically
from hdmap_core.running.interruption import Interrupted


def test_write_makes_folders_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file"
    write_atomically(path, b"one")
    write_atomically(path, b"two")
    assert path.read_bytes() == b"two"
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(OutputError, match=r"cannot write .*last: Not a directory; choose another$"):
        write_atomically(tmp_path / "file" / "last", b"y", durable=False, advice="choose another")
    assert (tmp_path / "file").read_bytes() == b"x"


def test_a_folder_where_the_file_should_be(tmp_path: Path) -> None:
    (tmp_path / "last").mkdir()
    with pytest.raises(OutputError, match="cannot write"):
        write_atomically(tmp_path / "last", b"x")
    assert [entry.name for entry in tmp_path.iterdir()] == ["last"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="Permission denied"):
        write_atomically(tmp_path / "last", b"x")


def test_a_folder_where_a_file_stands_is_refused(tmp_path: Path) -> None:
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    (tmp_path / "file").write_bytes(b"")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OutputError, match="Not a directory"):
            make_folder(place)


def _count(folder: Path, rounds: int) -> None:
    for _ in range(rounds):
        with alone(folder / "lock"):
            seen = int((folder / "count").read_text())
            time.sleep(0.001)
            (folder / "count").write_text(str(seen + 1))


def test_one_process_at_a_time(tmp_path: Path) -> None:
    (tmp_path / "count").write_text("0")
    workers = [multiprocessing.get_context("fork").Process(target=_count, args=(tmp_path, 25)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert (tmp_path / "count").read_text() == "75"


def test_who_waits_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def wait() -> None:
        with alone(tmp_path / "lock"):
            pass

    waiting = threading.Thread(target=wait)
    told = ""
    with alone(tmp_path / "lock"):
        waiting.start()
        while not told:
            time.sleep(0.01)
            told = capsys.readouterr().err
    waiting.join(timeout=10)
    assert f"another process works on {tmp_path}; waiting" in told and not waiting.is_alive()


def test_ctrl_c_leaves_what_was_there_and_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(descriptor: int) -> None:
        raise Interrupted

    path = tmp_path / "map.json"
    path.write_bytes(b"older")
    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(Interrupted):
        write_atomically(path, b"newer")
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == {"map.json": b"older"}
