"""config/online_map.rviz: well formed, only stock displays, only topics that exist."""

from pathlib import Path

import pytest
import yaml

CONFIG = Path(__file__).resolve().parents[2] / "config"
STOCK_DISPLAYS = {
    "rviz_default_plugins/Grid",
    "rviz_default_plugins/Image",
    "rviz_default_plugins/MarkerArray",
    "rviz_default_plugins/Odometry",
    "rviz_default_plugins/TF",
}

MARKERS = {
    "/online_map/output/markers": "Volatile",
    "/online_map/output/local_map_markers": "Transient Local",
}


@pytest.fixture(scope="module")
def rviz() -> dict:
    return yaml.safe_load((CONFIG / "online_map.rviz").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def displays(rviz: dict) -> list[dict]:
    return rviz["Visualization Manager"]["Displays"]


def test_sections(rviz: dict) -> None:
    assert set(rviz) == {"Panels", "Visualization Manager", "Window Geometry"}
    manager = rviz["Visualization Manager"]
    assert manager["Global Options"]["Fixed Frame"] == "base_link"
    view = manager["Views"]["Current"]
    assert view["Class"] == "rviz_default_plugins/TopDownOrtho"
    assert view["Target Frame"] == "base_link"


def test_displays_are_stock_and_named_once(displays: list[dict]) -> None:
    assert {d["Class"] for d in displays} == STOCK_DISPLAYS
    names = [d["Name"] for d in displays]
    assert len(names) == len(set(names))


def test_topics_are_those_of_our_layout_and_node(displays: list[dict]) -> None:
    layout = yaml.safe_load((CONFIG / "topics" / "hdmap.yaml").read_text(encoding="utf-8"))
    images = {camera["image"] for camera in layout["cameras"].values()}
    topics = [d["Topic"]["Value"] for d in displays if "Topic" in d]
    assert {t for t in topics if "/image" in t} == images
    assert set(topics) - images == {*MARKERS, "/odom"}


def test_markers_are_read_as_they_are_published(displays: list[dict]) -> None:
    markers = [d for d in displays if d["Class"].endswith("MarkerArray")]
    assert [d["Topic"]["Value"] for d in markers] == list(MARKERS)
    for display in markers:
        assert display["Namespaces"] == {}, "a name in here would hide the namespaces that are not"
        assert display["Topic"]["Reliability Policy"] == "Reliable"
        assert display["Topic"]["Durability Policy"] == MARKERS[display["Topic"]["Value"]]
