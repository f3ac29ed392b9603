"""One thread, one slot: the newest job wins, so a slow model drops old sets and never lags behind."""

from collections.abc import Callable
from dataclasses import dataclass
from threading import Condition, Thread
from typing import Any


@dataclass
class WorkerStatistics:
    """Counts since the start. `superseded` jobs were replaced before their turn; `failed` ones raised."""

    done: int = 0
    superseded: int = 0
    failed: int = 0


class Worker:
    """Runs `work(job)` in its own thread on the newest job given to `put`.

    An exception is counted and handed to `on_error(error, failed_in_a_row)`; the worker goes on with the next job.
    After `max_failures` in a row of the kind `serious` it stops taking jobs and `broken` is true.
    """

    def __init__(
        self,
        work: Callable[[Any], None],
        on_error: Callable[[Exception, int], None],
        max_failures: int = 3,
        serious: type[Exception] = Exception,
    ) -> None:
        self.statistics = WorkerStatistics()
        self.broken = False
        self._work = work
        self._on_error = on_error
        self._max_failures = max_failures
        self._serious = serious
        self._changed = Condition()
        self._slot: list[Any] = []
        self._busy = False
        self._stopping = False
        self._thread = Thread(target=self._run, name="online_map_worker", daemon=True)
        self._thread.start()

    def put(self, job: Any) -> None:
        """Leaves a job; one that still waits is replaced."""
        with self._changed:
            if self._stopping or self.broken:
                return
            self.statistics.superseded += len(self._slot)
            self._slot = [job]
            self._changed.notify_all()

    def clear(self) -> None:
        """Forgets the waiting job."""
        with self._changed:
            self.statistics.superseded += len(self._slot)
            self._slot = []

    def wait_idle(self, timeout_s: float) -> bool:
        """Waits until nothing waits and nothing runs; false when that takes too long."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._slot and not self._busy, timeout_s)

    def stop(self, timeout_s: float = 2.0) -> bool:
        """Ends the thread after the job it works on; false if that takes longer than `timeout_s`."""
        with self._changed:
            self._stopping = True
            self._slot = []
            self._changed.notify_all()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        failures = 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._slot or self._stopping)
                if self._stopping:
                    return
                job = self._slot.pop()
                self._busy = True
            try:
                self._work(job)
                failures = 0
                self.statistics.done += 1
            except Exception as error:  # the thread must outlive any failure of one job
                failures += isinstance(error, self._serious)
                self.statistics.failed += 1
                self.broken = failures >= self._max_failures
                self._on_error(error, failures)
            with self._changed:
                self._busy = False
                if self.broken:
                    self._slot = []
                self._changed.notify_all()
