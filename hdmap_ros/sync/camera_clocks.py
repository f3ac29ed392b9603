"""Cameras whose clock is wrong, told by when their images arrive.

Stamps of a regular rig say a camera's time only up to whole cycles; which cycle an image belongs to, its arrival says:
against what the other cameras' images that came about then are stamped. So neither the pace at which a bag is played
nor a pause counts. An image may come late for many reasons, so only two signs are taken for a wrong clock: a step of
the stamps that the arrivals do not show, and stamps that run ahead of the other cameras' (or a second and more behind,
which no pipeline is).
"""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from statistics import median, median_low

AHEAD_NS = 150_000_000
BEHIND_NS = -1_000_000_000
DELAY_NS = 80_000_000
"""What a camera's images may be later than the others' without being late ones."""

History = tuple[Sequence[int], Sequence[int]]
"""Stamps and arrivals of one camera, oldest first."""


def clock_step(history: History, others: Sequence[History], stamp_ns: int, arrival_ns: int, tolerance_ns: int) -> int:
    """By how much the camera's clock was set before this image; 0 if it was not, or nothing tells.

    A clock that was set makes an unusual gap to the image before by its stamps and moves them against the others' by
    as much. A late image, lost ones, or the burst after them do not do both.
    """
    stamps, arrivals = history
    if len(stamps) < 3:
        return 0
    usual = [later - earlier for earlier, later in pairwise(stamps)]
    gap_ns = stamp_ns - stamps[-1]
    odd_ns = min(abs(gap_ns - gap) for gap in usual)
    if 2 * odd_ns <= tolerance_ns:
        return 0
    before = offsets_ns(history, others)
    if not before:
        return 0
    shift_ns = offsets_ns(([stamp_ns], [arrival_ns]), others)[0] - median_low(before)
    if abs(shift_ns) <= tolerance_ns or 2 * min(abs(gap_ns - shift_ns - gap) for gap in usual) > odd_ns:
        return 0
    hasty = 2 * (playback_rate(others) or 0.0) * (arrival_ns - arrivals[-1]) < min(usual)
    return 0 if hasty and abs(shift_ns) < -BEHIND_NS else shift_ns


def keeps_pace(own: History, others: Sequence[History]) -> bool:
    """Whether none of a camera's images came hastily; in a burst arrivals tell no clock's error."""
    rate = playback_rate(others)
    lapses = zip(*map(pairwise, own), strict=True)
    return rate is not None and all(
        3 * rate * (after - before) >= later - earlier for (earlier, later), (before, after) in lapses
    )


def clock_error(lead_ns: int) -> int:
    """What of a lead is the clock's error: all, or nothing where images may as well be late."""
    return 0 if BEHIND_NS <= lead_ns <= AHEAD_NS else lead_ns


def offsets_ns(own: History, others: Sequence[History]) -> list[int]:
    """How far each image's stamp lies from the others' clocks (their middle) at its arrival; [] if nothing tells."""
    return [ahead[len(ahead) // 2] for ahead in _ahead_of_each(own, others)]


def usual_offset(own: History, others: Sequence[History]) -> int | None:
    """The middle one of `offsets_ns`; None where images came hastily or nothing tells."""
    offsets = offsets_ns(own, others) if keeps_pace(own, others) else []
    return median_low(offsets) if offsets else None


def clock_lead(own: History, others: Sequence[History]) -> int | None:
    """How far a camera's stamps run ahead of those of two thirds of the others, by their arrivals.

    Negative where they are behind two thirds of them; None where arrivals tell nothing. Two thirds, for where half a
    rig's images arrive late, the other half is not ahead.
    """
    leads = []
    for ahead in _ahead_of_each(own, others):
        most = 2 * len(ahead) // 3
        leads.append(max(ahead[len(ahead) - 1 - most], 0) or min(ahead[most], 0))
    return median_low(leads) if leads else None


def _ahead_of_each(own: History, others: Sequence[History]) -> list[list[int]]:
    """Per own image, by how much its stamp is ahead of each other camera's clock at its arrival; rising."""
    others = [history for history in others if history[0]]
    rate = playback_rate(others)
    if rate is None:
        return []
    images = zip(*own, strict=True)
    return [sorted(stamp - _time_at(history, arrival, rate) for history in others) for stamp, arrival in images]


def _time_at(history: History, arrival_ns: int, rate: float) -> int:
    """A camera's clock at a moment: between the stamps of its images around it, at this rate beyond them."""
    stamps, arrivals = history
    after = bisect_right(arrivals, arrival_ns)
    if 0 < after < len(arrivals):
        since_ns, lapse_ns = arrival_ns - arrivals[after - 1], arrivals[after] - arrivals[after - 1]
        return stamps[after - 1] + (stamps[after] - stamps[after - 1]) * since_ns // max(lapse_ns, 1)
    nearest = -1 if after else 0
    return stamps[nearest] + round(rate * (arrival_ns - arrivals[nearest]))


def playback_rate(histories: Sequence[History]) -> float | None:
    """Stamps' time over arrivals' time: 1 unless a bag is played slower or faster; None if arrivals stand still."""
    rates = [
        (stamps[-1] - stamps[0]) / (arrivals[-1] - arrivals[0])
        for stamps, arrivals in histories
        if stamps and arrivals[-1] > arrivals[0]
    ]
    rate = median(rates) if rates else 0.0
    return rate if rate > 0 else None
