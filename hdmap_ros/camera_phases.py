"""When each camera fires within the rig's cycle, learnt from a few stamps.

The phase of a camera against a reference camera is the difference of stamps that recurs: the one for which most
reference images find a partner. On nuScenes' clock (cycles 50 or 100 ms apart) a difference that is wrong by one
tick finds partners only in the short cycles. Where two differences are equally good (a strictly regular rig) the
smaller one wins: the images then lie closest together.
"""

from collections.abc import Collection, Mapping
from itertools import pairwise
from statistics import median_low

FREE = 1 << 62
"""The phase of a camera that has none: it runs on a clock of its own."""

_MIN_HIT_RATE = 0.6


def learn_phases(
    stamps_ns: Mapping[str, Collection[int]], anchor: str, max_phase_ns: int, tolerance_ns: int
) -> dict[str, int]:
    """The phase of every camera that has stamps; `FREE` for those without a common clock.

    Args:
        stamps_ns: camera -> its latest stamps.
        anchor: the camera phases are measured against, unless it has far fewer stamps than another one.
        max_phase_ns: differences beyond this are not considered.
        tolerance_ns: how far a partner may lie from the difference.
    """
    reference = max(stamps_ns, key=lambda name: (len(stamps_ns[name]), name == anchor))
    if 2 * len(stamps_ns.get(anchor, ())) >= len(stamps_ns[reference]):
        reference = anchor
    phases = {reference: 0}
    for name, stamps in stamps_ns.items():
        if name != reference and stamps:
            phases[name] = _phase(sorted(stamps_ns[reference]), sorted(stamps), max_phase_ns, tolerance_ns)
    return phases


def matching_window(stamps_ns: Mapping[str, Collection[int]], window_ns: int) -> int:
    """`window_ns`, or less for rigs whose cycles follow each other so fast that it would span two."""
    gaps = sorted(later - earlier for stamps in map(sorted, stamps_ns.values()) for earlier, later in pairwise(stamps))
    if not gaps:
        return window_ns
    short_gap = gaps[len(gaps) // 4]  # not the minimum, which one stray image would make tiny
    return min(window_ns, short_gap * 48 // 100)


def _phase(reference: list[int], stamps: list[int], max_phase_ns: int, tolerance_ns: int) -> int:
    differences = [stamp - ref for ref in reference for stamp in stamps if abs(stamp - ref) <= max_phase_ns]
    best: tuple[int, int] = (0, 0)
    members: list[int] = []
    for candidate in differences:
        near = [difference for difference in differences if abs(difference - candidate) <= tolerance_ns]
        score = (len(near), -abs(candidate))
        if not members or score > best:
            best, members = score, near
    # A camera that fires less often than the reference still has a phase: count against the rarer of the two.
    if len(members) < _MIN_HIT_RATE * min(len(reference), len(stamps)):
        return FREE
    return median_low(members)
