"""When each camera fires within the rig's cycle, found from a few stamps.

The phase of a camera is the difference to the cycles' times that recurs: the one for which most images find a cycle.
On nuScenes' clock (cycles 50 or 100 ms apart) a difference that is wrong by one tick finds partners only in the short
cycles. Where several are equally good (a strictly regular rig) the one nearest to what is expected wins.

A pause between cycles that is longer than any within them shows the phases sooner: two cycles are enough.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from statistics import median_low
from typing import NamedTuple

_HITS = 3
_FAIR_RATE = 0.6
_STEADY_NS = 5_000_000


class Phase(NamedTuple):
    """A phase, the share of the stamps that have a cycle there, and how many these are."""

    phase_ns: int
    rate: float
    hits: int


def phases_at_pause(stamps_ns: Mapping[str, Sequence[int]], anchor: str, reach_ns: int) -> dict[str, int] | None:
    """The phases against the anchor's if the longest pause so far lies between two cycles; None if more must come.

    Beside such a pause a cycle lies whole: one image of every camera, no two of them half as far apart. It is believed
    if its phases bring all images into cycles at most 5 ms wide, at least two of them whole and all but the first and
    the last.

    Args:
        stamps_ns: camera -> its stamps, of all cameras.
        anchor: the camera whose phase is 0.
        reach_ns: how far from it a phase may lie.
    """
    number = len(stamps_ns)
    images = sorted((stamp_ns, name) for name, stamps in stamps_ns.items() for stamp_ns in stamps)
    gaps = [later[0] - earlier[0] for earlier, later in pairwise(images)]
    if len(images) < 2 * number or not max(gaps):
        return None
    begin = gaps.index(max(gaps)) + 1
    for cycle in (images[begin : begin + number], images[max(0, begin - number) : begin]):
        times = {name: stamp_ns for stamp_ns, name in cycle}
        inner_ns = max((later[0] - earlier[0] for earlier, later in pairwise(cycle)), default=0)
        if len(times) < number or 2 * inner_ns > max(gaps):
            continue
        phases = {name: stamp_ns - times[anchor] for name, stamp_ns in times.items()}
        if max(map(abs, phases.values())) <= reach_ns and _fit(images, phases):
            return phases
    return None


def _fit(images: Iterable[tuple[int, str]], phases: Mapping[str, int]) -> bool:
    groups: list[list[tuple[int, str]]] = []
    for ref_ns, name in sorted((stamp_ns - phases[name], name) for stamp_ns, name in images):
        if groups and ref_ns - groups[-1][0][0] <= _STEADY_NS:
            groups[-1].append((ref_ns, name))
        else:
            groups.append([(ref_ns, name)])
    whole = [len(group) == len({name for _, name in group}) == len(phases) for group in groups]
    return all(whole[1:-1]) and sum(whole) >= 2


def find_phase(
    refs_ns: Sequence[int], stamps_ns: Sequence[int], expected_ns: int, reach_ns: int, tolerance_ns: int
) -> Phase | None:
    """The phase of a camera; None where no difference recurs.

    Args:
        refs_ns: times of the cycles, rising.
        stamps_ns: the camera's stamps; those before the first or after the last cycle do not count.
        expected_ns: where the phase is looked for.
        reach_ns: and how far from there.
        tolerance_ns: how far a stamp may lie from the phase; less than half a cycle.
    """
    differences = [
        difference
        for stamp in stamps_ns
        for ref in refs_ns
        if abs((difference := stamp - ref) - expected_ns) <= reach_ns
    ]
    best: tuple[float, int] = (0.0, 0)
    members: list[int] = []
    for candidate in differences:
        near = [difference for difference in differences if abs(difference - candidate) <= tolerance_ns]
        first, last = refs_ns[0] + candidate - tolerance_ns, refs_ns[-1] + candidate + tolerance_ns
        possible = sum(first <= stamp <= last for stamp in stamps_ns)
        score = (len(near) / possible, -abs(candidate - expected_ns))
        if len(near) >= min(_HITS, len(refs_ns)) and (not members or score > best):
            best, members = score, near
    return Phase(median_low(members), best[0], len(members)) if members else None


def choose_reference(names: Sequence[str], gaps_ns: Mapping[str, int], anchor: str) -> str:
    """The anchor, unless it is silent or fires at quite another rate; then one that is like the others."""
    usual_ns = sorted(gaps_ns.values())[len(gaps_ns) // 2] if gaps_ns else 0
    if anchor in names and (not usual_ns or 7 * usual_ns <= 10 * gaps_ns.get(anchor, 0) <= 40 * usual_ns):
        return anchor
    return min(names, key=lambda name: abs(gaps_ns.get(name, 0) - usual_ns))


def learn_phases(
    stamps_ns: Mapping[str, Sequence[int]],
    reference: str,
    expected_ns: Mapping[str, int],
    reach_ns: int,
    window_ns: int,
) -> dict[str, Phase]:
    """The phases of all cameras that share a clock with the reference camera.

    First against the reference alone, then each against the cycles that the others agree on: there hardly a cycle is
    lost. Arguments as above; `expected_ns` is each camera's.
    """
    tolerance_ns = window_ns // 2
    refs = sorted(stamp - expected_ns[reference] for stamp in stamps_ns[reference])
    first = {reference: Phase(expected_ns[reference], 1.0, len(refs))}
    for name, stamps in stamps_ns.items():
        found = find_phase(refs, stamps, expected_ns[name], reach_ns, tolerance_ns) if name != reference else None
        if found and found.rate >= _FAIR_RATE:
            first[name] = found
    if len(first) == 1:
        return first
    result = {}
    for name, stamps in stamps_ns.items():
        others = (
            stamp - phase.phase_ns for other, phase in first.items() if other != name for stamp in stamps_ns[other]
        )
        found = find_phase(merge_refs(others, window_ns), stamps, expected_ns[name], reach_ns, tolerance_ns)
        if found and (found.rate >= _FAIR_RATE or name != reference):
            result[name] = found
        elif name == reference:
            result[name] = first[name]
    return result


def merge_refs(times_ns: Iterable[int], window_ns: int) -> list[int]:
    """One time per cycle, of the times that several cameras give for each."""
    groups: list[list[int]] = []
    for time_ns in sorted(times_ns):
        if groups and 5 * (time_ns - groups[-1][0]) <= 6 * window_ns:
            groups[-1].append(time_ns)
        else:
            groups.append([time_ns])
    return [sum(group) // len(group) for group in groups]


def usual_gaps(stamps_ns: Iterable[Iterable[int]]) -> tuple[int, int] | None:
    """The shortest usual and the median gap between two images of one camera; None without two.

    A tenth of the gaps may be shorter than the shortest usual one, so that stray images do not make it tiny.
    """
    gaps = sorted(later - earlier for stamps in stamps_ns for earlier, later in pairwise(stamps) if later > earlier)
    return (gaps[len(gaps) // 10], gaps[len(gaps) // 2]) if gaps else None
