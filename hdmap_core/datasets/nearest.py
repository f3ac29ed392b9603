"""Of things with times the one that is nearest to rising instants, if it is near enough."""

from collections.abc import Iterator
from typing import Generic, TypeVar

Thing = TypeVar("Thing")
_ROUNDING_NS = 1_000_000  # of stamps of whole milliseconds


class NearestInTime(Generic[Thing]):
    """Goes through things in the order of their times, two of which it holds.

    Args:
        things: nanoseconds, and what is of that instant.
        period_ns: from one to the next; 0: as from the first to the second.
        reach: how much of a period is near enough.
    """

    def __init__(self, things: Iterator[tuple[int, Thing]], period_ns: int = 0, reach: float = 0.5) -> None:
        self._things = things
        self._now, self._next = next(things, None), next(things, None)
        if not period_ns and self._now is not None and self._next is not None:
            period_ns = self._next[0] - self._now[0]
        self._near_ns = reach * period_ns + _ROUNDING_NS

    def at(self, stamp_ns: int) -> tuple[int, Thing] | None:
        """The nearest to an instant that is no earlier than the last; None if it is not near enough."""
        while self._next is not None and abs(self._next[0] - stamp_ns) <= self._away_ns(stamp_ns):
            self._now, self._next = self._next, next(self._things, None)
        return self._now if self._away_ns(stamp_ns) <= self._near_ns else None

    def _away_ns(self, stamp_ns: int) -> float:
        return float("inf") if self._now is None else abs(self._now[0] - stamp_ns)
