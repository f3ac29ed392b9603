"""Phases from a few stamps."""

import random

import pytest

from hdmap_ros.sync.camera_phases import find_phase, learn_phases, merge_refs, phases_at_pause, usual_gaps

MS = 1_000_000
UNEVEN = [(index * 5 // 3) * 50 * MS for index in range(12)]


def test_an_uneven_clock_leaves_one_phase() -> None:
    """A phase that is wrong by one tick finds cycles only where the gap is short."""
    found = find_phase(UNEVEN, [ref + 43 * MS for ref in UNEVEN], 0, 60 * MS, 12 * MS)
    assert found == (43 * MS, 1.0, 12)


def test_a_regular_clock_leaves_the_nearest_to_what_is_expected() -> None:
    refs = [index * 100 * MS for index in range(12)]
    stamps = [ref + 40 * MS for ref in refs]
    for expected, phase in ((0, 40), (100, 140), (-90, -60), (500, 540)):
        found = find_phase(refs, stamps, expected * MS, 60 * MS, 24 * MS)
        assert found is not None
        assert found.phase_ns == phase * MS


def test_lost_images_do_not_count_against_a_phase_that_the_others_confirm() -> None:
    chance = random.Random(1)
    true = {"a": 0, "b": 8, "c": 16, "d": 33, "e": 43}
    stamps = {name: [ref + phase * MS for ref in UNEVEN if chance.random() > 0.25] for name, phase in true.items()}
    found = learn_phases(stamps, "b", dict.fromkeys(true, 0), 55 * MS, 24 * MS)
    assert {name: phase.phase_ns - found["b"].phase_ns for name, phase in found.items()} == {
        name: (phase - 8) * MS for name, phase in true.items()
    }


def test_a_camera_without_common_clock_has_no_phase() -> None:
    stamps = {"a": [i * 100 * MS for i in range(12)], "b": [i * 137 * MS for i in range(12)]}
    found = learn_phases(stamps, "a", {"a": 0, "b": 0}, 60 * MS, 48 * MS)
    assert found["a"] == (0, 1.0, 12)
    assert "b" not in found or found["b"].rate < 0.7


def test_times_of_one_cycle_become_one() -> None:
    assert merge_refs([0, 2 * MS, 50 * MS, 100 * MS, 104 * MS], 24 * MS) == [MS, 50 * MS, 102 * MS]


def test_stray_images_do_not_make_the_usual_gap_tiny() -> None:
    regular = [index * 100 * MS for index in range(12)]
    assert usual_gaps([regular, sorted([*regular, 30 * MS])]) == (100 * MS, 100 * MS)
    assert usual_gaps([UNEVEN]) == (50 * MS, 100 * MS)
    assert usual_gaps([[5]]) is None


STAGGERED = {"a": -8 * MS, "b": 0, "c": 8 * MS, "d": 25 * MS, "e": 34 * MS}


def rig(refs: list[int], phases: dict[str, int] = STAGGERED, wobble_ns: int = 0) -> dict[str, list[int]]:
    chance = random.Random(2)
    return {
        name: [ref + phase + chance.randint(-wobble_ns, wobble_ns) for ref in refs] for name, phase in phases.items()
    }


def test_two_cycles_and_the_pause_between_them_show_the_phases() -> None:
    refs = [0, 50 * MS, 150 * MS]  # a pause of 8 ms, then one of 58 ms
    assert phases_at_pause(rig(refs[:2]), "b", 60 * MS) is None, "as long as the gaps between the cameras"
    assert phases_at_pause(rig(refs), "b", 60 * MS) == STAGGERED
    assert phases_at_pause(rig(refs[1:]), "b", 60 * MS) == STAGGERED
    assert phases_at_pause(rig(refs), "b", 30 * MS) is None, "too far from the anchor"


@pytest.mark.parametrize("begin", range(5))
def test_a_recording_may_begin_within_a_cycle(begin: int) -> None:
    stamps = rig([0, 50 * MS, 150 * MS, 200 * MS])
    images = sorted((stamp, name) for name, values in stamps.items() for stamp in values)[begin:]
    for end in range(2 * len(STAGGERED), len(images) + 1):
        seen = {name: [stamp for stamp, other in images[:end] if other == name] for name in STAGGERED}
        assert phases_at_pause(seen, "b", 60 * MS) in (None, STAGGERED)
    assert phases_at_pause(seen, "b", 60 * MS) == STAGGERED


def test_a_pause_is_not_believed_where_images_are_missing_or_unsteady() -> None:
    refs = [index * 100 * MS for index in range(4)]
    lost = rig(refs)
    del lost["d"][1]
    assert phases_at_pause(lost, "b", 60 * MS) is None
    assert phases_at_pause(rig(refs, wobble_ns=12 * MS), "b", 60 * MS) is None
    assert phases_at_pause(rig(refs, {name: 20 * MS * i for i, name in enumerate("abcde")}), "b", 90 * MS) is None
    twice = rig(refs) | {"a": [half for ref in refs for half in (ref - 8 * MS, ref + 42 * MS)]}
    assert phases_at_pause(twice, "b", 60 * MS) is None, "one camera fires twice as often"
