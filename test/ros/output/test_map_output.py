"""What is published of a map, to whom, and what is counted."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hdmap_core.elements import MapClass, MapElement
from hdmap_ros.message_types import bag_types
from hdmap_ros.node_config import OnlineMapConfig
from hdmap_ros.observing.observation_builder import NotReadyError
from hdmap_ros.observing.transforms import TransformBuffer
from hdmap_ros.output.conversions import elements_from_message
from hdmap_ros.output.map_output import MapOutput, best_elements
from hdmap_ros.output.pictures import Pictures
from hdmap_ros.pipeline import MapResult
from hdmap_ros.sync.image_sets import ImageSet

TYPES, _ = bag_types()
STAMP_NS = 1_700_000_000_000_000_000


def element(score: float) -> MapElement:
    return MapElement(MapClass.DIVIDER, np.array([[1.0, 2.0], [3.0, 4.0]], np.float32), score=score)


@pytest.fixture
def output(topic: Any) -> Any:
    """Makes one with so many listeners to elements and markers."""

    def make(elements: int, markers: int, transforms: TransformBuffer | None = None) -> MapOutput:
        pictures = Pictures(TYPES, topic(0), topic(0), topic(0))
        return MapOutput(TYPES, topic(elements), topic(markers), transforms or TransformBuffer(), pictures)

    return make


def a_map(*scores: float) -> MapResult:
    images = ImageSet(STAMP_NS, {}, {"CAM_FRONT": STAMP_NS}, (), 0)
    return MapResult([element(score) for score in scores], images, (True,), {})


@given(st.lists(st.floats(0, 1)), st.floats(0, 1), st.integers(1, 9))
def test_the_best_ones(scores: list[float], threshold: float, number: int) -> None:
    kept = [each.score for each in best_elements([element(score) for score in scores], threshold, number)]
    assert kept == sorted((score for score in scores if score >= threshold), reverse=True)[:number]


def test_elements_always_markers_to_whom_listens(output: Any, rig_module: Any) -> None:
    config = OnlineMapConfig(score_threshold=0.2, markers_min_score=0.5, max_elements=2)
    for listeners in (0, 1):
        made = output(1, listeners)
        for _ in range(3):
            made.publish(a_map(0.1, 0.3, 0.9, 0.6), config, rig_module.RigInfo())
        arrays, drawn = made.elements.sent, made.markers.sent
        assert [each.score for each in elements_from_message(arrays[-1])] == pytest.approx([0.9, 0.6])
        assert [array.sequence for array in arrays] == [0, 1, 2]
        assert (made.published, made.published_elements) == (3, 6)
        assert [len(array.markers) for array in drawn] == [2] * 3 * listeners
        made.clear(STAMP_NS, "base_link")
        assert len(drawn) == 4 * listeners


def test_rate_and_age_count_from_the_last_start(output: Any, rig_module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour of deactivation makes no map old and no rate slow."""
    clock = SimpleNamespace(now_s=100.0)
    monkeypatch.setattr("hdmap_ros.output.map_output.time", SimpleNamespace(monotonic=lambda: clock.now_s))
    made, config = output(1, 0), OnlineMapConfig()

    def publish(times: int) -> None:
        for _ in range(times):
            clock.now_s += 0.1
            made.publish(a_map(0.9), config, rig_module.RigInfo())

    publish(5)
    assert (made.rate_hz, made.age_s) == (pytest.approx(10.0), 0.0)
    clock.now_s += 3600.0
    assert made.age_s == 3600.0
    made.start()
    assert (made.rate_hz, made.age_s, made.published_since_start) == (0.0, 0.0, 0)
    publish(3)
    clock.now_s += 0.5
    assert (made.rate_hz, made.age_s) == (pytest.approx(10.0), 0.5)
    assert (made.published_since_start, made.published) == (3, 8)
    assert [array.sequence for array in made.elements.sent] == list(range(8))


@pytest.mark.parametrize(
    ("elements", "markers", "enabled", "wanted"),
    [(0, 0, True, False), (1, 0, True, True), (0, 1, True, True), (0, 1, False, False)],
)
def test_who_listens(output: Any, elements: int, markers: int, enabled: bool, wanted: bool) -> None:
    assert output(elements, markers).wanted(OnlineMapConfig(markers_enabled=enabled)) is wanted


def test_another_frame_or_none(output: Any, bag_rig: Any, rig_module: Any) -> None:
    config, transforms = OnlineMapConfig(output_frame="odom", tf_timeout=0.0), TransformBuffer()
    made = output(1, 1, transforms)
    with pytest.raises(NotReadyError, match="output_frame: ") as refused:
        made.publish(a_map(0.9), config, rig_module.RigInfo())
    assert (refused.value.state, made.published, made.elements.sent) == ("no_transform", 0, [])
    pose = np.eye(4)
    pose[:3, 3] = 100.0, 50.0, 2.0
    transforms.add([bag_rig.transform("odom", "base_link", STAMP_NS, pose)], static=False)
    made.publish(a_map(0.9), config, rig_module.RigInfo())
    point = made.elements.sent[0].elements[0].points[0]
    assert (point.x, point.y, point.z) == (101.0, 52.0, 2.0)
    assert made.markers.sent[0].markers[0].points[0].x == 101.0


def test_the_first_array_after_a_reset_says_so_though_a_map_could_not_be_sent(
    output: Any, bag_rig: Any, rig_module: Any
) -> None:
    config, transforms = OnlineMapConfig(output_frame="odom", tf_timeout=0.0), TransformBuffer()
    made = output(1, 0, transforms)
    with pytest.raises(NotReadyError):
        made.publish(a_map(0.9), config, rig_module.RigInfo(), temporal_reset=True)
    transforms.add([bag_rig.transform("odom", "base_link", STAMP_NS, np.eye(4))], static=False)
    for _ in range(2):
        made.publish(a_map(0.9), config, rig_module.RigInfo(), temporal_reset=False)
    assert [array.temporal_reset for array in made.elements.sent] == [True, False]
