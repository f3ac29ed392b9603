"""One clock for a recording: when, in the time of its data, each message goes into the bag.

While a bag is played, the maps carry the bag's stamps, and everything a node stamps with its own clock (latched
messages, diagnostics) carries the time of day. Put into one file as they are, they would be years apart.
"""

from collections.abc import Iterator
from typing import Any

_LIVE_NS = 5_000_000_000  # stamps that are so near to their arrival are of now


class TimeLine:
    """Gives messages their log times.

    A message whose stamp is not of now shows that recorded data are being played. From then on its stamp is the time,
    also of messages that carry the time of day or none. What comes before that is held back; when nothing shows it, all
    keep their own times.

    Args:
        hold_bytes: with more than this held back, it is taken for granted that nothing is played.
    """

    def __init__(self, hold_bytes: int = 64 * 1024 * 1024) -> None:
        self._hold_bytes = hold_bytes
        self._held: list[tuple[int, Any]] = []
        self._held_bytes = 0
        self._played_ns = 0  # the latest stamp of played data
        self._decided = False

    def add(self, message: Any, size: int, stamp_ns: int, now_ns: int, latched: bool) -> Iterator[tuple[int, Any]]:
        """Takes a message.

        Args:
            message: handed through.
            size: its bytes.
            stamp_ns: of its header; 0 where it has none.
            now_ns: time of day at its arrival.
            latched: it may be old already, so its stamp says nothing about the others.

        Yields:
            Log time and message of those that can be written now.
        """
        own = stamp_ns != 0 and not latched
        if own and abs(stamp_ns - now_ns) > _LIVE_NS:
            self._played_ns = stamp_ns
            yield from ((stamp_ns, held) for _, held in self._held)
            self._held, self._decided = [], True
            yield stamp_ns, message
        elif self._played_ns:
            yield self._played_ns, message
        else:
            self._held.append((stamp_ns if own else now_ns, message))
            self._held_bytes += size
            if self._decided or self._held_bytes > self._hold_bytes:
                self._decided = True
                yield from self.rest()

    def rest(self) -> Iterator[tuple[int, Any]]:
        """What is still held back, in the order of time: the end of the recording."""
        held, self._held = self._held, []
        yield from sorted(held, key=lambda entry: entry[0])
