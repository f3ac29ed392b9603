"""A copy of a .db3 file that was never closed or is cut off, with the messages that are whole."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hdmap_core.errors import BagError, os_errors_as

SIDE_FILES = ("-wal", "-journal")  # what a writer has not moved into the file yet, or would roll back


@contextmanager
def salvaged_sqlite(file: Path, damage: list[str]) -> Iterator[Path]:
    """A readable copy in the folder for temporary files, gone when the block ends.

    Args:
        file: as it was left; it is not touched.
        damage: gets sentences that say what was lost.

    Raises:
        BagError: if not even the list of topics can be read.
    """
    with TemporaryDirectory(prefix="hdmap_bag_") as folder:
        left, whole = Path(folder) / "left.db3", Path(folder) / "whole.db3"
        with os_errors_as(BagError, f"cannot copy {file} to {folder}", "set TMPDIR to a folder with room"):
            for ending in ("", *SIDE_FILES):
                if Path(f"{file}{ending}").is_file():
                    shutil.copyfile(f"{file}{ending}", f"{left}{ending}")
        try:
            with closing(sqlite3.connect(left)) as source, closing(sqlite3.connect(whole)) as target:
                source.execute("PRAGMA writable_schema = ON")  # or SQLite refuses a file shorter than it should be
                kept, declared = _copy(source, target)
        except sqlite3.Error as error:
            raise BagError(f"{file} is damaged where its topics are listed ({error}); nothing can be read") from None
        if not kept:
            raise BagError(f"{file} holds no message that is whole")
        of = f" of about {declared}" if kept < declared else ""
        damage.append(f"{file.name}: read as it was left, {kept}{of} messages")
        yield whole


def _copy(source: sqlite3.Connection, target: sqlite3.Connection) -> tuple[int, int]:
    """Messages that were copied, and how many there should be."""
    tables = dict(source.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'"))
    if not {"topics", "messages"} <= tables.keys():
        raise sqlite3.DatabaseError("it has no tables topics and messages")
    for name in ("schema", "message_definitions", "topics"):
        if name in tables:
            target.execute(tables[name])
            for row in list(_rows(source, f"SELECT * FROM {name}")):
                target.execute(f"INSERT INTO {name} VALUES ({','.join('?' * len(row))})", row)
    target.execute(tables["messages"])
    columns = "id, topic_id, timestamp, data"
    ends = [next(_rows(source, f"SELECT {end}(id) FROM messages"), (None,))[0] for end in ("min", "max")]
    copied: set[int] = set()
    for order in ("ASC", "DESC"):  # damage in the middle: from the other end as well
        for row in _rows(source, f"SELECT {columns} FROM messages ORDER BY id {order}"):
            if row[0] in copied:
                break
            if None in row:  # from a page that is not there
                continue
            copied.add(row[0])
            target.execute(f"INSERT INTO messages ({columns}) VALUES (?, ?, ?, ?)", row)
    target.commit()
    return len(copied), len(copied) if None in ends else ends[1] - ends[0] + 1


def _rows(source: sqlite3.Connection, query: str) -> Iterator[tuple[Any, ...]]:
    """Rows until the first that is damaged."""
    try:
        yield from source.execute(query)
    except sqlite3.DatabaseError:
        return
