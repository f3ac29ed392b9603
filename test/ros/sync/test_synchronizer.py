"""The synchroniser on nuScenes' pattern: 12 of 20 ticks of a 50 ms clock, six cameras staggered over 42.6 ms."""

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hdmap_ros.sync.image_sets import ImageSet, SyncConfig
from hdmap_ros.sync.synchronizer import MAX_OPEN_CYCLES, CycleSynchronizer

MS = 1_000_000


PHASES = {
    "FRONT_LEFT": 0,
    "FRONT": 7_600_000,
    "FRONT_RIGHT": 15_500_000,
    "BACK_RIGHT": 23_100_000,
    "BACK": 32_700_000,
    "BACK_LEFT": 42_600_000,
}


CAMERAS = tuple(PHASES)


START = 1_532_402_927_604_844_000


def config(**changes: Any) -> SyncConfig:
    return SyncConfig(**{"cameras": CAMERAS, "anchor": "FRONT", "min_cameras": 1, **changes})


def ticks(number: int) -> list[int]:
    return [START + (index * 5 // 3) * 50 * MS for index in range(number)]


def images(number: int, jitter: int = 0, seed: int = 0) -> list[tuple[str, int, int]]:
    """Camera, stamp and number of the cycle, in the order of exposure."""
    wobble = random.Random(seed)
    events = [
        (camera, tick + phase + wobble.randint(-jitter, jitter), cycle)
        for cycle, tick in enumerate(ticks(number))
        for camera, phase in PHASES.items()
    ]
    return sorted(events, key=lambda event: event[1])


def run(sync: CycleSynchronizer, events: list[tuple[str, int, int]], delay: int = 5 * MS) -> list[ImageSet]:
    """Everything through `add` and `poll` on the stamps' own clock; the messages are the cycles' numbers."""
    ready: list[ImageSet] = []
    for camera, stamp, cycle in events:
        ready += sync.poll(stamp + delay)
        ready += sync.add(camera, stamp, cycle, stamp + delay)
    return ready + sync.flush()


def cycles(image_set: ImageSet) -> set[int]:
    return set(image_set.messages.values())


def test_every_cycle_becomes_one_complete_set() -> None:
    sync = CycleSynchronizer(config(min_cameras=6))
    ready = run(sync, images(60))
    assert [cycles(entry) for entry in ready] == [{cycle} for cycle in range(60)]
    assert all(entry.complete and entry.spread_ns == 42_600_000 for entry in ready)
    assert [entry.stamp_ns for entry in ready] == [tick + PHASES["FRONT"] for tick in ticks(60)]
    assert sync.statistics.complete == 60


def test_phases_are_learnt_on_the_uneven_clock() -> None:
    sync = CycleSynchronizer(config())
    run(sync, images(10, jitter=300_000))
    learnt = {name: camera.phase_ns for name, camera in sync._rig.cameras.items()}
    for camera, phase in PHASES.items():
        assert learnt[camera] - learnt["FRONT"] == pytest.approx(phase - PHASES["FRONT"], abs=MS)


def test_one_lost_anchor_image_costs_nothing_but_itself() -> None:
    """The case in which a plain slop of 0.1 s mixes two cycles for ever."""
    events = [event for event in images(40) if event[0] != "FRONT" or event[2] != 12]
    ready = run(CycleSynchronizer(config()), events)
    assert all(len(cycles(entry)) == 1 for entry in ready)
    partial = [entry for entry in ready if not entry.complete]
    assert [entry.missing for entry in partial] == [("FRONT",)]
    assert partial[0].stamp_ns == pytest.approx(ticks(40)[12] + PHASES["FRONT"], abs=MS)  # when it was due
    assert len(ready) == 40


def test_sets_below_min_cameras_are_counted_not_delivered() -> None:
    events = [event for event in images(30) if event[0] != "BACK" or event[2] % 3]
    sync = CycleSynchronizer(config(min_cameras=6))
    ready = run(sync, events)
    assert len(ready) == sync.statistics.complete == 20
    assert sync.statistics.incomplete == 10
    assert sync.statistics.missing == {"BACK": 10}


@pytest.mark.parametrize("dead", CAMERAS)
def test_a_dead_camera_never_blocks(dead: str) -> None:
    ready = run(CycleSynchronizer(config(min_cameras=5)), [event for event in images(40) if event[0] != dead])
    assert len(ready) == 40
    assert all(entry.missing == (dead,) and len(cycles(entry)) == 1 for entry in ready)


def test_a_camera_that_joins_late_is_used() -> None:
    events = [event for event in images(60) if event[0] != "BACK_LEFT" or event[2] >= 30]
    ready = run(CycleSynchronizer(config()), events)
    assert ready[-1].complete
    assert all(len(cycles(entry)) == 1 for entry in ready)


def test_stamps_that_jump_back_start_anew() -> None:
    sync = CycleSynchronizer(config(min_cameras=6))
    first = run(sync, images(20))
    again = run(sync, images(20))
    assert len(first) == len(again) == 20
    assert sync.statistics.resets == 1


def test_a_set_is_handed_on_when_its_time_is_up() -> None:
    sync = CycleSynchronizer(config())
    run(sync, images(20))
    last = images(21)[-6:-2]
    for camera, stamp, cycle in last:
        assert sync.add(camera, stamp, cycle, stamp) == []
    first_ns, newest_ns = last[0][1], last[-1][1]
    assert sync.poll(newest_ns + 74 * MS) == []
    (ready,) = sync.poll(newest_ns + 75 * MS)
    assert ready.missing == ("BACK", "BACK_LEFT")
    assert (ready.waited_ns, ready.held_ns) == (newest_ns + 75 * MS - first_ns, 75 * MS)


def test_a_single_frame_is_delivered_after_silence() -> None:
    sync = CycleSynchronizer(config(min_cameras=6))
    for camera, stamp, cycle in images(1):
        assert sync.add(camera, stamp, cycle, stamp) == []
    (ready,) = sync.poll(START + 400 * MS)
    assert ready.complete


def test_late_and_duplicate_images_are_dropped() -> None:
    sync = CycleSynchronizer(config(min_cameras=6))
    run(sync, images(20))
    camera, stamp, cycle = images(20)[-1]
    assert sync.add(camera, stamp, cycle, stamp) == []
    assert sync.statistics.duplicate == 1
    assert sync.add("FRONT", stamp - 20 * MS, cycle, stamp) == []
    assert sync.statistics.late == 1


def test_hardware_triggered_cameras_with_equal_stamps() -> None:
    events = [(camera, START + cycle * 100 * MS, cycle) for cycle in range(20) for camera in CAMERAS]
    ready = run(CycleSynchronizer(config(min_cameras=6)), events)
    assert len(ready) == 20
    assert all(entry.spread_ns == 0 for entry in ready)


def test_fast_cameras_do_not_merge_cycles() -> None:
    events = [
        (camera, START + cycle * 16 * MS + 2 * MS * i, cycle) for cycle in range(60) for i, camera in enumerate("abc")
    ]
    settings_ = SyncConfig(("a", "b", "c"), "a", 3)
    ready = run(CycleSynchronizer(settings_), events)
    assert [cycles(entry) for entry in ready] == [{cycle} for cycle in range(60)]


def test_a_camera_on_its_own_clock_joins_by_nearness() -> None:
    fixed = [(camera, stamp, cycle) for camera, stamp, cycle in images(60) if camera != "BACK"]
    free = [("BACK", START + index * 31 * MS, index) for index in range(160)]
    sync = CycleSynchronizer(config())
    ready = run(sync, sorted(fixed + free, key=lambda event: event[1]))
    joined = [entry for entry in ready if "BACK" in entry.stamps_ns]
    assert len(joined) > 40
    assert all(abs(entry.stamps_ns["BACK"] - entry.stamp_ns) <= sync.config.max_spread_ns for entry in joined)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_losses_whatever_mix_cycles(data: st.DataObject) -> None:
    """After any losses, delays and repetitions: no set mixes cycles, none uses an image twice, stamps increase."""
    events = images(40, jitter=data.draw(st.integers(0, 2 * MS)), seed=data.draw(st.integers(0, 9)))
    lost = data.draw(st.sets(st.integers(0, len(events) - 1), max_size=80))
    twice = data.draw(st.sets(st.integers(0, len(events) - 1), max_size=20))
    kept = [event for index, event in enumerate(events) if index not in lost for _ in range(1 + (index in twice))]
    sync = CycleSynchronizer(config(min_cameras=data.draw(st.integers(1, 6))))
    ready = run(sync, kept)
    assert all(len(cycles(entry)) == 1 for entry in ready)
    used = [(camera, stamp) for entry in ready for camera, stamp in entry.stamps_ns.items()]
    assert len(used) == len(set(used))
    stamps = [entry.stamp_ns for entry in ready]
    assert stamps == sorted(set(stamps))
    assert all(len(entry.messages) >= sync.config.min_cameras for entry in ready)
    statistics = sync.statistics
    assert statistics.sets == statistics.complete + statistics.partial == len(ready)


@settings(max_examples=30, deadline=None)
@given(prefix=st.lists(st.booleans(), min_size=60, max_size=60))
def test_recovers_within_one_cycle(prefix: list[bool]) -> None:
    """Whatever was lost in cycles 10 to 19: every later one is complete."""
    keep = iter(prefix)
    events = [event for event in images(40) if not 10 <= event[2] < 20 or next(keep)]
    ready = run(CycleSynchronizer(config()), events)
    assert {min(cycles(entry)) for entry in ready if entry.complete} >= set(range(20, 40))


def test_memory_is_bounded() -> None:
    sync = CycleSynchronizer(config())
    for camera, stamp, cycle in images(300):
        sync.add(camera, stamp, cycle, 0)  # the clock stands still: nothing times out
        assert len(sync._open) <= MAX_OPEN_CYCLES
        assert len(sync._held) <= 12 * len(CAMERAS)


@pytest.mark.parametrize("seed", range(12))
def test_no_stream_breaks_it_or_fills_the_memory(seed: int) -> None:
    """Any order, gaps, clocks that are set all the time, time that goes back, a loop's end, resets."""
    chance = random.Random(seed)
    cameras = tuple("abcdef"[: chance.randrange(1, 7)])
    timeout_ns = chance.choice([0, 75 * MS, 400 * MS])
    sync = CycleSynchronizer(SyncConfig(cameras, cameras[-1], chance.randint(1, len(cameras)), timeout_ns=timeout_ns))
    clocks = dict.fromkeys(cameras, START)
    now, used = 0, []
    for number in range(1000):
        camera = chance.choice(cameras)
        now += chance.choice([0, 5, 30, 100]) * MS + (chance.random() < 0.002) * 5000 * MS
        if chance.random() < 0.01:
            clocks[camera] += chance.randint(-2000, 2000) * MS
        if chance.random() < 0.003:
            clocks = {name: clock - 3000 * MS for name, clock in clocks.items()}
        stamp = clocks[camera] + now + chance.randint(-20, 20) * MS
        ready = sync.poll(now) + sync.add(camera, stamp, number, now if seed % 3 else 0)
        if chance.random() < 0.002:
            ready += sync.flush()
        if chance.random() < 0.001:
            sync.reset()
        used += [message for entry in ready for message in entry.messages.values()]
        kept = [
            sync._held,
            *(cycle.images for cycle in sync._open),
            *(camera.waiting for camera in sync._rig.cameras.values()),
            *sync._stepped.values(),
        ]
        assert sum(map(len, kept)) <= 32 * len(cameras)
    assert len(used) == len(set(used))


@pytest.mark.parametrize("rate", [0.25, 0.5, 1.0, 2.0])
def test_a_bag_played_slowly_or_fast_still_makes_complete_sets(rate: float) -> None:
    cameras = ("CAM_FRONT_LEFT", "CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK_RIGHT", "CAM_BACK", "CAM_BACK_LEFT")
    offsets_ms = (0.0, 7.6, 15.5, 23.1, 32.7, 42.6)
    synchronizer = CycleSynchronizer(SyncConfig(cameras, "CAM_FRONT", len(cameras)))
    sets = []
    for cycle in range(20):
        for camera, offset_ms in zip(cameras, offsets_ms, strict=True):
            stamp_ns = round((1000.0 + 100.0 * cycle + offset_ms) * 1e6)
            sets += synchronizer.add(camera, stamp_ns, object(), round(stamp_ns / rate))
    assert len(sets) == 20
    assert all(not images.missing for images in sets)
