"""Two stages side by side, in order; a burst is worked off, overload is not; some failures in a row end it."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from hdmap_ros.worker import LONGEST_LINE, Worker


def unchanged(job: Any) -> Any:
    """The first stage of a worker whose second is what matters."""
    return job


class Stages:
    """A worker that is held at its first job; jobs are integers, and what happens to them stands in lists.

    Attributes:
        prepare_gate, work_gate: both stages wait for theirs; only that of `work` is closed at the start.
    """

    def __init__(self, patience_s: float) -> None:
        self.prepare_gate, self.work_gate = threading.Event(), threading.Event()
        self.prepare_gate.set()
        self.changed = threading.Condition()
        self.events: list[tuple[str, int]] = []
        self.worker = Worker(self.prepare, self.work, lambda error, count: None, patience_s=patience_s)

    def prepare(self, job: int) -> int:
        self.note("prepare", job)
        assert self.prepare_gate.wait(60)
        self.note("prepared", job)
        return job

    def work(self, job: int) -> None:
        self.note("work", job)
        assert self.work_gate.wait(60)
        self.note("done", job)

    def note(self, stage: str, job: int) -> None:
        with self.changed:
            self.events.append((stage, job))
            self.changed.notify_all()

    def has_come_to(self, stage: str, job: int) -> bool:
        with self.changed:
            return self.changed.wait_for(lambda: (stage, job) in self.events, 10)

    @property
    def done(self) -> list[int]:
        return [job for stage, job in self.events if stage == "done"]


@contextmanager
def at_work_on_job_0(patience_s: float) -> Iterator[Stages]:
    stages = Stages(patience_s)
    stages.worker.put(0)
    assert stages.has_come_to("work", 0)
    yield stages
    stages.prepare_gate.set()
    stages.work_gate.set()
    assert stages.worker.stop(10)


@pytest.fixture
def stages() -> Iterator[Stages]:
    with at_work_on_job_0(patience_s=0.0) as stages:
        yield stages


def test_the_next_job_is_prepared_meanwhile_and_then_the_newest_wins(stages: Stages) -> None:
    stages.worker.put(1)
    assert stages.has_come_to("prepared", 1) and stages.done == []
    for job in range(2, 6):
        stages.worker.put(job)
    stages.work_gate.set()
    assert stages.worker.wait_idle(10)
    assert stages.done == [0, 1, 5]
    assert (stages.worker.statistics.superseded, stages.worker.statistics.done) == (3, 3)


class Clock:
    """Stands still until it is set."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("hdmap_ros.worker.time", clock)
    return clock


@pytest.fixture
def patient(clock: Clock) -> Iterator[Stages]:
    """With patience for a line."""
    with at_work_on_job_0(patience_s=0.5) as stages:
        yield stages


def test_a_burst_is_worked_off_in_order(patient: Stages) -> None:
    for job in range(1, 13):
        patient.worker.put(job)
    patient.work_gate.set()
    assert patient.worker.wait_idle(10)
    assert patient.done == list(range(13))
    assert patient.worker.statistics.superseded == 0


def test_the_line_has_an_end(patient: Stages) -> None:
    patient.worker.put(1)
    assert patient.has_come_to("prepared", 1)
    for job in range(2, 2 + LONGEST_LINE + 3):
        patient.worker.put(job)
    patient.work_gate.set()
    assert patient.worker.wait_idle(10)
    assert patient.done == [0, 1, *range(5, 5 + LONGEST_LINE)]
    assert patient.worker.statistics.superseded == 3


def test_the_newest_wins_when_jobs_come_faster_than_they_are_done(patient: Stages, clock: Clock) -> None:
    patient.worker.put(1)
    assert patient.has_come_to("prepared", 1)
    for job in range(2, 30):
        clock.now_s += 0.1
        patient.worker.put(job)
    patient.work_gate.set()
    assert patient.worker.wait_idle(10)
    assert patient.done == [0, 1, 29]
    assert patient.worker.statistics.superseded == 27


def test_once_out_of_work_it_takes_a_burst_again(patient: Stages, clock: Clock) -> None:
    patient.worker.put(1)
    assert patient.has_come_to("prepared", 1)
    clock.now_s = 5.0
    for job in (2, 3):
        patient.worker.put(job)
    patient.work_gate.set()
    assert patient.worker.wait_idle(10)
    for job in (4, 5, 6):
        patient.worker.put(job)
    assert patient.worker.wait_idle(10)
    assert patient.done == [0, 1, 3, 4, 5, 6]


@pytest.mark.parametrize(("pace_s", "kept"), [(0.1, 4), (0.3, 1)])
def test_a_line_is_no_longer_than_patience_at_the_pace_of_the_last_jobs(clock: Clock, pace_s: float, kept: int) -> None:
    """Of jobs of 0.1 s each four are done within half a second; of jobs of 0.3 s the newest alone is in time."""
    done: list[int] = []
    hold, begun = threading.Event(), threading.Event()

    def work(job: int) -> None:
        begun.set()
        assert hold.wait(60)
        clock.now_s += pace_s
        done.append(job)

    worker = Worker(unchanged, work, lambda error, count: None, patience_s=0.5)
    worker.put(0)
    assert begun.wait(60)
    for job in range(1, 10):
        worker.put(job)
    hold.set()
    assert worker.wait_idle(10)
    assert done[0] == 0 and done[-kept:] == list(range(10 - kept, 10)) and len(done) <= kept + 2
    assert len(done) + worker.statistics.superseded == 10
    assert worker.stop(10)


def test_jobs_never_overtake_each_other() -> None:
    """Stages of uneven length: now the first is the slow one, now the second."""
    done: list[int] = []

    def prepare(job: int) -> int:
        time.sleep(0.0005 * (job * 7 % 5))
        return job

    def work(job: int) -> None:
        time.sleep(0.0005 * (job * 3 % 5))
        done.append(job)

    worker = Worker(prepare, work, lambda error, count: None)
    for job in range(200):
        worker.put(job)
        time.sleep(0.0005)
    assert worker.wait_idle(10)
    assert done == sorted(set(done)) and done[-1] == 199
    assert len(done) + worker.statistics.superseded == 200
    assert worker.stop()


def test_what_comes_to_nothing_in_the_first_stage_ends_there() -> None:
    done: list[int] = []
    worker = Worker(lambda job: job if job else None, done.append, lambda error, count: None)
    for job in (0, 1):
        worker.put(job)
        assert worker.wait_idle(10)
    assert done == [1]
    assert worker.stop()


def test_failures_of_the_first_stage_count_like_those_of_the_second() -> None:
    def prepare(job: int) -> int:
        return 1 // job

    errors: list[tuple[type, int]] = []
    done: list[int] = []
    worker = Worker(prepare, done.append, lambda error, count: errors.append((type(error), count)), max_failures=2)
    for job in (1, 0, 1, 0, 0, 1):
        worker.put(job)
        assert worker.wait_idle(10)
    assert errors == [(ZeroDivisionError, 1), (ZeroDivisionError, 1), (ZeroDivisionError, 2)]
    assert worker.broken and done == [1, 1]
    assert worker.stop()


def test_failures_are_reported_and_survived() -> None:
    errors: list[tuple[str, int]] = []

    def work(job: Any) -> None:
        if job == "bad":
            raise ValueError("no good")

    worker = Worker(unchanged, work, lambda error, count: errors.append((str(error), count)), max_failures=3)
    for job in ("bad", "bad", "good", "bad"):
        worker.put(job)
        assert worker.wait_idle(10)
    assert errors == [("no good", 1), ("no good", 2), ("no good", 1)]
    assert not worker.broken
    assert worker.stop()


def test_too_many_failures_in_a_row_break_it() -> None:
    def work(job: Any) -> None:
        raise ValueError

    worker = Worker(unchanged, work, lambda error, count: None, max_failures=2)
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
    worker = Worker(unchanged, work, lambda error, count: errors.append(count), max_failures=2, serious=ValueError)
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


def test_stop_drops_what_waits_and_takes_nothing_more(stages: Stages) -> None:
    stages.worker.put(1)
    assert stages.has_come_to("prepared", 1)
    stages.worker.put(2)
    assert not stages.worker.stop(timeout_s=0.05)  # still at the first job
    stages.work_gate.set()
    assert stages.worker.stop()
    stages.worker.put(3)
    assert stages.done == [0]


@pytest.mark.parametrize("until", ["prepare", "prepared"])
def test_clear_forgets_all_but_the_job_at_work(stages: Stages, until: str) -> None:
    if until == "prepare":
        stages.prepare_gate.clear()
    stages.worker.put(1)
    assert stages.has_come_to(until, 1)
    stages.worker.put(2)
    stages.worker.clear()
    stages.prepare_gate.set()
    stages.work_gate.set()
    assert stages.worker.wait_idle(10)
    assert stages.done == [0]
    assert stages.worker.statistics.superseded == 2
