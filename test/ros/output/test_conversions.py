"""Elements to messages and back, in rosbags' classes (rclpy's are used in test_online_map_node)."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hdmap_core.elements import MapClass, MapElement
from hdmap_core.errors import ElementError
from hdmap_core.geometry import BEVGrid
from hdmap_core.geometry.se3 import rotation_from_euler, se3
from hdmap_ros.message_types import bag_types, message_folder
from hdmap_ros.output.conversions import LABEL_VALUES, elements_from_message, elements_to_message

TYPES, STORE = bag_types()


STAMP = 1_700_000_000_123_456_789


def line(label: MapClass, score: float, closed: bool = False) -> MapElement:
    return MapElement(label, np.array([[0, 0], [1, 0.5], [2, -3]], np.float32), closed, score)


def to_message(elements: list[MapElement], **changes: Any) -> Any:
    fields: dict[str, Any] = {
        "stamp_ns": STAMP,
        "frame_id": "base_link",
        "grid": BEVGrid(),
        "camera_mask": [True, False, True],
        "spread_ns": 42_600_000,
        "sequence": 5,
        "model_id": "m-1",
    }
    return elements_to_message(TYPES, elements, **{**fields, **changes})


@st.composite
def some_elements(draw: st.DrawFn) -> list[MapElement]:
    coordinate = st.floats(-60, 60, width=32)
    made = []
    for _ in range(draw(st.integers(0, 6))):
        closed = draw(st.booleans())
        points = draw(st.lists(st.tuples(coordinate, coordinate), min_size=3 if closed else 2, max_size=20))
        score = draw(st.floats(0, 1, width=32))
        made.append(MapElement(draw(st.sampled_from(MapClass)), np.array(points, np.float32), closed, score))
    return made


@given(some_elements())
def test_there_and_back_through_cdr(elements: list[MapElement]) -> None:
    kind = "hdmap_ros/msg/MapElementArray"
    message = STORE.deserialize_cdr(STORE.serialize_cdr(to_message(elements), kind), kind)
    back = elements_from_message(message)
    expected = sorted(elements, key=lambda element: (LABEL_VALUES[element.label], -element.score))
    assert [(e.label, e.closed, e.score) for e in back] == [(e.label, e.closed, e.score) for e in expected]
    for ours, theirs in zip(back, expected, strict=True):
        np.testing.assert_array_equal(ours.points, theirs.points)


def test_fields_of_the_array() -> None:
    message = to_message([line(MapClass.BOUNDARY, 0.5), line(MapClass.DIVIDER, 0.2), line(MapClass.DIVIDER, 0.9)])
    assert [(element.label, round(element.score, 3)) for element in message.elements] == [(1, 0.9), (1, 0.2), (3, 0.5)]
    assert (message.header.stamp.sec, message.header.stamp.nanosec) == (1_700_000_000, 123_456_789)
    assert message.camera_mask == 0b101
    assert message.sync_spread == pytest.approx(0.0426)
    assert (message.roi_min.x, message.roi_min.y, message.roi_max.x, message.roi_max.y) == (-30, -15, 30, 15)
    assert not message.has_elevation


def test_a_centerline_keeps_its_direction() -> None:
    lane = MapElement(MapClass.CENTERLINE, np.array([[25, 2], [0, 1], [-20, 0]], np.float32), score=0.5)
    (found,) = to_message([lane]).elements
    assert found.label == 4
    assert [(point.x, point.y) for point in found.points] == [(25, 2), (0, 1), (-20, 0)]


def test_labels_are_those_of_the_message_file() -> None:
    text = (message_folder() / "MapElement.msg").read_text()
    for label, value in LABEL_VALUES.items():
        assert f"uint8 {label.name}={value}\n" in text


def test_another_output_frame() -> None:
    pose = se3(rotation_from_euler(0, 0, np.pi / 2), [100.0, 50.0, 2.0])
    message = to_message([line(MapClass.DIVIDER, 1.0)], frame_id="odom", frame_from_ego=pose)
    point = message.elements[0].points[2]
    assert (point.x, point.y, point.z) == pytest.approx((103.0, 52.0, 2.0))
    assert (message.roi_min.x, message.roi_max.x) == pytest.approx((85, 115))
    assert (message.roi_min.y, message.roi_max.y) == pytest.approx((20, 80))


def test_malformed_messages_are_refused() -> None:
    message = to_message([line(MapClass.DIVIDER, 1.0)])
    message.elements[0].label = 9
    with pytest.raises(ElementError, match="label 9; known are"):
        elements_from_message(message)
    message.elements[0].label = 1
    message.elements[0].points[0].x = float("nan")
    with pytest.raises(ElementError, match="not finite"):
        elements_from_message(message)
