"""One typed config: declared, validated, documented from the same table."""

from pathlib import Path

import pytest
import yaml

from hdmap_core.errors import ConfigError
from hdmap_ros.node_config import (
    CAMERA_PARAMETERS,
    PARAMETERS,
    OnlineMapConfig,
    config_from_values,
    default_image_topic,
    parameter_file,
    parameter_table,
    sibling_info_topic,
)

ROOT = Path(__file__).resolve().parents[2]


def test_the_documentation_has_the_table() -> None:
    assert parameter_table() in (ROOT / "docs" / "ros.md").read_text()


def test_the_parameter_file_holds_the_defaults() -> None:
    path = ROOT / "config" / "online_map.yaml"
    assert path.read_text() == parameter_file()
    values = yaml.safe_load(path.read_text())["/**"]["ros__parameters"]
    assert config_from_values(values) == OnlineMapConfig()
    assert set(values) == {spec.name for spec in PARAMETERS if spec.default != ""}


def test_every_parameter_has_words_and_a_default_within_its_limits() -> None:
    assert len({spec.name for spec in PARAMETERS}) == len(PARAMETERS)
    for spec in PARAMETERS:
        assert spec.description and "\n" not in spec.description
        assert spec.check(spec.default) == spec.default
    assert all(CAMERA_PARAMETERS.values())


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("sync.timeout", 2.0, r"sync\.timeout: 2\.0 lies outside 0\.0\.\.1\.0"),
        ("sync.policy", "magic", "none of cycle, approximate, exact"),
        ("max_elements", "many", "expected a integer"),
        ("max_elements", True, "expected a integer"),
        ("camera_names", [], "expected a list of names"),
        ("sync.timout", 0.1, "unknown parameter 'sync.timout'"),
        ("score_threshold", float("nan"), "lies outside"),
    ],
)
def test_wrong_values_are_named(name: str, value: object, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        config_from_values({name: value})


def test_a_whole_number_will_do_for_a_double() -> None:
    assert config_from_values({"max_rate": 5}).max_rate == 5.0


def test_topics() -> None:
    assert default_image_topic("CAM_FRONT", "compressed") == "cam_front/image_raw/compressed"
    assert default_image_topic("CAM_FRONT", "raw") == "cam_front/image_raw"
    assert sibling_info_topic("/a/image_raw/compressed") == "/a/camera_info"
    assert sibling_info_topic("/a/image_rect") == "/a/camera_info"
    assert sibling_info_topic("image") == "camera_info"
