"""Maps into a bag, as the node publishes them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hdmap_core.elements import MapClass, MapElement
from hdmap_ros.bag.map_writer import ELEMENTS_TOPIC, INFO_TOPIC, MARKERS_TOPIC, MapWriter
from hdmap_ros.bag.mcap import open_bag, write_mcap
from hdmap_ros.node_config import OnlineMapConfig
from hdmap_ros.output.conversions import elements_from_message
from hdmap_ros.pipeline import MapResult
from hdmap_ros.stamps import stamp_to_ns
from hdmap_ros.sync.image_sets import ImageSet

CAMERAS = ("LEFT", "RIGHT")
CONFIG = OnlineMapConfig(camera_names=CAMERAS)
STAMPS_NS = (5_000_000_000, 5_100_000_000)


def a_map(stamp_ns: int, *scores: float) -> MapResult:
    points = np.array([[0.0, 0.0], [5.0, 1.0]], np.float32)
    elements = [MapElement(MapClass.DIVIDER, points, score=score) for score in scores]
    stamps_ns = {"LEFT": stamp_ns - 20_000_000, "RIGHT": stamp_ns}
    return MapResult(elements, ImageSet(stamp_ns, {}, stamps_ns, (), 0), (True, False), {})


@pytest.fixture
def written(tmp_path: Path, rig_module: Any) -> dict[str, list[tuple[int, Any]]]:
    """Topic -> log times and messages of a bag of two maps."""
    with write_mcap(tmp_path / "map.mcap") as bag:
        writer = MapWriter(bag, rig_module.RigInfo(), CONFIG)
        writer.write(a_map(STAMPS_NS[0], 0.9, 0.2))
        writer.write(a_map(STAMPS_NS[1], 0.25))
    found: dict[str, list[tuple[int, Any]]] = {}
    with open_bag(tmp_path / "map.mcap") as bag:
        assert bag.offered_qos(INFO_TOPIC).durability.name == "TRANSIENT_LOCAL"
        for topic, log_ns, message in bag.messages():
            found.setdefault(topic, []).append((log_ns, message))
    return found


def test_every_map_lies_at_its_stamp(written: dict[str, list[tuple[int, Any]]]) -> None:
    arrays = written[ELEMENTS_TOPIC]
    assert [log_ns for log_ns, _ in arrays] == [stamp_to_ns(array.header.stamp) for _, array in arrays]
    assert [log_ns for log_ns, _ in arrays] == list(STAMPS_NS)
    for (_, array), scores in zip(arrays, ([0.9, 0.2], [0.25]), strict=True):
        assert [element.score for element in elements_from_message(array)] == pytest.approx(scores)
        assert (array.camera_mask, array.header.frame_id) == (0b01, "base_link")
        assert array.sync_spread == pytest.approx(0.02)
    assert [array.sequence for _, array in arrays] == [0, 1]


def test_the_models_info_comes_once_and_first(written: dict[str, list[tuple[int, Any]]]) -> None:
    """At the first map's time: of its own it has none."""
    ((log_ns, info),) = written[INFO_TOPIC]
    assert log_ns == stamp_to_ns(info.header.stamp) == STAMPS_NS[0]
    assert (info.camera_names, info.header.frame_id) == (list(CAMERAS), "base_link")


def test_what_is_unlikely_is_not_drawn(written: dict[str, list[tuple[int, Any]]]) -> None:
    drawn = [[marker.action for marker in array.markers] for _, array in written[MARKERS_TOPIC]]
    assert drawn == [[0], [2]], "one line; then it is taken away"


def test_without_a_map_the_topics_are_there_and_empty(tmp_path: Path, rig_module: Any) -> None:
    with write_mcap(tmp_path / "map.mcap") as bag:
        MapWriter(bag, rig_module.RigInfo(), CONFIG)
        assert bag.counts == dict.fromkeys((INFO_TOPIC, ELEMENTS_TOPIC, MARKERS_TOPIC), 0)
