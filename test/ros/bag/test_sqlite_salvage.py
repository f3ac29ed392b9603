"""What can be read of a .db3 file that was cut off, damaged or never closed."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from hdmap_core.errors import BagError
from hdmap_ros.bag.sqlite_salvage import salvaged_sqlite


@pytest.mark.parametrize("share", [0.3, 0.8])
def test_a_cut_sqlite_file(
    noise: Path, tmp_path: Path, share: float, rewrite: Any, messages: Any, refused: Any
) -> None:
    file = rewrite(noise, tmp_path / "folder", "SQLITE3") / "folder.db3"
    data, whole = file.read_bytes(), messages(file)
    file.write_bytes(data[: int(len(data) * share)])
    assert "folder.db3 is cut off: it has" in refused(file)
    found = messages(file, recover=True)
    assert 100 * share - 10 < len(found) < 100 * share
    assert set(found) <= set(whole), "only whole messages, unchanged"


def test_a_sqlite_file_that_was_never_closed(
    drive: Path, tmp_path: Path, rewrite: Any, messages: Any, refused: Any
) -> None:
    """A writer that died left its last messages in the write-ahead log."""
    file = rewrite(drive, tmp_path / "folder", "SQLITE3", end=100) / "folder.db3"
    left = tmp_path / "left.db3"
    writer = sqlite3.connect(file)
    writer.execute("PRAGMA journal_mode = WAL")
    writer.execute("PRAGMA wal_autocheckpoint = 0")
    writer.execute("INSERT INTO messages (topic_id, timestamp, data) SELECT topic_id, timestamp, data FROM messages")
    writer.commit()
    for ending in ("", "-wal"):
        shutil.copy(f"{file}{ending}", f"{left}{ending}")
    writer.close()
    assert "was never closed" in refused(left)
    assert "left.db3-wal beside it" in refused(left)
    assert len(messages(left, recover=True)) == 200


@pytest.mark.parametrize("pages", [(40, 60), (-20, -1)])
def test_pages_that_are_damaged_cost_no_more_than_their_messages(
    noise: Path, tmp_path: Path, pages: tuple[int, int], rewrite: Any, messages: Any
) -> None:
    file = rewrite(noise, tmp_path / "folder", "SQLITE3") / "folder.db3"
    whole, data = messages(file), bytearray(file.read_bytes())
    first, last = (page * 4096 % len(data) for page in pages)
    data[first:last] = b"\xff" * (last - first)
    file.write_bytes(data)
    damage: list[str] = []
    with salvaged_sqlite(file, damage) as copy:
        found = messages(copy)
        assert copy != file and 60 < len(found) <= 100
    assert len(set(found) - set(whole)) <= (last - first) // 4096, "SQLite has no checksum of a page's content"
    assert damage[0].startswith("folder.db3: read as it was left, ")
    assert not copy.exists() and file.read_bytes() == data


@pytest.mark.parametrize(
    ("statements", "reason"),
    [
        ([], "is damaged where its topics are listed"),
        (["CREATE TABLE topics (id, name)"], "it has no tables topics and messages"),
        (
            ["CREATE TABLE topics (id, name)", "CREATE TABLE messages (id, topic_id, timestamp, data)"],
            "holds no message that is whole",
        ),
    ],
)
def test_a_file_without_messages(tmp_path: Path, statements: list[str], reason: str) -> None:
    file = tmp_path / "other.db3"
    with closing(sqlite3.connect(file)) as made:
        for statement in statements:
            made.execute(statement)
    with pytest.raises(BagError, match=reason), salvaged_sqlite(file, []):
        pass


def test_no_room_for_the_copy(noise: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: str, target: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(BagError, match="No space left on device; set TMPDIR"), salvaged_sqlite(noise, []):
        pass
