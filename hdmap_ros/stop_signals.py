"""SIGINT and SIGTERM as a quiet and prompt end of a process, whatever it is at."""

import logging
import os
import signal
import sys
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import suppress
from threading import Thread
from typing import Any, NoReturn, TypeVar

T = TypeVar("T")
_POLL_S = 0.05


class Stopped(Exception):
    """A signal came while work was being waited for."""


def note() -> list[int]:
    """From now on signals are only noted: the list holds those that came."""
    received: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received_now, frame: received.append(received_now))
    return received


def beside(work: Callable[[], T], stopping: Callable[[], Any]) -> T:
    """The result of `work`, which runs in a thread of its own: Python hears signals between two steps of the main
    thread, so loading there would delay them by seconds.

    Raises:
        Stopped: as soon as `stopping` says so. The thread goes on until the process ends.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # whatever it is, it belongs to the caller
            future.set_exception(error)

    Thread(target=run, name="beside", daemon=True).start()
    while not wait([future], timeout=_POLL_S).done:
        if stopping():
            raise Stopped
    return future.result()


def leave(code: int) -> NoReturn:
    """Ends the process without the interpreter's own teardown.

    That takes one to two seconds of CPU once torch, timm and scipy are loaded (the collector's last passes over a
    quarter of a million objects, then the libraries' destructors), on a busy machine more than `ros2 launch` waits
    before it sends SIGTERM. For callers who have closed what they opened; buffered output is written here.
    """
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # a reader that has gone
            stream.flush()
    os._exit(code)
