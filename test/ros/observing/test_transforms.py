"""The transform buffer against motion that is known in closed form."""

import threading
import time
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest

from hdmap_core.geometry.se3 import inverse, quaternion_from_rotation, rotation_from_euler, se3
from hdmap_ros.observing.transforms import TransformBuffer, TransformError

S = 1_000_000_000


def stamped(parent: str, child: str, stamp_ns: int, pose: np.ndarray) -> SimpleNamespace:
    w, x, y, z = quaternion_from_rotation(pose[:3, :3])
    stamp = SimpleNamespace(sec=stamp_ns // S, nanosec=stamp_ns % S)
    translation = SimpleNamespace(**dict(zip("xyz", pose[:3, 3], strict=True)))
    return SimpleNamespace(
        header=SimpleNamespace(frame_id=parent, stamp=stamp),
        child_frame_id=child,
        transform=SimpleNamespace(translation=translation, rotation=SimpleNamespace(w=w, x=x, y=y, z=z)),
    )


def odom_from_base(stamp_ns: int) -> np.ndarray:
    """A turn to the left at 0.5 rad/s while driving: linear in both between two samples."""
    t = stamp_ns / S
    return se3(rotation_from_euler(0, 0, 0.5 * t), [3.0 * t, -1.0 * t, 0.0])


BASE_FROM_CAMERA = se3(rotation_from_euler(-np.pi / 2, 0.1, -np.pi / 2), [1.7, 0.2, 1.5])


@pytest.fixture
def buffer() -> TransformBuffer:
    made = TransformBuffer()
    for stamp_ns in range(10 * S, 12 * S + 1, S // 10):
        made.add([stamped("odom", "base_link", stamp_ns, odom_from_base(stamp_ns))], static=False)
    made.add(
        [stamped("map", "odom", 0, se3(np.eye(3), [100.0, 0, 0])), stamped("base_link", "cam", 0, BASE_FROM_CAMERA)],
        True,
    )
    return made


@pytest.mark.parametrize("stamp_ns", [10 * S, 10 * S + 37_000_000, 11 * S + 999, 12 * S])
def test_interpolates(buffer: TransformBuffer, stamp_ns: int) -> None:
    expected = odom_from_base(stamp_ns) @ BASE_FROM_CAMERA
    np.testing.assert_allclose(buffer.lookup("odom", "cam", stamp_ns), expected, atol=1e-9)
    np.testing.assert_allclose(buffer.lookup("cam", "odom", stamp_ns), inverse(expected), atol=1e-9)
    np.testing.assert_allclose(buffer.lookup("map", "odom", stamp_ns)[:3, 3], [100, 0, 0])
    np.testing.assert_allclose(buffer.lookup("cam", "cam", stamp_ns), np.eye(4))


def test_time_travel_through_the_fixed_frame(buffer: TransformBuffer) -> None:
    now, then = 11 * S + 12_000_000, 11 * S - 30_000_000
    expected = inverse(odom_from_base(now)) @ odom_from_base(then) @ BASE_FROM_CAMERA
    np.testing.assert_allclose(buffer.lookup_between("base_link", now, "cam", then, "odom"), expected, atol=1e-9)


def test_latest(buffer: TransformBuffer) -> None:
    np.testing.assert_allclose(buffer.lookup("odom", "base_link", None), odom_from_base(12 * S), atol=1e-9)


@pytest.mark.parametrize(
    ("target", "source", "stamp_ns", "reason"),
    [
        ("odom", "base_link", 12 * S + 50_000_000, "ends 50 ms before"),
        ("odom", "base_link", 10 * S - 20_000_000, "begins 20 ms after"),
        ("odom", "lidar", 11 * S, "no transform names the frame 'lidar'; known are base_link, cam, map, odom"),
    ],
)
def test_refuses_to_guess(buffer: TransformBuffer, target: str, source: str, stamp_ns: int, reason: str) -> None:
    with pytest.raises(TransformError, match=reason):
        buffer.lookup(target, source, stamp_ns)


def test_separate_trees(buffer: TransformBuffer) -> None:
    buffer.add([stamped("world", "robot", 11 * S, np.eye(4))], static=False)
    with pytest.raises(TransformError, match="different trees"):
        buffer.lookup("odom", "robot", 11 * S)


def test_waits_for_a_transform_that_comes(buffer: TransformBuffer) -> None:
    late = stamped("odom", "base_link", 13 * S, odom_from_base(13 * S))
    timer = threading.Timer(0.05, buffer.add, args=([late], False))
    timer.start()
    found = buffer.lookup("odom", "base_link", 12 * S + S // 2, timeout_s=5.0)
    np.testing.assert_allclose(found, odom_from_base(12 * S + S // 2), atol=1e-9)
    timer.join()


@pytest.mark.parametrize(
    ("target", "after_s", "waits_s"),
    [("odom", 0.3, [0.1, 0.4]), ("odom", 0.6, [0.1]), ("odom", -3.0, [0.1]), ("nowhere", 0.3, [0.1])],
)
def test_motion_that_is_late_is_waited_for_longer_than_what_may_never_come(
    buffer: TransformBuffer, monkeypatch: pytest.MonkeyPatch, target: str, after_s: float, waits_s: list[float]
) -> None:
    waited_s: list[float] = []

    def wait_for(predicate: Callable[[], bool], timeout_s: float) -> bool:
        waited_s.append(timeout_s)
        return predicate()

    monkeypatch.setattr(buffer._changed, "wait_for", wait_for)
    with pytest.raises(TransformError):
        buffer.lookup(target, "cam", round((12 + after_s) * S), 0.1)
    assert waited_s == pytest.approx(waits_s)


def test_late_motion_that_comes_at_last_is_used(buffer: TransformBuffer, monkeypatch: pytest.MonkeyPatch) -> None:
    stamp_ns, waits = 12 * S + 50_000_000, []

    def wait_for(predicate: Callable[[], bool], timeout_s: float) -> bool:
        waits.append(timeout_s)
        if len(waits) == 2:
            buffer.add([stamped("odom", "base_link", 12 * S + S // 10, odom_from_base(12 * S + S // 10))], False)
        return predicate()

    monkeypatch.setattr(buffer._changed, "wait_for", wait_for)
    found = buffer.lookup("odom", "cam", stamp_ns, 0.1)
    np.testing.assert_allclose(found, odom_from_base(stamp_ns) @ BASE_FROM_CAMERA, atol=1e-9)
    assert len(waits) == 2


def test_waiting_ends(buffer: TransformBuffer) -> None:
    begin = time.monotonic()
    with pytest.raises(TransformError):
        buffer.lookup("odom", "base_link", 20 * S, timeout_s=0.05)
    assert time.monotonic() - begin >= 0.05


def moving(second: float, shift: float = 0.0, parent: str = "odom") -> SimpleNamespace:
    stamp_ns = round(second * S)
    pose = odom_from_base(stamp_ns)
    pose[0, 3] += shift
    return stamped(parent, "base_link", stamp_ns, pose)


def holds(buffer: TransformBuffer, second: float, shift: float = 0.0) -> bool:
    try:
        found = buffer.lookup("odom", "base_link", round(second * S))
    except TransformError:
        return False
    expected = odom_from_base(round(second * S))
    expected[0, 3] += shift
    np.testing.assert_allclose(found, expected, atol=1e-9)
    return True


@pytest.mark.parametrize("delay_s", [0.3, 0.8, 5.0, 9.0, 12.0])
def test_a_second_publisher_that_is_late_clears_nothing(delay_s: float) -> None:
    buffer = TransformBuffer()
    for tick in range(0, 2500, 10):
        now = tick / 100
        buffer.add([moving(now)], static=False)
        buffer.add([moving(now - delay_s)] if now >= delay_s else [], static=False)
        assert now < 1 or holds(buffer, now - 0.95)
    assert all(holds(buffer, 24.9 - age) for age in (0.05, 1.0, 9.95)), "ten seconds"
    assert not holds(buffer, 14.8)


def test_any_order_gives_the_same() -> None:
    order = np.random.default_rng(0).permutation(100)
    buffer = TransformBuffer()
    for index in order:
        buffer.add([moving(index / 10)], static=False)
    assert all(holds(buffer, second) for second in np.arange(0.05, 9.9, 0.1))


@pytest.mark.parametrize("length_s", [3.0, 30.0])
def test_a_recording_that_begins_anew(length_s: float) -> None:
    """Without a clock that says so: the second pass is there from its second sample on."""
    buffer = TransformBuffer()
    for round_number in range(3):
        for tick in range(int(length_s * 10) + 1):
            buffer.add([moving(100 + tick / 10)], static=False)
            assert tick == 0 or holds(buffer, 100 + tick / 10 - 0.05), (round_number, tick)
    assert holds(buffer, 100 + length_s - 2.0)


def test_time_that_jumps_back_forgets_the_future() -> None:
    buffer = TransformBuffer()
    for tick in range(90):
        buffer.add([moving(tick / 10, shift=7.0)], static=False)
    buffer.add([moving(1.0), moving(1.1)], static=False)  # of the new pass, come before the clock's jump is noticed
    buffer.forget_after(round(1.05 * S))
    assert holds(buffer, 1.1)
    assert not holds(buffer, 2.0)


def test_what_came_before_the_clock_jumped_is_kept() -> None:
    buffer = TransformBuffer()
    for second in (*range(100, 131), 100.0, 100.1):  # two of the new pass, while the clock is still in the old one
        buffer.add([moving(second)], static=False)
    buffer.forget_after(round(100.1 * S))
    buffer.add([moving(100.2)], static=False)
    assert holds(buffer, 100.05)
    assert not holds(buffer, 110.0)


def test_two_parents_lose_neither() -> None:
    """An estimator and a localisation that both claim the car."""
    buffer = TransformBuffer()
    for tick in range(20):
        buffer.add([moving(tick / 10), moving(tick / 10 + 0.02, shift=50.0, parent="map")], static=False)
    assert holds(buffer, 1.05)
    found = buffer.lookup_between("base_link", S, "base_link", 3 * S // 2, "map")
    np.testing.assert_allclose(found, inverse(odom_from_base(S)) @ odom_from_base(3 * S // 2), atol=1e-9)
    buffer.add([stamped("odom", "base_link", 0, np.eye(4))], static=True)
    buffer.add([stamped("world", "base_link", 0, np.eye(4))], static=True)
    with pytest.raises(TransformError, match="names the frame 'odom'"):  # of static parents the newest alone counts
        buffer.lookup("odom", "base_link", S)


def test_zero_stamps_are_named() -> None:
    buffer = TransformBuffer()
    buffer.add([stamped("odom", "base_link", 0, np.eye(4))], static=False)
    with pytest.raises(TransformError, match=r"odom <- base_link has no stamp \(0\); its publisher must fill in"):
        buffer.lookup("odom", "base_link", S)
    buffer.add([moving(100.0), moving(100.1)], static=False)
    assert holds(buffer, 100.05)
    buffer.add([stamped("odom", "base_link", 0, np.eye(4))], static=False)
    assert holds(buffer, 100.05), "one without a stamp clears nothing"
    with pytest.raises(TransformError, match="is asked for at time 0: the image has no stamp"):
        buffer.lookup("odom", "base_link", 0)


def test_the_past_is_bounded() -> None:
    buffer = TransformBuffer()
    for second in range(30):
        buffer.add([stamped("odom", "base_link", second * S, odom_from_base(second * S))], static=False)
    assert len(buffer._edges["base_link"]["odom"].history.stamps_ns) == 11


def test_malformed_transforms_are_skipped() -> None:
    buffer = TransformBuffer()
    bad = stamped("odom", "base_link", S, np.eye(4))
    bad.transform.rotation.w = 0.0
    nan = stamped("odom", "base_link", S, np.eye(4))
    nan.transform.translation.x = float("nan")
    buffer.add([bad, nan, stamped("a", "a", S, np.eye(4)), stamped("", "b", S, np.eye(4))], static=False)
    assert buffer.frames() == []


def test_leading_slashes_are_ignored() -> None:
    buffer = TransformBuffer()
    buffer.add([stamped("/odom", "/base_link", S, np.eye(4))], static=False)
    assert buffer.frames() == ["base_link", "odom"]
