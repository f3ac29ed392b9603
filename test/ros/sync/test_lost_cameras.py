"""Cameras that lose their phase and come back, in simulated rigs: stamps of another epoch, bursts, odd images."""

from typing import Any

import pytest

from hdmap_ros.sync.camera_state import Camera
from hdmap_ros.sync.image_sets import ImageSet, SyncConfig
from hdmap_ros.sync.lost_cameras import Surroundings, returned_to, search
from hdmap_ros.sync.synchronizer import CycleSynchronizer

MS = 1_000_000
YEAR_NS = 365 * 24 * 3_600_000 * MS
TRIGGERED = {"phases": (0.0, 7.0, 14.0, 21.0, 28.0, 35.0), "period": 100.0}
TWELVE_HZ = {"phases": (0.0, 7.6, 15.5, 23.1, 32.7, 42.6), "period": 83.333333}
NUSCENES: dict[str, Any] = {}
KINDS = pytest.mark.parametrize("kind", [TRIGGERED, TWELVE_HZ, NUSCENES], ids=["triggered", "12 Hz", "nuscenes"])
BEGIN, END, AGAIN = 5.0, 8.0, 2.0


def played(simulator: Any, rig: Any, images: list[Any], min_cameras: int) -> list[ImageSet]:
    """The sets; those of two seconds after the end and later are complete and of one cycle, none is missing."""
    ready = simulator.play(CycleSynchronizer(SyncConfig(rig.cameras, "C1", min_cameras)), images)
    later = [entry for entry in ready if simulator.seconds_of(entry) > END + AGAIN]
    cycles = {image.truth.cycle for image in images if simulator.moment_of(image) > END + AGAIN + 0.05}
    assert len(later) >= len(cycles) - 1
    assert all(entry.complete and not simulator.mixed(entry) for entry in later)
    return list(ready)


@KINDS
@pytest.mark.parametrize("pace", [0.9, 0.94, 0.97, 1.0, 1.03, 1.06])
@pytest.mark.parametrize("camera", [0, 1, 4])
def test_stamps_of_another_epoch_at_any_pace(simulator: Any, kind: dict[str, Any], pace: float, camera: int) -> None:
    """Images without stamps get the node's time, which goes on at another pace than the recording's."""
    rig = simulator.Rig(**kind, seconds=11.5, playback=pace)
    images = simulator.stamped_on_arrival(rig.images(), camera, BEGIN, END, 3 * YEAR_NS)
    ready = played(simulator, rig, images, 5)
    assert len(ready) >= len(simulator.possible(images, 5)) - 3, "the other five go on"
    pure = [entry for entry in ready if not simulator.mixed(entry)]
    assert len(ready) - len(pure) <= 3
    errors = [abs(entry.stamps_ns[name] - truth[1]) for entry in pure for name, truth in entry.messages.items()]
    assert max(errors) <= 15 * MS, "a mended stamp tells when the image was taken"


@pytest.mark.parametrize("pace", [0.5, 0.8, 1.25, 2.0])
@pytest.mark.parametrize("epoch_ns", [-3 * YEAR_NS, 5000 * MS])
def test_stamps_of_another_epoch_far_from_the_pace(simulator: Any, pace: float, epoch_ns: int) -> None:
    rig = simulator.Rig(**TRIGGERED, seconds=11.5, playback=pace)
    played(simulator, rig, simulator.stamped_on_arrival(rig.images(), 4, BEGIN, END, epoch_ns), 5)


@KINDS
@pytest.mark.parametrize("early", [True, False], ids=["early", "late"])
@pytest.mark.parametrize(("loss", "disorder"), [(0.0, 0), (0.3, 0), (0.8, 0), (0.3, 3)])
def test_bursts_set_no_clock(simulator: Any, kind: dict[str, Any], early: bool, loss: float, disorder: int) -> None:
    """Ten cycles at once, images lost among them: what looks like a step of a clock ends with the bursts."""
    for seed in range(3):
        rig = simulator.Rig(**kind, seconds=11.5, seed=seed)
        images = simulator.in_bursts(rig.images(), BEGIN - 1, END, 10, early, loss, disorder, seed)
        ready = played(simulator, rig, images, 4)
        assert sum(simulator.mixed(entry) for entry in ready) <= 3


@KINDS
@pytest.mark.parametrize(("least_ms", "most_ms"), [(10, 60), (20, 200), (50, 400)])
def test_no_stamps_in_a_node_that_is_starved(
    simulator: Any, kind: dict[str, Any], least_ms: float, most_ms: float
) -> None:
    """Arrivals hardly tell a cycle then: the camera is left out rather than taken for a cycle off, and comes back."""
    mixed = 0
    for seed, camera in ((0, 1), (1, 4), (2, 1)):
        rig = simulator.Rig(**kind, seconds=13.0, seed=seed)
        images = simulator.starved(rig.images(), least_ms, most_ms, seed)
        images = simulator.stamped_on_arrival(images, camera, BEGIN, END, 3 * YEAR_NS)
        ready = simulator.play(CycleSynchronizer(SyncConfig(rig.cameras, "C1", 4)), images)
        later = [entry for entry in ready if simulator.seconds_of(entry) > END + AGAIN]
        assert not any(simulator.mixed(entry) for entry in later)
        assert sum(f"C{camera}" in entry.messages for entry in later) >= 0.8 * len(later)
        errors = [abs(entry.stamps_ns[name] - truth[1]) for entry in later for name, truth in entry.messages.items()]
        assert max(errors) <= 5 * MS
        mixed += sum(simulator.mixed(entry) for entry in ready)
    assert mixed <= 12


def camera_on(rig: Surroundings, offset_ns: int, arrivals: range) -> Camera:
    """A lost camera, before at phase 7 ms, whose images are stamped so far from the others' clocks."""
    camera = Camera("C0")
    camera.phase_ns = 7 * MS
    camera.remember(0)
    camera.lose(step_ns=offset_ns)
    camera.before = ((-1000 * MS,), (-1000 * MS,))
    camera.last = camera.home
    for arrival_ns in arrivals:
        camera.stamps.append(arrival_ns + 7 * MS + offset_ns)
        camera.arrivals.append(arrival_ns + 7 * MS)
        camera.tried += 1
    return camera


@pytest.fixture
def surroundings() -> Surroundings:
    """Cycles every 100 ms, of which the others know twenty."""
    times = [100 * MS * number for number in range(20)]
    return Surroundings(times, [(times, times)] * 3, 0, 48 * MS, 100 * MS, 60 * MS)


@pytest.mark.parametrize(("offset_ms", "back"), [(0, True), (20, True), (35, False), (100, False), (-300, False)])
def test_one_image_in_its_place_is_enough(surroundings: Surroundings, offset_ms: int, back: bool) -> None:
    camera = camera_on(surroundings, offset_ms * MS, range(900 * MS, 901 * MS, 100 * MS))
    assert returned_to(camera, surroundings) == (camera.home if back else None)


@pytest.mark.parametrize("step_ms", [0, 100, -100, 300, -30_000])
def test_a_clock_that_was_set_is_found_by_whole_cycles(surroundings: Surroundings, step_ms: int) -> None:
    camera = camera_on(surroundings, step_ms * MS, range(400 * MS, 900 * MS, 100 * MS))
    assert search(camera, surroundings) == ((7 + step_ms) * MS, step_ms * MS, True)


def test_in_a_burst_it_waits_and_then_takes_where_it_was(surroundings: Surroundings) -> None:
    camera = camera_on(surroundings, 300 * MS, range(100 * MS, 600 * MS, 100 * MS))
    camera.arrivals.extend([900 * MS + number * MS for number in range(5)])
    camera.stamps.extend([(907 + 100 * number) * MS for number in range(5)])
    assert search(camera, surroundings) is None
    camera.tried = 12
    found = search(camera, surroundings)
    assert found == (7 * MS, 0, True)
