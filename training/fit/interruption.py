"""SIGTERM and Ctrl-C ask a run to end after the step it is in."""

import functools
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import ParamSpec, TypeVar

from typing_extensions import Self

P = ParamSpec("P")
R = TypeVar("R")


def answers_sigterm(verb: Callable[P, R]) -> Callable[P, R]:
    """As long as no `Interruption` listens, SIGTERM ends the verb at once, with a line and exit code 0.

    That is while it imports, reads weights and prepares keyframes: nothing is lost, as the same command goes on there.
    """

    @functools.wraps(verb)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        if threading.current_thread() is not threading.main_thread():  # Python allows no handlers there
            return verb(*args, **kwargs)
        before = signal.signal(signal.SIGTERM, functools.partial(_leave, os.getpid()))
        try:
            return verb(*args, **kwargs)
        finally:
            signal.signal(signal.SIGTERM, before)

    return run


def _leave(process: int, number: int, frame: FrameType | None) -> None:
    if os.getpid() != process:  # a fork, for preparing or loading: its parent ends it, or says so itself
        os._exit(128 + number)
    print("stopped before a step as asked; the same command goes on", file=sys.stderr, flush=True)
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):  # modules in C may drop an exception there
            os._exit(0)
        frame = frame.f_back
    raise SystemExit(0)


class Interruption:
    """Inside the `with`, the first signal is remembered; the second ends the process as if nobody had listened."""

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
            signal.signal(each, signal.SIG_DFL if each == signal.SIGTERM else handler)


def leave_to_the_loop(_: int) -> None:
    """For workers of a loader: Ctrl-C, and a SIGTERM to all processes of a job, are the loop's business.

    Service managers and schedulers end a job by a SIGTERM to each of its processes. A worker that died of it would take
    the step with it that the loop is in. The loop's own SIGTERM, by which Python ends such workers, is obeyed.
    """
    os.setpgrp()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _end_with(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
