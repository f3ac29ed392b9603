"""Ctrl-C ends every verb of `hdmap` alike: one line and exit code 130, from the first import to the last worker."""

import signal
import threading
from types import FrameType

EXIT_CODE = 128 + signal.SIGINT


class Interrupted(SystemExit):
    """Ctrl-C. A SystemExit, so that neither typer nor a worker process makes a message or a traceback of it.

    Attributes:
        message: the line that the command ends with.
    """

    def __init__(self, message: str = "interrupted; the same command finishes it") -> None:
        super().__init__(EXIT_CODE)
        self.message = message


def raise_on_ctrl_c() -> None:
    """From now on Ctrl-C raises `Interrupted`; once: the next one ends the process on the spot."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, _raise)


def _raise(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    raise Interrupted
