"""Ctrl-C ends every verb of `hdmap` alike: one line and exit code 130, from the first import to the last worker."""

import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

EXIT_CODE = 128 + signal.SIGINT
MESSAGE = "interrupted; the same command finishes it"
_SHOW_CURSOR = "\x1b[?25h"
_unfinished: set[Path] = set()


class Interrupted(SystemExit):
    """Ctrl-C. A SystemExit, so that neither typer nor a worker process makes a message or a traceback of it.

    Attributes:
        message: the line that the command ends with.
    """

    def __init__(self, message: str = MESSAGE) -> None:
        super().__init__(EXIT_CODE)
        self.message = message


@contextmanager
def one_line_on_ctrl_c() -> Iterator[None]:
    """Ctrl-C inside the block, and in the interpreter's end after it, ends the process as the first line says."""
    try:
        raise_on_ctrl_c()
        yield
    except Interrupted as interrupted:
        if interrupted.message:
            print(interrupted.message, file=sys.stderr)
        sys.exit(interrupted.code)
    finally:
        end_on_ctrl_c()  # the interpreter's own end would make a traceback of it


def raise_on_ctrl_c() -> None:
    """From now on Ctrl-C raises `Interrupted`; once: the next one ends the process on the spot."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, _raise)


def end_on_ctrl_c() -> None:
    """From now on Ctrl-C ends the process on the spot, without a traceback."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def unfinished(folder: Path) -> Iterator[None]:
    """The folder is removed when the block is left, also where Ctrl-C ends the process on the spot."""
    _unfinished.add(folder)
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _unfinished.discard(folder)


def _raise(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if _is_importing(frame):
        _end_here()
    raise Interrupted


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _end_here() -> None:
    """Modules in C (OpenCV's) drop an exception that comes while they import others."""
    for folder in _unfinished:
        shutil.rmtree(folder, ignore_errors=True)
    print((_SHOW_CURSOR if sys.stderr.isatty() else "") + MESSAGE, file=sys.stderr, flush=True)
    os._exit(EXIT_CODE)
