"""Preparing the next item while one is at work: really beside it, in order, and failing where a loop would fail."""

from collections.abc import Iterator
from threading import Event, current_thread

import pytest

from hdmap_core.inference.one_ahead import one_ahead


def test_the_next_one_is_prepared_while_one_is_at_work() -> None:
    begun = [Event() for _ in range(4)]

    def prepare(item: int) -> tuple[int, str]:
        begun[item].set()
        return item, current_thread().name

    def work(prepared: tuple[int, str]) -> tuple[int, str, str]:
        item, thread = prepared
        assert item == 3 or begun[item + 1].wait(10), "whoever prepares it waits for this one"
        return item, thread, current_thread().name

    found = [(item, outcome.result()) for item, outcome in one_ahead(range(4), prepare, work)]
    assert [item for item, _ in found] == [item for _, (item, _, _) in found] == [0, 1, 2, 3]
    assert {worker for _, (_, _, worker) in found} == {current_thread().name}
    assert current_thread().name not in {thread for _, (_, thread, _) in found}


def test_stream_and_reader_never_meet_a_preparation() -> None:
    """What they share needs no lock."""
    preparing = False
    steps = []

    def stream() -> Iterator[int]:
        for item in range(5):
            assert not preparing
            steps.append(f"next {item}")
            yield item

    def prepare(item: int) -> int:
        nonlocal preparing
        preparing = True
        Event().wait(0.01)
        preparing = False
        return item

    for item, outcome in one_ahead(stream(), prepare, lambda item: item):
        assert not preparing
        steps.append(f"read {outcome.result()}")
        assert outcome.result() == item
    assert steps == ["next 0", "next 1", "read 0", "next 2", "read 1", "next 3", "read 2", "next 4", "read 3", "read 4"]


@pytest.mark.parametrize("stage", ["prepare", "work"])
def test_an_item_that_fails_leaves_the_others(stage: str) -> None:
    def stop_at_one(name: str, item: int) -> int:
        if name == stage and item == 1:
            raise ValueError(f"{name} {item}")
        return item

    outcomes = list(
        one_ahead(range(3), lambda item: stop_at_one("prepare", item), lambda item: stop_at_one("work", item))
    )
    assert [outcomes[0][1].result(), outcomes[2][1].result()] == [0, 2]
    with pytest.raises(ValueError, match=f"{stage} 1"):
        outcomes[1][1].result()


def test_a_stream_that_breaks_does_so_after_all_that_came_before() -> None:
    def stream() -> Iterator[int]:
        yield 0
        yield 1
        raise OSError("cut off")

    seen = []
    with pytest.raises(OSError, match="cut off"):
        for _, outcome in one_ahead(stream(), lambda item: item, lambda item: 10 * item):
            seen.append(outcome.result())
    assert seen == [0, 10]
    assert list(one_ahead([], lambda item: item, lambda item: item)) == []


def test_a_reader_that_leaves_ends_the_thread() -> None:
    prepared = []
    for _, outcome in one_ahead(range(100), lambda item: prepared.append(item) or item, lambda item: item):
        if outcome.result() == 2:
            break
    assert prepared == [0, 1, 2, 3]
