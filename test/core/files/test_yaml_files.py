"""YAML files that somebody hands over."""

from pathlib import Path

import pytest
import yaml

from hdmap_core.files.yaml_files import read_yaml


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "some.yaml"
    path.write_text(text)
    return path


def test_plain_values_and_aliases(tmp_path: Path) -> None:
    text = "a: &a {x: 1, y: 0x10}\nb: [*a, 2.5, 2020-01-02, text]\n"
    content = read_yaml(written(tmp_path, text))
    assert content == yaml.safe_load(text) and content["b"][0] == {"x": 1, "y": 16}


def test_merges_that_multiply_are_refused(tmp_path: Path) -> None:
    """Small enough here to be read in a second by a loader that does read them; two lines more, and memory is gone."""
    lines = ["a0: &a0 {x: 1}"]
    lines += [f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}" for i in range(1, 6)]
    with pytest.raises(yaml.YAMLError, match="merge keys"):
        read_yaml(written(tmp_path, "\n".join(lines)))


@pytest.mark.parametrize("value", ["!!bool foo", "!!int ''", "!!timestamp foo", "!!float foo", "2001-99-99"])
def test_values_that_their_tags_cannot_have(tmp_path: Path, value: str) -> None:
    with pytest.raises(yaml.YAMLError):
        read_yaml(written(tmp_path, f"a: {value}"))


def test_endless_numbers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(yaml.YAMLError, match="too long"):
        read_yaml(written(tmp_path, "a: 1" + ":59" * 2000))
