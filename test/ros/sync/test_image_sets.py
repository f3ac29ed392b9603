"""What a synchroniser is told, makes and counts."""

from typing import Any

import pytest

from hdmap_core.errors import ConfigError
from hdmap_ros.sync.image_sets import ImageSet, Move, SyncConfig


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"anchor": "TOP"}, "anchor camera 'TOP' is not among the cameras FRONT, BACK"),
        ({"min_cameras": 3}, r"1\.\.2, got 3"),
        ({"cameras": ("FRONT", "FRONT")}, "a list of different names"),
        ({"cameras": ()}, "a list of different names"),
    ],
)
def test_config_names_what_is_wrong(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        SyncConfig(**{"cameras": ("FRONT", "BACK"), "anchor": "FRONT", "min_cameras": 1, **changes})


def test_a_set_knows_what_it_lacks_and_how_far_its_stamps_lie_apart() -> None:
    one = ImageSet(5, {"FRONT": "image"}, {"FRONT": 5}, ("BACK",), 0)
    both = ImageSet(5, {"FRONT": "image", "BACK": "image"}, {"FRONT": 5, "BACK": 47}, (), 0)
    assert [(each.complete, each.spread_ns) for each in (one, both)] == [(False, 0), (True, 42)]


def test_a_move_in_words() -> None:
    assert str(Move("BACK", -40_000_000, 5_000_000_000)) == "BACK by -40.0 ms at 5.000 s"


def test_a_set_that_is_held_back_says_so() -> None:
    held = ImageSet(5, {"FRONT": "image"}, {"FRONT": 5}, (), 30, 10).held_for(100)
    assert (held.waited_ns, held.held_ns) == (130, 110)
