"""Topic layouts: those of the repository, and what is wrong with others."""

from pathlib import Path

import pytest

from hdmap_core.errors import ConfigError
from hdmap_ros.bag.layouts import layout_folder, load_layout


def test_layouts_of_the_repository_load() -> None:
    names = [path.stem for path in layout_folder().glob("*.yaml")]
    assert {"hdmap", "nuscenes2bag", "foxglove"} <= set(names)
    for name in names:
        assert len(load_layout(name).cameras) == 6


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
