"""Two stages of work on a stream: while one item is at work in the caller's thread, the next one is prepared beside it.

The order is that of the stream, and so is what fails: whoever reads the outcomes sees what a plain loop would show.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

Item = TypeVar("Item")
Prepared = TypeVar("Prepared")
Result = TypeVar("Result")


def one_ahead(
    items: Iterable[Item], prepare: Callable[[Item], Prepared], work: Callable[[Prepared], Result]
) -> Iterator[tuple[Item, Future[Result]]]:
    """`work(prepare(item))` of each item, in order, `prepare` of the next one meanwhile in a thread of its own.

    Args:
        items: the next one is asked for only when nothing is prepared, and its `prepare` is over before an outcome is
            handed out: the stream, `prepare` and the reader of the outcomes may share what no lock guards.
        prepare: ends before the one of the next item begins.
        work: in the caller's thread, as Ctrl-C wants it; sees only what `prepare` made, as that of the next item runs.

    Yields:
        Each item with its outcome, which is there: `result()` gives what came of it, or raises what either stage
        raised. What the stream raises comes after the outcomes of all items before it.
    """
    last: tuple[Item, Future[Prepared]] | None = None
    fault: Exception | None = None
    with ThreadPoolExecutor(1, "prepare") as thread:
        try:
            for item in items:
                ready = thread.submit(prepare, item)
                outcome = None if last is None else (last[0], _outcome(work, last[1]))
                wait([ready])
                if outcome is not None:
                    yield outcome
                last = item, ready
        except Exception as error:
            fault = error
        if last is not None:
            yield last[0], _outcome(work, last[1])
    if fault is not None:
        raise fault


def _outcome(work: Callable[[Prepared], Result], ready: Future[Prepared]) -> Future[Result]:
    outcome: Future[Result] = Future()
    try:
        outcome.set_result(work(ready.result()))
    except Exception as error:
        outcome.set_exception(error)
    return outcome
