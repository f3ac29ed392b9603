"""Rigs whose clocks step, drift, jitter and lie, against the true cycles of `rig_simulator.py`."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hdmap_ros.sync.image_sets import ImageSet, SyncConfig
from hdmap_ros.sync.synchronizer import CycleSynchronizer

MS = 1_000_000
RELEARN_S = 2.0
TRIGGERED = {"phases": (0.0, 7.0, 14.0, 21.0, 28.0, 35.0), "period": 100.0}
NUSCENES: Mapping[str, Any] = {}
ANCHOR = 1


def synchronizer(rig: Any, min_cameras: int = 5, **changes: Any) -> CycleSynchronizer:
    return CycleSynchronizer(
        SyncConfig(rig.cameras, rig.cameras[min(ANCHOR, len(rig.cameras) - 1)], min_cameras, **changes)
    )


def settled(simulator: Any, ready: list[ImageSet], *events_s: float) -> list[ImageSet]:
    """Without the sets of the two seconds after each event."""
    return [
        entry
        for entry in ready
        if not any(event <= simulator.seconds_of(entry) + 0.05 < event + RELEARN_S for event in events_s)
    ]


@pytest.mark.parametrize("shift_ms", [25, 40, -40, 60, -60, 90, 150, 200, -150, -300, 400, -3000, 3_600_000])
@pytest.mark.parametrize("camera", [ANCHOR, 3])
@pytest.mark.parametrize("kind", [TRIGGERED, NUSCENES], ids=["triggered", "nuscenes"])
def test_a_step_of_one_clock_is_learnt_in_two_seconds(
    simulator: Any, kind: Mapping[str, Any], camera: int, shift_ms: float
) -> None:
    rig = simulator.Rig(**kind, seconds=14, steps=((camera, 5.0, shift_ms),))
    sync = synchronizer(rig)
    images = rig.images()
    ready = simulator.play(sync, images)
    cycles = simulator.possible(images, 5)
    assert len(ready) >= len(cycles) - 2  # the other five go on
    good = settled(simulator, ready, 5.0)
    assert all(entry.complete and not simulator.mixed(entry) for entry in good)
    assert sum(simulator.mixed(entry) for entry in ready) <= 3
    assert max(entry.spread_ns for entry in good) <= 111 * MS
    assert set(sync.statistics.moved) == {f"C{camera}"}
    move = sync.statistics.last_move
    assert move is not None and move.shift_ns == pytest.approx(shift_ms * MS, abs=15 * MS)


@pytest.mark.parametrize("shift_ms", [-450, -300, -40, 40, 300, 10_000])
def test_a_step_of_the_whole_rig_costs_at_most_itself(simulator: Any, shift_ms: float) -> None:
    """Output goes on when its stamps are past the newest one again: they never go back within `jump_ns`."""
    rig = simulator.Rig(**TRIGGERED, seconds=10, steps=((-1, 5.0, shift_ms),))
    ready = simulator.play(synchronizer(rig, 6), rig.images())
    assert len(ready) >= 100 - max(0, -shift_ms / 100) - 2
    assert not any(simulator.mixed(entry) for entry in ready)
    stamps = [entry.stamp_ns for entry in ready]
    assert stamps == sorted(set(stamps))


@pytest.mark.parametrize("kind", [TRIGGERED, NUSCENES, {"phases": (0.0,) * 6, "period": 100.0}])
@pytest.mark.parametrize("seed", range(4))
def test_no_backlog_builds_up_while_phases_are_learnt(simulator: Any, kind: Mapping[str, Any], seed: int) -> None:
    """What waits behind one another for the phases is late by as much when it is mapped: two sets, not six."""
    rig = simulator.Rig(**kind, seconds=4, seed=seed)
    sync = synchronizer(rig, 6)
    bursts = [sync.add(image.camera, image.stamp_ns, image.truth, image.arrival_ns) for image in rig.images()]
    assert max(map(len, bursts)) == 2
    assert sum(map(len, bursts)) == len(simulator.possible(rig.images(), 6))
    first = next(burst for burst in bursts if burst)
    assert 60 * MS <= first[0].held_ns <= 200 * MS, "a set says how long its last image has been waiting"
    assert all(entry.held_ns == 0 for burst in bursts for entry in burst if entry not in first)


@pytest.mark.parametrize("ahead_ms", [200, 300, 1000, 3_600_000, -86_400_000])
@pytest.mark.parametrize("camera", [ANCHOR, 4])
@pytest.mark.parametrize("kind", [TRIGGERED, NUSCENES], ids=["triggered", "nuscenes"])
def test_a_wrong_clock_is_told_by_the_arrivals_and_mended(
    simulator: Any, kind: Mapping[str, Any], camera: int, ahead_ms: float
) -> None:
    rig = simulator.Rig(**kind, seconds=8, clocks={camera: ahead_ms})
    images = rig.images()
    sync = synchronizer(rig, 6)
    ready = simulator.play(sync, images)
    assert len(ready) == len(simulator.possible(images, 6))
    assert not any(simulator.mixed(entry) for entry in ready)
    assert sync.statistics.late == 0
    assert max(entry.spread_ns for entry in ready) <= 60 * MS
    truths = [truth.exposure_ns for entry in ready for truth in (entry.messages[rig.cameras[ANCHOR]],)]
    assert max(abs(entry.stamp_ns - truth) for entry, truth in zip(ready, truths, strict=True)) <= 60 * MS


@pytest.mark.parametrize("kind", [TRIGGERED, NUSCENES], ids=["triggered", "nuscenes"])
@pytest.mark.parametrize("camera", [ANCHOR, 2])
def test_a_camera_that_arrives_late_holds_nobody_back(simulator: Any, kind: Mapping[str, Any], camera: int) -> None:
    rig = simulator.Rig(**kind, seconds=10, delays={camera: 320.0})
    images = rig.images()
    sync = synchronizer(rig)
    ready = simulator.play(sync, images)
    assert len(ready) >= len(simulator.possible(images, 5)) - 1
    assert not any(simulator.mixed(entry) for entry in ready)
    assert set(sync.statistics.late_by_camera) == {f"C{camera}"}
    later = [entry for entry in ready if 2.0 < simulator.seconds_of(entry) < 9.5]
    assert max(entry.waited_ns for entry in later) <= 200 * MS
    patient = simulator.play(synchronizer(rig, timeout_ns=400 * MS), images)
    assert sum(entry.complete for entry in patient) >= len(simulator.possible(images, 6)) - 3
    assert not any(simulator.mixed(entry) for entry in patient)


@pytest.mark.parametrize("ppm", [20, 75, 1000, 5000])
def test_free_running_cameras_are_joined_by_nearness(simulator: Any, ppm: float) -> None:
    rates = {index: ppm * 1e-6 * share for index, share in enumerate((-1, 1, 0.3, -0.5, 0.9, -0.2))}
    rig = simulator.Rig((3.0, 40.0, 95.0, 61.0, 20.0, 80.0), 100.0, 60.0, rates)
    images = rig.images()
    ready = simulator.play(synchronizer(rig), images)
    assert len(ready) >= 598
    assert sum(entry.complete for entry in ready) >= 600 - 2 - 4 * 60 * 10 * 2 * ppm * 1e-6
    for entry in ready[::7]:
        if "C1" in entry.messages:
            assert simulator.excess_ns(images, entry, "C1") <= 25 * MS


@pytest.mark.parametrize(
    ("rates", "share"),
    [
        ({2: 2 / 3}, 0.9),
        ({0: 2 / 3, 2: 2 / 3, 3: 2 / 3, 4: 2 / 3, 5: 2 / 3}, 0.9),
        ({0: 1 / 3, 2: 1 / 3, 3: 1 / 3, 4: 1 / 3, 5: 1 / 3}, 0.9),
        ({1: 1 / 2}, 0.45),
    ],
    ids=["one at 30 Hz", "all but the anchor at 30 Hz", "all but the anchor at 15 Hz", "the anchor at 20 Hz"],
)
def test_cameras_of_other_rates(simulator: Any, rates: Mapping[int, float], share: float) -> None:
    rig = simulator.Rig((3.0, 40.0, 25.0, 61.0, 20.0, 30.0), 100.0, 20.0, rates)
    images = rig.images()
    ready = simulator.play(synchronizer(rig), images)
    anchors = sum(image.camera == "C1" for image in images)
    assert sum(entry.complete for entry in ready) >= share * anchors
    assert max(simulator.excess_ns(images, entry, "C1") for entry in ready[::5] if "C1" in entry.messages) <= 10 * MS


def test_stamps_on_arrival_with_ten_milliseconds_of_jitter(simulator: Any) -> None:
    rig = simulator.Rig((0.0,) * 6, 100.0, 60.0, jitter=10.0)
    ready = simulator.play(synchronizer(rig, 6), rig.images())
    assert len(ready) >= 585
    assert not any(simulator.mixed(entry) for entry in ready)


@pytest.mark.parametrize("seed", range(8))
def test_staggered_firing_never_mixes_at_heavy_loss(simulator: Any, seed: int) -> None:
    rig = simulator.Rig(seconds=30, loss=0.2, seed=seed)
    images = rig.images()
    ready = simulator.play(synchronizer(rig, 4), images)
    assert not any(simulator.mixed(entry) for entry in ready)
    assert len(ready) >= len(simulator.possible(images, 4)) - 3


@pytest.mark.parametrize("begin", [-1.0, 5.0])
def test_a_dead_anchor(simulator: Any, begin: float) -> None:
    for kind in (TRIGGERED, NUSCENES):
        rig = simulator.Rig(**kind, pauses=((ANCHOR, begin, 12.0),))
        images = rig.images()
        ready = simulator.play(synchronizer(rig), images)
        assert len(ready) >= len(simulator.possible(images, 5)) - 1
        assert not any(simulator.mixed(entry) for entry in ready)
        assert all(entry.complete for entry in ready if simulator.seconds_of(entry) > 14.0)


def test_a_restart_brings_another_phase(simulator: Any) -> None:
    rig = simulator.Rig(**TRIGGERED, pauses=((3, 5.0, 8.0),), steps=((3, 5.0, 31.0),))
    sync = synchronizer(rig)
    ready = simulator.play(sync, rig.images())
    assert len(ready) == 200
    assert all(entry.complete for entry in settled(simulator, ready, 5.0, 7.0, 8.0))
    assert list(sync.statistics.moved) == ["C3"]


def test_three_of_six_clocks_step_together(simulator: Any) -> None:
    """Two computers with three cameras each."""
    rig = simulator.Rig(**TRIGGERED, steps=tuple((index, 5.0, 60.0) for index in (0, 1, 2)))
    ready = simulator.play(synchronizer(rig), rig.images())
    good = settled(simulator, ready, 5.0)
    assert len(good) >= 178
    assert all(entry.complete and not simulator.mixed(entry) for entry in good)


def test_half_a_rig_that_is_late_does_not_make_the_other_half_ahead(simulator: Any) -> None:
    rig = simulator.Rig(**TRIGGERED, delays={0: 320.0, 2: 320.0, 4: 320.0})
    ready = simulator.play(synchronizer(rig, 3), rig.images())
    assert len(ready) >= 198
    assert not any(simulator.mixed(entry) for entry in ready)


def test_two_cameras_one_of_which_steps(simulator: Any) -> None:
    for camera in (0, 1):
        rig = simulator.Rig((0.0, 20.0), 100.0, steps=((camera, 5.0, 40.0),))
        ready = simulator.play(synchronizer(rig, 2), rig.images())
        assert len(settled(simulator, ready, 5.0)) == 180
        assert not any(simulator.mixed(entry) for entry in ready)


def test_late_images_and_bursts_are_no_steps(simulator: Any) -> None:
    rig = simulator.Rig(delay_jitter=25.0)
    images = rig.images()
    sync = synchronizer(rig, 6)
    ready = simulator.play(sync, images)
    assert len(ready) >= len(simulator.possible(images, 6)) - 3
    assert not sync.statistics.moved


def test_a_camera_with_two_publishers_resets_nothing(simulator: Any) -> None:
    """Two drivers on one topic, their clocks a second apart: to and fro for ever."""
    rig = simulator.Rig(**TRIGGERED)
    images = [
        image._replace(stamp_ns=image.stamp_ns - 1000 * MS) if image.camera == "C4" and image.truth.cycle % 2 else image
        for image in rig.images()
    ]
    sync = synchronizer(rig)
    ready = simulator.play(sync, images)
    assert sync.statistics.resets == 0
    assert len(ready) >= 198


def test_one_odd_stamp_costs_one_image_and_nothing_returns_when_the_bag_loops(simulator: Any) -> None:
    rig = simulator.Rig(**TRIGGERED, seconds=6, loops=2)
    images = [
        image._replace(stamp_ns=image.stamp_ns + 330 * MS) if (image.camera, image.truth.cycle) == ("C3", 20) else image
        for image in rig.images()
    ]
    sync = synchronizer(rig)
    ready = simulator.play(sync, images)
    assert [entry.missing for entry in ready if not entry.complete] == [("C3",)]
    assert len(ready) == 120
    used = [(camera, truth) for entry in ready for camera, truth in entry.messages.items()]
    assert len(used) == len(set(used))
    assert sync.statistics.unplaced == 1
    assert not sync.statistics.moved


@pytest.mark.parametrize("seconds", [0.8, 1.2, 4.0])
@pytest.mark.parametrize("kind", [TRIGGERED, NUSCENES], ids=["triggered", "nuscenes"])
def test_a_short_recording_that_loops_is_mapped_in_every_round(
    simulator: Any, kind: Mapping[str, Any], seconds: float
) -> None:
    """Its stamps are still remembered when they come again; that they jump back tells them from duplicates."""
    rig = simulator.Rig(**kind, seconds=seconds, loops=5)
    sync = synchronizer(rig, min_cameras=6)
    ready = simulator.play(sync, rig.images())
    assert len(ready) == 5 * int(seconds * 1000 / rig.mean_period)
    assert (sync.statistics.resets, sync.statistics.duplicate) == (4, 0)


@st.composite
def rigs(draw: st.DrawFn) -> tuple[dict[str, Any], list[float]]:
    """Parameters of a triggered rig with up to three troubles, and the moments at which they begin or end."""
    number = draw(st.integers(3, 6))
    camera = st.integers(0, number - 1)
    period = draw(st.sampled_from([0.0, 50.0, 100.0, 200.0]))
    spread = 42.0 if period == 0.0 else min(40.0, 0.4 * period)
    phases = tuple(draw(st.lists(st.floats(0, spread), min_size=number, max_size=number)))
    rig: dict[str, Any] = {"phases": phases, "period": period, "seconds": 16.0, "seed": draw(st.integers(0, 99))}
    rig["jitter"] = draw(st.floats(0, 2.0))
    rig["loss"] = draw(st.sampled_from([0.0, 0.02, 0.1]))
    rig["delay_jitter"] = draw(st.floats(0, 15.0))
    rig["playback"] = draw(st.sampled_from([0.5, 1.0, 1.0, 2.0]))
    events: list[float] = []
    trouble = draw(
        st.sampled_from(["none", "step", "pause", "restart", "all pause", "clock", "delay", "loop", "drift"])
    )
    who = draw(camera)
    if trouble in ("step", "restart"):
        shift = draw(st.sampled_from([-700.0, -300.0, -20.0, 12.0, 20.0, 300.0, 700.0, 5000.0]))
        rig["steps"] = ((who, 5.0, shift if trouble == "step" else max(-20.0, min(20.0, shift))),)
        events.append(5.0)
    if trouble in ("pause", "restart", "all pause"):
        rig["pauses"] = ((-1 if trouble == "all pause" else who, 5.0, 8.0),)
        events += [5.0, 8.0]
    if trouble == "clock":
        rig["clocks"] = {who: draw(st.sampled_from([250.0, 1000.0, 1e6]))}
    if trouble == "delay":
        rig["delays"] = {who: draw(st.sampled_from([320.0, 600.0]))}
    if trouble == "loop":
        rig["loops"], rig["seconds"] = 3, 6.0
    if trouble == "drift":
        rig["rates"] = {who: draw(st.floats(-1e-4, 1e-4))}
    return rig, events


@settings(max_examples=80, deadline=None)
@given(drawn=rigs(), missing=st.integers(1, 2))
def test_whatever_happens_cycles_stay_apart_and_output_goes_on(
    simulator: Any, drawn: tuple[dict[str, Any], list[float]], missing: int
) -> None:
    parameters, events = drawn
    rig = simulator.Rig(**parameters)
    min_cameras = max(1, len(rig.phases) - missing)
    sync = synchronizer(rig, min_cameras)
    images = rig.images()
    ready = simulator.play(sync, images)

    used = [(camera, truth) for entry in ready for camera, truth in entry.messages.items()]
    assert len(used) == len(set(used))
    statistics = sync.statistics
    assert statistics.complete + statistics.partial == len(ready)
    assert all(len(entry.messages) >= min_cameras for entry in ready)
    backwards = sum(later.stamp_ns <= earlier.stamp_ns for earlier, later in pairwise(ready))
    assert backwards <= statistics.resets == rig.loops - 1

    good = settled(simulator, ready, *events)
    assert not any(simulator.mixed(entry) for entry in good)
    assert sum(simulator.mixed(entry) for entry in ready) <= 3
    late = {f"C{index}" for index in rig.delays}
    cycles = simulator.possible([image for image in images if image.camera not in late], min_cameras)
    assert len(ready) >= 0.97 * len(cycles) - 15  # the first second, where few images came
