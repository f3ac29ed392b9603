"""The node's counters as diagnostics."""

import pytest

from hdmap_ros.diagnostics import OK, WARN
from hdmap_ros.node_config import OnlineMapConfig
from hdmap_ros.node_report import output_status


@pytest.mark.parametrize(
    ("published", "age_s", "expected", "max_rate", "level", "message"),
    [
        (0, 0.0, True, 0.0, WARN, "nothing published yet"),
        (5, 0.9, True, 0.0, OK, "publishing"),
        (5, 7.25, True, 0.0, WARN, "the last map is 7.2 s old"),
        (5, 7.25, False, 0.0, OK, "the last map is 7.2 s old; none is wanted"),
        (5, 7.25, True, 0.2, OK, "publishing"),
    ],
)
def test_an_old_map_is_told_where_one_is_wanted(
    published: int, age_s: float, expected: bool, max_rate: float, level: int, message: str
) -> None:
    config = OnlineMapConfig(stale_after=1.0, max_rate=max_rate)
    status = output_status({"published_since_active": published, "map_age_s": age_s}, config, expected)
    assert (status.level, status.message, status.values["map_age_s"]) == (level, message, age_s)
