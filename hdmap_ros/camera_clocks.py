"""Cameras whose clock is wrong, told by when their images arrive.

Stamps of a regular rig say a camera's time only up to whole cycles; which cycle an image belongs to, its arrival says.
An image may arrive late for many reasons, so only two signs are taken for a wrong clock: a step of the stamps that the
arrivals do not show, and stamps that run ahead of the other cameras' (or a second and more behind, which no pipeline
is). Arrivals count relative to each other, at whatever rate a bag is played.
"""

from collections.abc import Sequence
from itertools import pairwise
from statistics import median, median_low

AHEAD_NS = 150_000_000
BEHIND_NS = -1_000_000_000

History = tuple[Sequence[int], Sequence[int]]
"""Stamps and arrivals of one camera, oldest first."""


def clock_step(history: History, stamp_ns: int, arrival_ns: int, tolerance_ns: int) -> int:
    """By how much the camera's clock was set before this image; 0 if it was not, or nothing tells.

    A clock that was set makes an unusual gap to the image before by their stamps and a usual one by their arrivals. A
    late image, or the burst after it, does the contrary.
    """
    stamps, arrivals = history
    rate = playback_rate([history])
    if rate is None or len(stamps) < 3:
        return 0
    shift = shift_since(history, stamp_ns, arrival_ns, rate)
    if rate != 1.0:
        tolerance_ns += abs(stamp_ns - stamps[-1]) // 16  # a player's rate is known roughly
    if abs(shift) <= tolerance_ns:
        return 0
    usual = [later - earlier for earlier, later in pairwise(stamps)]
    by_stamp, by_arrival = stamp_ns - stamps[-1], rate * (arrival_ns - arrivals[-1])
    odd = min(abs(by_stamp - gap) for gap in usual)
    stepped = 2 * odd > tolerance_ns and odd > min(abs(by_arrival - gap) for gap in usual)
    return shift if stepped else 0


def shift_since(history: History, stamp_ns: int, arrival_ns: int, rate: float) -> int:
    """Stamp minus arrival of an image against what it was in the past, robustly."""
    pairs = zip(*history, strict=True)
    return median_low(
        stamp_ns - stamp - (arrival_ns - arrival if rate == 1.0 else round(rate * (arrival_ns - arrival)))
        for stamp, arrival in pairs
    )


def clock_lead(own: History, others: Sequence[History]) -> int | None:
    """How far a camera's stamps run ahead of those of two thirds of the others, by their arrivals.

    Negative where they are behind two thirds of them; None where arrivals tell nothing. Two thirds, for where half a
    rig's images arrive late, the other half is not ahead.
    """
    others = [history for history in others if history[0]]
    rate = playback_rate(others)
    if rate is None or not own[0]:
        return None
    stamp_ns, arrival_ns = others[0][0][-1], others[0][1][-1]
    leads = sorted(-shift_since(history, stamp_ns, arrival_ns, rate) for history in others)
    lead = -shift_since(own, stamp_ns, arrival_ns, rate)
    most = 2 * len(leads) // 3
    return max(lead - leads[most], 0) or min(lead - leads[len(leads) - 1 - most], 0)


def playback_rate(histories: Sequence[History]) -> float | None:
    """Stamps' time over arrivals' time: 1 unless a bag is played slower or faster; None if arrivals stand still."""
    rates = []
    for stamps, arrivals in histories:
        half = len(stamps) // 2
        for first in range(len(stamps) - half if half else 0):
            lapse_ns = arrivals[first + half] - arrivals[first]
            if lapse_ns > 0:
                rates.append((stamps[first + half] - stamps[first]) / lapse_ns)
    rate = median(rates) if rates else 0.0
    if rate <= 0:
        return None
    return 1.0 if 0.75 <= rate <= 1.33 else rate
