"""When images without a stamp were taken: beside stamped ones nobody knows; of a whole rig without, when they came."""

import functools
from collections.abc import Iterator
from typing import Any

import pytest

from hdmap_ros.observing.image_times import WAIT_NS, ImageTimes
from hdmap_ros.problems import Problems
from hdmap_ros.sync.image_sets import ImageSet, SyncConfig
from hdmap_ros.sync.synchronizer import CycleSynchronizer

MS = 1_000_000
LOOK_NS = 20 * MS
TRIGGERED = {"phases": (0.0, 7.0, 14.0, 21.0, 28.0, 35.0), "period": 100.0}
TWELVE_HZ = {"phases": (0.0, 7.6, 15.5, 23.1, 32.7, 42.6), "period": 83.333333}
NUSCENES: dict[str, Any] = {}
KINDS = pytest.mark.parametrize("kind", [TRIGGERED, TWELVE_HZ, NUSCENES], ids=["triggered", "12 Hz", "nuscenes"])
BEGIN, END = 5.0, 8.0


@pytest.fixture
def problems() -> Problems:
    return Problems()


@pytest.fixture
def times(problems: Problems) -> ImageTimes:
    return ImageTimes(3, problems, "their time of arrival")


def message(problems: Problems) -> str:
    return problems.news()["zero_stamp", "A"]


def test_stamps_are_believed(times: ImageTimes, problems: Problems) -> None:
    assert [times.taken_ns("A", stamp, 7, 9) for stamp in (1, 2, 3, 2)] == [1, 2, 3, 2]
    assert problems.report() == {}


def test_one_camera_without_stamps_is_left_out(times: ImageTimes, problems: Problems) -> None:
    for number in range(1, 30):
        assert times.taken_ns("B", number, number, 0) == times.taken_ns("C", number, number, 0) == number
        assert times.taken_ns("A", 0, number, number) is None
    assert "left out, as nothing tells when they were taken" in message(problems)
    assert problems.report()["zero_stamp"]["cameras"] == {"A": 29}
    assert times.taken_ns("A", 30, 30, 0) == 30, "at once when its stamps are back"


def test_all_cameras_of_a_rig_that_has_stamps(times: ImageTimes) -> None:
    for number in range(1, 4):
        for camera in "ABC":
            times.taken_ns(camera, number, number, 0)
    assert [times.taken_ns(camera, 0, 4, 4) for camera in "ABCABC"] == [None] * 6


def test_a_rig_without_stamps_goes_by_arrival(times: ImageTimes, problems: Problems) -> None:
    assert [times.taken_ns(camera, 0, 5, 500) for camera in "ABCA"] == [None, None, 500, 500]
    assert "their time of arrival is used, as no camera has stamps" in message(problems)


def test_a_rig_without_stamps_and_a_camera_that_is_silent(times: ImageTimes) -> None:
    assert times.taken_ns("A", 0, 5, 500) is None
    assert times.taken_ns("A", 0, 5 + WAIT_NS, 600) is None
    assert times.taken_ns("A", 0, 6 + WAIT_NS, 700) == 700


@pytest.mark.parametrize("when", [0, 5])
def test_one_odd_stamp_does_not_stop_a_rig_without(times: ImageTimes, when: int) -> None:
    taken = [times.taken_ns(camera, 77 * (n == when and camera == "B"), 5, 500) for n in range(9) for camera in "ABC"]
    assert taken[-9:] == [500] * 9
    assert taken.count(77) == 1


def test_a_rig_that_gets_stamps_later(times: ImageTimes) -> None:
    for camera in "ABC":
        times.taken_ns(camera, 0, 5, 500)
    for stamp_ns in (1000, 1001, 1002):
        assert times.taken_ns("B", stamp_ns, 6, 600) == stamp_ns
    assert times.taken_ns("A", 0, 7, 700) is None


def test_arrivals_of_a_node_that_was_away_are_not_used(times: ImageTimes, problems: Problems) -> None:
    for camera in "ABC":
        times.taken_ns(camera, 0, 0, 0)
    looks = dict.fromkeys((-100, -80, -60, 100, 101, 120, 140), False) | dict.fromkeys((-40, -20, 0, 160, 180), True)
    for now_ms, used in sorted(looks.items()):
        times.looked(now_ms * MS)
        taken = times.taken_ns("A", 0, (now_ms + 5) * MS, 500)
        assert taken == (500 if used else None), now_ms
    assert times.taken_ns("A", 0, 215 * MS, 500) is None, "away since the last look"
    assert "short of CPU" in message(problems)


def unstamped(images: list[Any], cameras: set[str], begin: float, end: float, simulator: Any) -> list[Any]:
    return [
        image._replace(stamp_ns=0) if image.camera in cameras and begin <= simulator.moment_of(image) < end else image
        for image in images
    ]


def play(simulator: Any, rig: Any, images: list[Any], min_cameras: int, starve: Any) -> Iterator[ImageSet]:
    """As a node that now and then gets no core: it looks every 20 ms, but comes to everything late."""
    sync, times = CycleSynchronizer(SyncConfig(rig.cameras, "C1", min_cameras)), ImageTimes(6, Problems(), "")
    begin_ns, end_ns = images[0].arrival_ns, images[-1].arrival_ns
    looks = [images[0]._replace(camera="", arrival_ns=moment) for moment in range(begin_ns, end_ns, LOOK_NS)]
    for image in starve(sorted(images + looks, key=lambda image: image.arrival_ns)):
        if not image.camera:
            times.looked(image.arrival_ns)
            yield from sync.poll(image.arrival_ns)
        elif taken_ns := times.taken_ns(image.camera, image.stamp_ns, image.arrival_ns, image.arrival_ns):
            yield from sync.add(image.camera, taken_ns, image.truth, image.arrival_ns)
    yield from sync.flush()


def errors_ms(entry: ImageSet) -> list[float]:
    return [abs(entry.stamps_ns[name] - truth.exposure_ns) / MS for name, truth in entry.messages.items()]


@KINDS
@pytest.mark.parametrize(
    ("least_ms", "most_ms", "again_s"), [(0, 1, 0.1), (10, 60, 1.0), (20, 200, 2.0), (50, 400, 2.0)]
)
@pytest.mark.parametrize("camera", [1, 4])
def test_a_starved_node_makes_no_wrong_set(
    simulator: Any, kind: dict[str, Any], camera: int, least_ms: float, most_ms: float, again_s: float
) -> None:
    """A camera, or the anchor, without stamps for three seconds: in no set; then all is as if nothing had been."""
    for seed in range(2):
        starve = functools.partial(simulator.starved, least_ms=least_ms, most_ms=most_ms, seed=seed)
        rig = simulator.Rig(**kind, seconds=12.0, seed=seed)
        images = rig.images()
        never = [*play(simulator, rig, images, 5, starve)]
        ready = [*play(simulator, rig, unstamped(images, {f"C{camera}"}, BEGIN, END, simulator), 5, starve)]
        assert max(error for entry in ready for error in errors_ms(entry)) < 2.0, "as stamped, never as arrived"
        meanwhile = [entry for entry in ready if BEGIN + 0.1 < simulator.seconds_of(entry) < END - 0.1]
        assert len(meanwhile) > 10 and all(f"C{camera}" in entry.missing for entry in meanwhile)
        after = [[entry for entry in sets if simulator.seconds_of(entry) > END + again_s] for sets in (ready, never)]
        assert after[0] == after[1]


@pytest.mark.parametrize("phases", [(0.0,) * 6, TRIGGERED["phases"]], ids=["at once", "one after another"])
def test_a_whole_rig_without_stamps_in_a_starved_node(simulator: Any, phases: Any) -> None:
    """Arrivals of a node that keeps up are late by the transport alone; those of one that does not are left out."""
    for least_ms, most_ms in ((0, 1), (20, 60), (50, 400)):
        rig = simulator.Rig(phases=phases, period=100.0, seconds=8.0)
        images = unstamped(rig.images(), set(rig.cameras), 0.0, 99.0, simulator)
        starve = functools.partial(simulator.starved, least_ms=least_ms, most_ms=most_ms, seed=1)
        ready = [*play(simulator, rig, images, 3, starve)]
        late = [error - 20.0 for entry in ready for error in errors_ms(entry)]
        assert max(late, default=0.0) < 32.0, "a look every 20 ms, and the transport's jitter"
        assert len(ready) > 70 or most_ms > 1
