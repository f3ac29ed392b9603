"""Which CameraInfo an image is taken with, and what is told when it changes."""

from typing import Any

import pytest

from hdmap_ros.observing.camera_infos import CameraInfos
from hdmap_ros.problems import Problems

SECOND = 1_000_000_000


class Setup:
    def __init__(self, rig: Any) -> None:
        self.rig, self.told = rig, []
        self.infos = CameraInfos("auto", {}, {}, {}, Problems(self.told.append))

    def hear(self, stamp_ns: int, focal: float) -> None:
        assert self.infos.add("CAM_BACK", self.rig.info("CAM_BACK", stamp_ns, focal)) is None

    def focal_at(self, stamp_ns: int) -> float:
        calibration, bad = self.infos.at("CAM_BACK", stamp_ns)
        assert calibration is not None and bad == ""
        return float(calibration.intrinsics[0, 0])


@pytest.fixture
def setup(bag_rig: Any) -> Setup:
    return Setup(bag_rig)


def test_a_new_one_counts_from_its_stamp_on(setup: Setup) -> None:
    for stamp_ns, focal in ((10, 120.0), (11, 120.0), (20, 130.0)):
        setup.hear(stamp_ns * SECOND, focal)
    assert [setup.focal_at(stamp_ns * SECOND) for stamp_ns in (10, 19, 20, 99)] == [120.0, 120.0, 130.0, 130.0]
    (told,) = setup.told
    assert "camera CAM_BACK: its CameraInfo was fx 120.00" in told and "and is now fx 130.00" in told


@pytest.mark.parametrize("stamp_ns", [0, 500 * SECOND])
def test_of_another_clock_or_none_the_newest_counts(setup: Setup, stamp_ns: int) -> None:
    setup.hear(stamp_ns, 120.0)
    setup.hear(stamp_ns and stamp_ns + SECOND, 130.0)
    assert setup.focal_at(100 * SECOND) == 130.0


def test_a_recording_that_loops_has_its_first_one_again(setup: Setup) -> None:
    for stamp_ns, focal in ((10, 120.0), (20, 130.0), (10, 120.0)):
        setup.hear(stamp_ns * SECOND, focal)
    assert setup.focal_at(12 * SECOND) == 120.0
    setup.hear(20 * SECOND, 130.0)
    assert [setup.focal_at(stamp_ns * SECOND) for stamp_ns in (12, 25)] == [120.0, 130.0]


def test_with_every_image_another_one(setup: Setup) -> None:
    for index in range(10):
        setup.hear((10 + index) * SECOND, 120.0 + index % 2)
    assert [setup.focal_at((10 + index) * SECOND) for index in range(10)] == [120.0, 121.0] * 5


def test_a_bad_one_between_two_good_ones_changes_nothing(setup: Setup) -> None:
    setup.hear(10 * SECOND, 120.0)
    assert "focal" in str(setup.infos.add("CAM_BACK", setup.rig.info("CAM_BACK", 11 * SECOND, 0.0)))
    assert setup.infos.at("CAM_BACK", 12 * SECOND)[0] is setup.infos.newest["CAM_BACK"]
    setup.hear(12 * SECOND, 120.0)
    assert [message for message in setup.told if "is now" in message] == []
