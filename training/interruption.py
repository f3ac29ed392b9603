"""SIGTERM and Ctrl-C ask a run to end after the step it is in."""

import os
import signal
import threading
from types import FrameType, TracebackType

from typing_extensions import Self


class Interruption:
    """Inside the `with`, the first signal is remembered; the second does what it always did."""

    def __init__(self) -> None:
        self.asked: signal.Signals | None = None
        self._previous: dict[int, signal._HANDLER] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # elsewhere Python allows no handlers
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _ask(self, number: int, _: FrameType | None) -> None:
        self.asked = signal.Signals(number)
        for each, handler in self._previous.items():
            signal.signal(each, handler)


def leave_group(_: int) -> None:
    """For workers of a loader: a signal to the whole process group, as of Ctrl-C, is the loop's business.

    Ignoring the signals instead would make Python wait for ever at its exit, where it ends such workers by SIGTERM.
    """
    os.setpgrp()
