"""Files that appear whole or not at all, and work that one process does at a time."""

import fcntl
import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hdmap_core.errors import OutputError, os_errors_as

PART = ".part"
"""What the name of a file ends in while it is being written."""


def check_file(path: str | Path, suffixes: Sequence[str] = ()) -> None:
    """Whether a file could be written, asked before long work. Touches nothing; folders above it may be missing.

    Args:
        path: the file.
        suffixes: what its name may end in; anything when empty.

    Raises:
        OutputError: if its name ends otherwise, a folder stands there, or its folder cannot be made or written to.
    """
    path = Path(path)
    if path.is_dir():
        raise OutputError(f"cannot write {path}: it is a folder; give the name of a file in it")
    if suffixes and path.suffix.lower() not in suffixes:
        raise OutputError(f"cannot write {path}: its name must end in {' or '.join(suffixes)}")
    check_folder(path.parent)
    if path.exists() and not os.access(path, os.W_OK):
        raise OutputError(f"cannot write {path}: Permission denied")


def check_folder(path: str | Path) -> None:
    """Whether a folder could be made and written to, asked before long work. Touches nothing.

    Raises:
        OutputError: if a file stands in the way, or there is no permission.
    """
    path = Path(path)
    there = next((each for each in (path, *path.parents) if os.path.lexists(each)), Path())
    if not there.is_dir():
        raise OutputError(f"cannot write {path}: {there} is not a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise OutputError(f"cannot write {path}: no permission to write to {there}")


def make_folder(path: str | Path) -> None:
    """Makes a folder and those above it, if they are not there.

    Raises:
        OutputError: if it cannot be made.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {_reason(error)}") from None


def remove_folder(path: Path) -> None:
    """Removes a folder with all that is in it, if it is there.

    Raises:
        OutputError: if it cannot be removed.
    """
    with os_errors_as(OutputError, f"cannot remove {path}"):
        if path.is_dir():
            shutil.rmtree(path)


def json_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file that a program wrote and whoever reads it can do without; empty where there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def write_atomically(path: str | Path, content: bytes, *, durable: bool = True, advice: str = "") -> None:
    """Writes a file beside its place and moves it there when it is complete.

    Args:
        path: the file; folders above it are made.
        content: all of it.
        durable: wait until the disk holds it, so that a power cut cannot leave an empty file.
        advice: what the user should do if it fails.

    Raises:
        OutputError: if it cannot be written; what stood at `path` is left as it was.
    """
    with whole_or_nothing(path, advice) as part, part.open("wb") as stream:
        stream.write(content)
        if durable:
            stream.flush()
            os.fsync(stream.fileno())


@contextmanager
def whole_or_nothing(path: str | Path, advice: str = "") -> Iterator[Path]:
    """A path to write to, beside `path`; what stands there moves to `path` if the block ends well, and goes if not.

    Args:
        path: the file; folders above it are made.
        advice: what the user should do if it fails.

    Raises:
        OutputError: in place of an OSError of the block; what stood at `path` is left as it was.
    """
    path = Path(path)
    part = path.with_name(path.name + PART)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        part.replace(path)
    except BaseException as error:  # of Ctrl-C nothing is left either
        with suppress(OSError):  # the folder itself may be what is wrong
            part.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        raise OutputError("; ".join(filter(None, (f"cannot write {path}: {_reason(error)}", advice)))) from None


def _reason(error: OSError) -> str:
    return "Not a directory" if isinstance(error, FileExistsError) else error.strerror or str(error)


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """One process at a time inside; others say so and wait. The lock ends with its process, however that ends.

    Raises:
        OSError: if the lock's file cannot be written.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"another process works on {lock.parent}; waiting until it is done", file=sys.stderr)
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield
