"""One slot, newest wins; failures are counted and end it after some in a row."""

import threading
from typing import Any

from hdmap_ros.worker import Worker


def test_the_newest_job_wins() -> None:
    gate, started = threading.Event(), threading.Event()
    done: list[int] = []

    def work(job: int) -> None:
        started.set()
        assert gate.wait(10)
        done.append(job)

    worker = Worker(work, lambda error, count: None)
    worker.put(0)
    assert started.wait(10)
    for job in range(1, 6):
        worker.put(job)
    gate.set()
    assert worker.wait_idle(10)
    assert done == [0, 5]
    assert worker.statistics.superseded == 4
    assert worker.statistics.done == 2
    assert worker.stop()


def test_failures_are_reported_and_survived() -> None:
    errors: list[tuple[str, int]] = []

    def work(job: Any) -> None:
        if job == "bad":
            raise ValueError("no good")

    worker = Worker(work, lambda error, count: errors.append((str(error), count)), max_failures=3)
    for job in ("bad", "bad", "good", "bad"):
        worker.put(job)
        assert worker.wait_idle(10)
    assert errors == [("no good", 1), ("no good", 2), ("no good", 1)]
    assert not worker.broken
    assert worker.stop()


def test_too_many_failures_in_a_row_break_it() -> None:
    def work(job: Any) -> None:
        raise ValueError

    worker = Worker(work, lambda error, count: None, max_failures=2)
    for _ in range(4):
        worker.put("bad")
        assert worker.wait_idle(10)
    assert worker.broken
    assert worker.statistics.failed == 2
    assert worker.stop()


def test_only_serious_failures_break_it() -> None:
    def work(job: Any) -> None:
        raise job

    errors: list[int] = []
    worker = Worker(work, lambda error, count: errors.append(count), max_failures=2, serious=ValueError)
    for job in (KeyError(), ValueError(), KeyError(), KeyError()):
        worker.put(job)
        assert worker.wait_idle(10)
    assert not worker.broken
    assert errors == [0, 1, 1, 1]
    worker.put(ValueError())
    assert worker.wait_idle(10)
    assert worker.broken
    assert worker.statistics.failed == 5
    assert worker.stop()


def at_its_first_of_two_jobs() -> tuple[Worker, threading.Event, list[int]]:
    """A worker that is held at job 1 until the event is set, while job 2 waits; and the list of finished jobs."""
    gate, started = threading.Event(), threading.Event()
    done: list[int] = []

    def work(job: int) -> None:
        started.set()
        gate.wait(10)
        done.append(job)

    worker = Worker(work, lambda error, count: None)
    worker.put(1)
    assert started.wait(10)
    worker.put(2)
    return worker, gate, done


def test_stop_drops_what_waits_and_takes_nothing_more() -> None:
    worker, gate, done = at_its_first_of_two_jobs()
    assert not worker.stop(timeout_s=0.05)  # still at the first job
    gate.set()
    assert worker.stop()
    worker.put(3)
    assert done == [1]


def test_clear_forgets_the_waiting_job() -> None:
    worker, gate, done = at_its_first_of_two_jobs()
    worker.clear()
    gate.set()
    assert worker.wait_idle(10)
    assert done == [1]
    assert worker.stop()
