"""Two threads in a row with a short line before the first; when they cannot keep up, the newest job wins.

While the second works on a job, the first prepares the next. Jobs never overtake each other.
"""

import time
from collections import deque
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


@dataclass(frozen=True)
class _Prepared:
    """What came of preparing a job: a value or an exception."""

    value: Any = None
    error: Exception | None = None


LONGEST_LINE = 16
"""Jobs that may wait at once: more than a synchroniser hands out when it has learnt a rig's phases."""
CATCH_UP_S = 1.0
"""For so long a line may stand."""
_PACED = 5


class Worker:
    """Runs `work(prepare(job))` on the jobs given to `put`; each of the two in a thread of its own.

    Jobs wait in a line, so that a burst is worked off: as many as are done within `patience_s` at the best pace of the
    last five, older ones are dropped for newer ones. If the first thread has not been out of work for a second, jobs
    come faster than they are done, and a line would only make all of them late: then the newest wins, until it is out
    of work again. Without patience the newest always wins.

    The first thread takes a job only when the second has taken the one before, so that what was prepared is never
    thrown away for a newer one, and a job waits for the second at most as long as that takes for one. A job of which
    `prepare` returns None ends there.

    An exception of either is counted and handed to `on_error(error, failed_in_a_row)`, in the jobs' order; the worker
    goes on with the next job. After `max_failures` in a row of the kind `serious` it stops taking jobs and `broken` is
    true. Counts go into `statistics`, which may hold those of an earlier worker.
    """

    def __init__(
        self,
        prepare: Callable[[Any], Any],
        work: Callable[[Any], None],
        on_error: Callable[[Exception, int], None],
        max_failures: int = 3,
        serious: type[Exception] = Exception,
        patience_s: float = 0.0,
        statistics: WorkerStatistics | None = None,
    ) -> None:
        self.statistics = statistics or WorkerStatistics()
        self.broken = False
        self._prepare = prepare
        self._work = work
        self._on_error = on_error
        self._max_failures = max_failures
        self._serious = serious
        self._patience_s = patience_s
        self._out_of_work_s = time.monotonic()
        self._took_s: dict[str, deque[float]] = {stage: deque(maxlen=_PACED) for stage in ("prepare", "work")}
        self._changed = Condition()
        self._line: deque[Any] = deque()
        self._prepared: list[_Prepared] = []
        self._preparing = False
        self._working = False
        self._forgotten = 0
        self._stopping = False
        self._threads = [
            Thread(target=loop, name=f"online_map_{name}", daemon=True)
            for name, loop in (("prepare", self._prepare_jobs), ("work", self._work_on_jobs))
        ]
        for thread in self._threads:
            thread.start()

    def put(self, job: Any) -> None:
        """Leaves a job; it goes to the end of the line, or replaces those that wait."""
        with self._changed:
            if self._stopping or self.broken:
                return
            if not (self._line or self._preparing or self._prepared):
                self._out_of_work_s = time.monotonic()
            self._line.append(job)
            self._shorten()
            self._changed.notify_all()

    def clear(self) -> None:
        """Forgets every job but the one at work."""
        with self._changed:
            self._forget()

    def wait_idle(self, timeout_s: float) -> bool:
        """Waits until nothing waits and nothing runs; false when that takes too long."""
        with self._changed:
            return self._changed.wait_for(self._is_idle, timeout_s)

    def stop(self, timeout_s: float = 2.0) -> bool:
        """Ends the threads after the job at work; false if that takes longer than `timeout_s`."""
        with self._changed:
            self._stopping = True
            self._line.clear()
            self._prepared = []
            self._changed.notify_all()
        deadline_s = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline_s - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _shorten(self) -> None:
        """Drops the oldest of those who wait, if they are too many."""
        most = LONGEST_LINE
        pace_s = max((min(took) for took in self._took_s.values() if took), default=0.0)
        if pace_s * most > self._patience_s:
            most = max(1, int(self._patience_s / pace_s) - 1)
        if not self._patience_s or time.monotonic() - self._out_of_work_s > CATCH_UP_S:
            most = 1
        while len(self._line) > most:
            self._line.popleft()
            self.statistics.superseded += 1

    def _is_idle(self) -> bool:
        return not (self._line or self._preparing or self._prepared or self._working)

    def _forget(self) -> None:
        self.statistics.superseded += len(self._line) + len(self._prepared)
        self._line.clear()
        self._prepared = []
        self._forgotten += 1  # tells the first thread that nobody wants what it is at
        self._changed.notify_all()

    def _prepare_jobs(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: (self._line and not self._prepared) or self._stopping)
                if self._stopping:
                    return
                self._shorten()
                job, forgotten = self._line.popleft(), self._forgotten
                self._preparing = True
            begin_s = time.monotonic()
            try:
                prepared = _Prepared(self._prepare(job))
            except Exception as error:  # the thread must outlive any failure of one job
                prepared = _Prepared(error=error)
            with self._changed:
                if prepared.value is not None:
                    self._took_s["prepare"].append(time.monotonic() - begin_s)
                self._preparing = False
                if forgotten != self._forgotten:
                    self.statistics.superseded += 1
                elif not self._stopping:
                    self._prepared = [prepared]
                self._changed.notify_all()

    def _work_on_jobs(self) -> None:
        failures = 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._prepared or self._stopping)
                if self._stopping:
                    return
                prepared = self._prepared.pop()
                self._working = True
                self._changed.notify_all()
            begin_s, took_s = time.monotonic(), None
            try:
                if prepared.error is not None:
                    raise prepared.error
                if prepared.value is not None:
                    self._work(prepared.value)
                    took_s = time.monotonic() - begin_s
                failures = 0
                self.statistics.done += 1
            except Exception as error:  # as above
                failures += isinstance(error, self._serious)
                self.statistics.failed += 1
                self.broken = failures >= self._max_failures
                self._on_error(error, failures)
            with self._changed:
                if took_s is not None:
                    self._took_s["work"].append(took_s)
                self._working = False
                if self.broken:
                    self._forget()
                self._changed.notify_all()
