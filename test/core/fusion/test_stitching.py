"""A map in pieces put together: also pieces that a border has cut to nothing."""

import numpy as np
import pytest

from hdmap_core.elements import MapClass, MapElement
from hdmap_core.fusion.stitching import stitched


def test_a_line_without_a_length_divides_by_nothing() -> None:
    point = MapElement(MapClass.DIVIDER, np.array([[3.0, 1.0], [3.0, 1.0]]), score=0.25)
    (found,) = stitched([point])
    assert found.score == 0.25
    line = MapElement(MapClass.DIVIDER, np.array([[0.0, 1.0], [2.5, 1.0]]), score=0.75)
    assert sorted(element.score for element in stitched([point, line])) in ([0.25, 0.75], [0.75])


@pytest.mark.parametrize("apart", [0.0, 0.05])
def test_crossings_without_an_area_divide_by_nothing(apart: float) -> None:
    pieces = [
        MapElement(MapClass.PED_CROSSING, np.array([[0.0, y], [4.0, y], [2.0, y]]), closed=True, score=score)
        for y, score in ((0.0, 0.2), (apart, 0.6))
    ]
    found = stitched(pieces)
    assert np.mean([element.score for element in found]) == pytest.approx(0.4)
