from typing import Any

import pytest

from hdmap_core.config import parse_config
from hdmap_core.errors import ConfigError
from hdmap_core.models.view_transforms.bevformer import BEVFormerConfig


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"channels": 30}, "even multiple of heads"),
        ({"samples": 6}, "multiple of anchors"),
        ({"z_range": [2, 1]}, "lower end first"),
        ({"z_range": [1, 2], "cross_attention": "deformable"}, "begin 0.5 m off both ends"),
        ({"kernel_size": [0, 4]}, "at least one row"),
        ({"cross_attention": "lss"}, "cross_attention"),
    ],
)
def test_configs_that_cannot_work_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config(BEVFormerConfig, change, "recipe")
