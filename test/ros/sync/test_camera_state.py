"""What the synchroniser knows of one camera."""

from hypothesis import given
from hypothesis import strategies as st

from hdmap_ros.sync.camera_state import FREE_IMAGES, Camera, Place

MS = 1_000_000


@given(
    stamps=st.lists(st.integers(0, 500), max_size=8), stamp=st.integers(0, 500), reach=st.integers(0, 200),
    phase=st.none() | st.integers(-100, 100),
)  # fmt: skip
def test_the_nearest_waiting_image_is_taken_with_all_before_it(
    stamps: list[int], stamp: int, reach: int, phase: int | None
) -> None:
    camera = Camera("CAM_BACK")
    camera.phase_ns = phase
    camera.waiting.extend((each, number) for number, each in enumerate(stamps))
    waiting = list(camera.waiting)
    assert len(waiting) <= FREE_IMAGES
    found = camera.take_nearest(stamp, reach)
    distances = [abs(each - stamp - (phase or 0)) for each, _ in waiting]
    if not distances or min(distances) > reach:
        assert found is None and list(camera.waiting) == waiting
    else:
        index = distances.index(min(distances))
        assert found == waiting[index] and list(camera.waiting) == waiting[index + 1 :]


def test_what_is_taken_back_begins_with_the_image_that_lies_there() -> None:
    camera = Camera("CAM_BACK")
    for number in range(6):
        camera.stamps.append(100 * MS * number)
        camera.arrivals.append(100 * MS * number + 20 * MS)
    assert camera.period_ns == 100 * MS
    camera.phase_ns = 7 * MS
    camera.remember(3 * MS)
    camera.lose(40 * MS)
    assert not camera.locked and not camera.stamps and camera.before[0][-1] == 500 * MS
    camera.stamps.extend([640 * MS, 700 * MS])
    camera.arrivals.extend([620 * MS, 720 * MS])
    assert camera.home is not None and camera.home == camera.last
    camera.take_back(camera.home)
    assert camera.locked and camera.phase_ns == 7 * MS
    assert camera.latest(4) == ([700 * MS], [720 * MS])


def test_what_was_known_is_kept_while_the_clock_is_wrong() -> None:
    camera = Camera("CAM_BACK")
    camera.phase_ns = 7 * MS
    camera.remember(1 * MS)
    camera.phase_ns, camera.clock_ns = 507 * MS, 500 * MS
    camera.remember(501 * MS)
    assert camera.home == Place(7 * MS, 0, MS)
    assert camera.last == Place(507 * MS, 500 * MS, 501 * MS)
    assert camera.last.right_ns == 7 * MS
    camera.free = True
    camera.phase_ns = 0
    camera.remember(None)
    assert camera.last.phase_ns == 507 * MS, "what is free lies nowhere"
