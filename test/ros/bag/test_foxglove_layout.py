"""config/foxglove_layout.json: every panel stands once in the layout, and shows what is really published."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hdmap_ros.bag.map_writer import ELEMENTS_TOPIC, MARKERS_TOPIC
from hdmap_ros.bag.mcap import open_bag
from hdmap_ros.message_types import bag_types

ROOT = Path(__file__).resolve().parents[3]
IMAGES = {"sensor_msgs/msg/CompressedImage", "sensor_msgs/msg/Image"}
DRAWN = {"visualization_msgs/msg/MarkerArray", "sensor_msgs/msg/PointCloud2"}


@pytest.fixture
def layout() -> dict[str, Any]:
    return json.loads((ROOT / "config" / "foxglove_layout.json").read_text(encoding="utf-8"))


@pytest.fixture
def published(drive: Path, replayed: Any, tmp_path: Path) -> dict[str, str]:
    """Topic -> type: of a bag as we write it, of a replay, and what only the node says."""
    replayed(drive)
    node = (ROOT / "hdmap_ros" / "ros_graph.py").read_text(encoding="utf-8")
    assert '"~/output/local_map_markers"' in node and '"/diagnostics"' in node
    topics = {
        "/online_map/output/local_map_markers": "visualization_msgs/msg/MarkerArray",
        "/diagnostics": "diagnostic_msgs/msg/DiagnosticArray",
    }
    for path in (drive, tmp_path / "out" / "map.mcap"):
        with open_bag(path) as bag:
            topics |= bag.topics
    return topics


def leaves(tree: Any) -> Iterator[str]:
    if isinstance(tree, str):
        yield tree
    else:
        assert tree["direction"] in ("row", "column")
        yield from leaves(tree["first"])
        yield from leaves(tree["second"])


def test_every_panel_stands_once(layout: dict[str, Any]) -> None:
    panels = list(leaves(layout["layout"]))
    assert sorted(panels) == sorted(layout["configById"]) and len(panels) == len(set(panels))
    assert sum(panel.startswith("Image!") for panel in panels) == 6


def test_panels_show_what_is_published(layout: dict[str, Any], published: dict[str, str]) -> None:
    seen = set()
    for panel, config in layout["configById"].items():
        if panel.startswith("Image!"):
            mode = config["imageMode"]
            assert published[mode["imageTopic"]] in IMAGES
            assert published[mode["calibrationTopic"]] == "sensor_msgs/msg/CameraInfo"
            assert mode["imageTopic"].split("/")[1] == mode["calibrationTopic"].split("/")[1] == panel.split("!")[1]
            seen.add(mode["imageTopic"])
        for topic in config.get("topics", {}):
            assert published[topic] in DRAWN, topic
        if "topicToRender" in config:
            assert published[config["topicToRender"]] == "diagnostic_msgs/msg/DiagnosticArray"
    assert len(seen) == 6
    assert MARKERS_TOPIC in layout["configById"]["3D!birds_eye"]["topics"]


def test_plots_follow_fields_that_are_numbers(layout: dict[str, Any], published: dict[str, str]) -> None:
    store = bag_types()[1]
    paths = [p["value"] for panel, c in layout["configById"].items() if panel.startswith("Plot!") for p in c["paths"]]
    assert len(paths) >= 3 and any(path.startswith(ELEMENTS_TOPIC + ".") for path in paths)
    for path in paths:
        topic, *fields = re.sub(r"\[:\]", "", path).split(".")
        kind = published[topic]
        for field in fields[:-1]:
            kind = message_of(dict(store.fielddefs[kind][1])[field])
        assert base_type(dict(store.fielddefs[kind][1])[fields[-1]]).startswith(("float", "int", "uint")), path


def base_type(definition: Any) -> str:
    """`float32` of a field's definition."""
    return re.sub(r"\W", "", str(definition[1][0] if isinstance(definition[1], tuple) else definition[1]))


def message_of(definition: Any) -> str:
    """The message type of a field, or of what is in its sequence."""
    found = re.search(r"[a-z_]+/msg/\w+", str(definition))
    assert found is not None, definition
    return found[0]
