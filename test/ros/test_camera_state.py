"""What the synchroniser knows of one camera."""

from hypothesis import given
from hypothesis import strategies as st

from hdmap_ros.camera_state import FREE_IMAGES, Camera

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


def test_one_odd_image_is_no_step() -> None:
    camera = Camera("CAM_BACK")
    for number in range(6):
        camera.stamps.append(100 * MS * number)
        camera.arrivals.append(100 * MS * number + 20 * MS)
    camera.phase_ns = 7 * MS
    camera.lose(40 * MS)
    assert not camera.locked and not camera.stamps
    camera.stamps.append(640 * MS)
    camera.arrivals.append(620 * MS)
    assert camera.moved_ns() == 40 * MS
    assert not camera.take_back(5 * MS), "it lies where it was set"
    camera.stamps.append(700 * MS)
    camera.arrivals.append(720 * MS)
    assert camera.take_back(5 * MS), "the next one lies where it always did"
    assert camera.phase_ns == 7 * MS and camera.locked and camera.step_ns == 0
    assert camera.period_ns == 100 * MS
