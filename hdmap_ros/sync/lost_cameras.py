"""Where a camera that lost its phase, or never had one, is found among the cycles of the others.

Stamps tell a phase up to whole cycles, arrivals tell which one. Where it was before is tried first. A new clock is
believed only of images that keep pace: in a burst, arrivals say nothing, and the camera waits for its next images.
"""

from collections.abc import Sequence
from statistics import median_low
from typing import NamedTuple

from hdmap_ros.sync.camera_clocks import DELAY_NS, History, clock_error, clock_lead, keeps_pace, offsets_ns
from hdmap_ros.sync.camera_phases import Phase, find_phase
from hdmap_ros.sync.camera_state import HISTORY, Camera, Place

FIND_AFTER = 4
SURE_RATE = 0.8


class Surroundings(NamedTuple):
    """The rig around a lost camera: times of its cycles, the others' histories, and when its anchor fires."""

    refs_ns: Sequence[int]
    others: Sequence[History]
    anchor_ns: int
    window_ns: int
    period_ns: int
    max_spread_ns: int


class Found(NamedTuple):
    """A phase and how much of it is the clock's error; or, where no phase recurs, about where images are nearest."""

    phase_ns: int
    clock_ns: int
    recurs: bool = True


def is_fast(gap_ns: int, period_ns: int) -> bool:
    """Whether a camera fires several times in a cycle."""
    return 10 * gap_ns < 7 * period_ns


def half_period_ns(period_ns: int) -> int:
    """A little more than that, or a phase of half a period would be wrapped to and fro."""
    return 11 * period_ns // 20


def returned_to(camera: Camera, rig: Surroundings) -> Place | None:
    """Where its latest image lies as before the step: that was one odd image."""
    stamp_ns = camera.stamps[-1]
    offsets = offsets_ns(camera.latest(1), rig.others)
    if not offsets or stamp_ns <= camera.before[0][-1]:
        return None
    for place in _places(camera):
        on_time = any(2 * abs(stamp_ns - place.phase_ns - ref_ns) <= rig.window_ns for ref_ns in rig.refs_ns)
        if on_time and _is_at(place, offsets[0], rig.window_ns):
            return place
    return None


def search(camera: Camera, rig: Surroundings) -> Found | None:
    """The camera's place, from its images since it was lost; None if more must come."""
    latest = camera.latest(FIND_AFTER)
    offsets = offsets_ns(latest, rig.others)
    offset_ns, step_ns = (median_low(offsets) if offsets else None), camera.step_ns
    lead_ns = clock_lead((camera.stamps, camera.arrivals), rig.others) or 0
    steady = keeps_pace(latest, rig.others) and max(offsets) - min(offsets) <= rig.window_ns
    if offsets and not steady:
        if camera.tried < HISTORY:
            return None
        offset_ns, step_ns, lead_ns = None, 0, 0
    for place in _places(camera):
        caught_up = step_ns > 0 and (place.offset_ns or 0) < -DELAY_NS
        near = caught_up or _is_at(place, offset_ns, rig.window_ns)
        if near and (found := _find_near(camera, rig, place.phase_ns, rig.window_ns // 2)):
            return Found(found.phase_ns, place.clock_ns)
    expected_ns, told, reach_ns = _expected(camera, rig, offset_ns, step_ns, lead_ns)
    found = _find_near(camera, rig, expected_ns, reach_ns)
    if not found and lead_ns > 0:  # an uneven clock shows every wrong cycle
        found, told = _find_near(camera, rig, lead_ns, reach_ns), True
    home, phase_ns = camera.home, found.phase_ns if found else expected_ns
    wrong = told and home is not None and abs(expected_ns - home.right_ns) > rig.max_spread_ns
    if not found and (wrong or camera.tried < HISTORY):  # nobody knows what time a wrong clock shows
        return None
    if told:
        return Found(phase_ns, phase_ns - (home.right_ns if home else rig.anchor_ns), bool(found))
    return Found(phase_ns, home.clock_ns if home else 0, bool(found))


def _places(camera: Camera) -> list[Place]:
    return [place for place in (camera.home, camera.last) if place]


def _is_at(place: Place, offset_ns: int | None, tolerance_ns: int) -> bool:
    """Whether arrivals say that the stamps lie from the others' as they did there."""
    if offset_ns is None or place.offset_ns is None:
        return False
    return abs(offset_ns - place.offset_ns) <= tolerance_ns


def _expected(
    camera: Camera, rig: Surroundings, offset_ns: int | None, step_ns: int, lead_ns: int
) -> tuple[int, bool, int]:
    """Where to look for a phase, whether that is the clock's doing, and how far from there."""
    home, far_ns = camera.home, max(rig.max_spread_ns, half_period_ns(rig.period_ns))
    if home:
        moved_ns = step_ns if offset_ns is None else 0 if home.offset_ns is None else offset_ns - home.offset_ns
        if step_ns or abs(moved_ns) <= rig.period_ns:
            return home.phase_ns + moved_ns, True, far_ns
    if clock_error(lead_ns):
        return lead_ns, True, far_ns
    if home:
        return home.right_ns, False, far_ns
    return rig.anchor_ns, False, min(rig.max_spread_ns, half_period_ns(rig.period_ns))


def _find_near(camera: Camera, rig: Surroundings, expected_ns: int, reach_ns: int) -> Phase | None:
    if is_fast(camera.period_ns, rig.period_ns):
        return None
    known = camera.last is not None
    stamps = sorted(camera.latest(FIND_AFTER if known else HISTORY)[0])  # a clock of its own pace drifts meanwhile
    found = find_phase(rig.refs_ns, stamps, expected_ns, reach_ns, rig.window_ns // 2)
    enough = FIND_AFTER - 1 if known else FIND_AFTER + 1
    return found if found and found.rate >= SURE_RATE and found.hits >= enough else None
