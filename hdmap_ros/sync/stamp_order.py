"""Whether the stamps of one camera are those of two sources: they go back, and then past where they had been."""

from dataclasses import dataclass

_SOON = 8
"""Images within which they must be back: a recording that loops comes to where it had been much later."""


@dataclass
class _Order:
    newest_ns: int
    peak_ns: int = 0
    since: int = _SOON


class StampOrder:
    """Watches the stamps of every camera."""

    def __init__(self) -> None:
        self._orders: dict[str, _Order] = {}

    def apart_ns(self, camera: str, stamp_ns: int) -> int:
        """Takes the next stamp; by how much they went back, when they have just come back from there, else 0."""
        order = self._orders.setdefault(camera, _Order(stamp_ns))
        before_ns, order.newest_ns = order.newest_ns, stamp_ns
        order.since += 1
        if stamp_ns < before_ns and order.since > _SOON:
            order.peak_ns, order.since = before_ns, 0
        elif order.since <= _SOON and stamp_ns >= order.peak_ns:
            order.since = _SOON + 1
            return stamp_ns - before_ns
        return 0
