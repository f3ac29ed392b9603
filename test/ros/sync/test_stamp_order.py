"""Stamps of two sources on one topic, and what only looks like that."""

import pytest

from hdmap_ros.sync.stamp_order import StampOrder


def apart(stamps_ns: list[int]) -> list[int]:
    order = StampOrder()
    return [found for stamp_ns in stamps_ns if (found := order.apart_ns("CAM_BACK", stamp_ns))]


@pytest.mark.parametrize(
    ("stamps_ns", "found"),
    [
        ([100, 40, 101, 41, 102, 42, 103], [61, 61, 61]),
        ([100, 101, 40, 41, 102, 103, 42, 104], [61, 62]),
        ([*range(100, 140), *range(100, 160)], []),  # a recording that loops
        ([*range(100, 105), *range(100, 160)], [1]),  # so short a one cannot be told apart
        ([1, 2, 2, 3, 3], []),
        ([100, 200, 50, 51, 52], []),  # a clock that was set
    ],
)
def test_going_back_and_forth(stamps_ns: list[int], found: list[int]) -> None:
    assert apart(stamps_ns) == found


def test_cameras_have_orders_of_their_own() -> None:
    order = StampOrder()
    cameras = ("CAM_BACK", "CAM_FRONT") * 3
    assert not any(
        order.apart_ns(camera, stamp) for camera, stamp in zip(cameras, (100, 5, 101, 6, 102, 7), strict=True)
    )
