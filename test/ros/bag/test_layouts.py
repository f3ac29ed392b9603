"""Topic layouts: those of the repository, and what is wrong with others."""

from pathlib import Path

import pytest
import yaml

from hdmap_core.errors import ConfigError
from hdmap_ros.bag.layouts import layout_folder, load_layout
from hdmap_ros.node_config import NUSCENES_CAMERAS

FIELDS = {"transport", "cameras", "lidar", "tf"}


def test_layouts_of_the_repository_load() -> None:
    names = [path.stem for path in layout_folder().glob("*.yaml")]
    assert {"hdmap", "nuscenes2bag", "foxglove"} <= set(names)
    for name in names:
        assert set(yaml.safe_load((layout_folder() / f"{name}.yaml").read_text())) == FIELDS
        layout = load_layout(name)
        assert set(layout.cameras) == set(NUSCENES_CAMERAS)
        images = [camera.image for camera in layout.cameras.values()]
        assert len(set(images)) == 6, f"{name}: two cameras share a topic"
        assert all(topic.startswith("/") for topic in images)


def test_wrong_layouts_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no topic layout 'nuscene'.*there are .*hdmap"):
        load_layout("nuscene")
    path = tmp_path / "mine.yaml"
    for content, reason in (
        ("transport: compressed", "the field 'cameras' is missing"),
        ("- a list", "not a topic layout"),
        ("a: [", "cannot read the topic layout"),
    ):
        path.write_text(content)
        with pytest.raises(ConfigError, match=reason):
            load_layout(str(path))
