"""Elements to what RViz draws."""

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hdmap_core.elements import MapClass, MapElement
from hdmap_ros.message_types import bag_types
from hdmap_ros.node_config import OnlineMapConfig
from hdmap_ros.output.markers import COLOURS, MarkerBuilder

STAMP = 1_700_000_000_123_456_789
TYPES, _ = bag_types()
CONFIG = OnlineMapConfig(markers_lifetime=1.5)


def line(label: MapClass, score: float, closed: bool = False) -> MapElement:
    return MapElement(label, np.array([[0, 0], [1, 0.5], [2, -3]], np.float32), closed, score)


def draw(builder: MarkerBuilder, elements: list[MapElement]) -> list[Any]:
    return builder.build(elements, CONFIG, stamp_ns=STAMP, frame_id="base_link").markers


def test_one_line_strip_per_element() -> None:
    markers = draw(MarkerBuilder(TYPES), [line(MapClass.PED_CROSSING, 0.9, closed=True), line(MapClass.DIVIDER, 0.3)])
    crossing, divider = markers
    assert (crossing.type, crossing.action, crossing.ns, crossing.id) == (4, 0, "ped_crossing", 0)
    assert len(crossing.points) == 4
    assert (crossing.points[0].x, crossing.points[0].y) == (crossing.points[-1].x, crossing.points[-1].y)
    assert len(divider.points) == 3
    assert crossing.pose.orientation.w == 1.0
    assert (crossing.scale.x, crossing.scale.y, crossing.scale.z) == (0.15, 0.0, 0.0)
    assert (crossing.lifetime.sec, crossing.lifetime.nanosec) == (1, 500_000_000)
    assert crossing.color.a > divider.color.a > 0.3
    assert not crossing.frame_locked


@given(st.lists(st.lists(st.sampled_from(list(MapClass)), max_size=6), min_size=2, max_size=5))
def test_exactly_the_present_elements_stay_on_screen(frames: list[list[MapClass]]) -> None:
    """Replays ADD and DELETE as RViz would."""
    builder, screen = MarkerBuilder(TYPES), set()
    for labels in frames:
        markers = draw(builder, [line(label, 0.5) for label in labels])
        keys = [(marker.ns, marker.id) for marker in markers]
        assert len(keys) == len(set(keys))  # RViz rejects an array with the same one twice
        for marker in markers:
            (screen.add if marker.action == 0 else screen.discard)((marker.ns, marker.id))
        assert Counter(name for name, _ in screen) == Counter(label.value for label in labels)


def test_labels_stand_in_the_middle_of_their_lines_and_go_with_them() -> None:
    builder, labelled = MarkerBuilder(TYPES), replace(CONFIG, markers_labels=True)
    elements = [line(MapClass.DIVIDER, 0.5), line(MapClass.DIVIDER, 0.25)]
    drawn = builder.build(elements, labelled, stamp_ns=STAMP, frame_id="base_link").markers
    texts = [marker for marker in drawn if marker.type == 9]
    assert [(text.ns, text.id, text.text) for text in texts] == [
        ("divider text", 0, "divider 0.50"),
        ("divider text", 1, "divider 0.25"),
    ]
    assert (texts[0].pose.position.x, texts[0].pose.position.y) == (1.0, 0.5)
    assert texts[0].scale.z > 0 and texts[0].color.a == 1.0
    gone = [(marker.ns, marker.id) for marker in draw(builder, elements[:1]) if marker.action == 2]
    assert set(gone) == {("divider", 1), ("divider text", 0), ("divider text", 1)}


def test_delete_all_forgets() -> None:
    builder = MarkerBuilder(TYPES)
    draw(builder, [line(MapClass.DIVIDER, 0.5)])
    (marker,) = builder.delete_all(STAMP, "base_link").markers
    assert marker.action == 3
    assert draw(builder, []) == []


def test_a_reset_by_another_thread_disturbs_no_map(monkeypatch: pytest.MonkeyPatch) -> None:
    builder = MarkerBuilder(TYPES)
    draw(builder, [line(MapClass.DIVIDER, 0.5), line(MapClass.BOUNDARY, 0.5)])
    make = builder._marker

    def interrupted(*arguments: Any, **fields: Any) -> Any:
        monkeypatch.undo()
        builder.delete_all(STAMP, "base_link")
        return make(*arguments, **fields)

    monkeypatch.setattr(builder, "_marker", interrupted)
    assert [marker.action for marker in draw(builder, [])] == [2, 2]


def test_every_class_has_its_colour() -> None:
    assert set(COLOURS) == set(MapClass)
    assert len(set(COLOURS.values())) == len(COLOURS)


def test_a_centerline_keeps_its_direction() -> None:
    lane = MapElement(MapClass.CENTERLINE, np.array([[25, 2], [0, 1], [-20, 0]], np.float32), score=0.5)
    (marker,) = draw(MarkerBuilder(TYPES), [lane])
    assert marker.ns == "centerline"
    assert [(point.x, point.y) for point in marker.points] == [(25, 2), (0, 1), (-20, 0)]
