"""The painted ground: places, colours, mip levels, reflectivity."""

import numpy as np
import pytest

from hdmap_core.datasets.synthetic.ground.picture import bake_ground, bake_reflectivity
from hdmap_core.datasets.synthetic.ground.shapes import crossing_pieces, marking_pieces, strip
from hdmap_core.datasets.synthetic.town import Crossing, Marking

MIDDLE = 80.0


def colour_at(texture, x: float, y: float, level: int = 0) -> np.ndarray:
    column, row, _ = np.rint(texture.level_from_town(level) @ (x, y, 1.0)).astype(int)
    return texture.levels[level][row, column].astype(int)


@pytest.fixture(scope="module")
def texture(crossroads_town):
    return bake_ground(crossroads_town(), 0.1)


def test_strip_has_the_width_and_length_asked_for():
    line = np.array([[0.0, 0.0], [10.0, 0.0], [10.0, 10.0]])
    ring = strip(line, 2.0, 6.0, 0.5, aside=1.0)
    np.testing.assert_allclose(ring.min(axis=0), [2.0, 0.75])
    np.testing.assert_allclose(ring.max(axis=0), [6.0, 1.25])


def test_styles_of_markings_and_crossings():
    line = np.stack([np.linspace(0.0, 60.0, 61), np.zeros(61)], axis=1)
    area = {}
    for style in ("solid", "dashed", "double_solid"):
        rings = marking_pieces(Marking(line, "lane_divider", style, "white"))
        area[style] = sum(np.ptp(ring[:, 0]) * np.ptp(ring[:, 1]) for ring in rings)
    assert area["solid"] == pytest.approx(60 * 0.15)
    assert area["double_solid"] == pytest.approx(2 * 60 * 0.12)
    assert 0.3 < area["dashed"] / area["solid"] < 0.5
    corners = np.array([[0.0, 0.0], [3.0, 0.0], [3.0, 12.0], [0.0, 12.0]])
    count = {style: len(crossing_pieces(Crossing(corners, style))) for style in ("zebra", "ladder", "lines")}
    assert count["lines"] == 2 and count["ladder"] == count["zebra"] + 2 and count["zebra"] == 11
    for ring in crossing_pieces(Crossing(corners, "zebra")):
        # Stripes are as long as the crossing is deep and lie parallel to the traffic.
        assert np.ptp(ring[:, 0]) == pytest.approx(3.0) and np.ptp(ring[:, 1]) == pytest.approx(0.5)
        assert ring.min() >= -1e-9 and ring[:, 1].max() <= 12.0 + 1e-9


def test_paint_is_where_the_map_says(texture):
    asphalt = colour_at(texture, MIDDLE, MIDDLE + 5.0)
    stop_line = colour_at(texture, MIDDLE - 15.2, MIDDLE - 3.0)
    assert stop_line.min() > asphalt.max() + 60
    r, g, b = colour_at(texture, 40.0, MIDDLE + 0.14)
    assert r > g > b + 50
    assert np.abs(colour_at(texture, 40.0, MIDDLE + 5.0) - asphalt).max() < 40
    r, g, b = colour_at(texture, 30.0, 30.0)
    assert g > r > b
    kerb = colour_at(texture, 40.0, MIDDLE - 7.15)
    assert kerb.min() > asphalt.max() + 50


def test_levels_keep_places_and_brightness(texture):
    for level in range(1, 4):
        assert texture.levels[level].shape[0] == texture.levels[0].shape[0] >> level
        assert abs(texture.levels[level].mean() - texture.levels[0].mean()) < 1.0
        x, y, _ = np.linalg.inv(texture.level_from_town(level)) @ (0.0, 0.0, 1.0)
        assert (x, y) == pytest.approx((0.05 * 2**level,) * 2)


def test_same_town_same_bytes(crossroads_town, texture):
    assert bake_ground(crossroads_town(), 0.1).levels[0].tobytes() == texture.levels[0].tobytes()


def test_reflectivity_tells_materials_apart(crossroads_town):
    table = bake_reflectivity(crossroads_town())
    paint = table[int((MIDDLE - 3.0) / 0.1), int((MIDDLE - 15.2) / 0.1)]
    asphalt = table[int((MIDDLE + 5.0) / 0.1), int(MIDDLE / 0.1)]
    walkway = table[int((MIDDLE - 9.0) / 0.1), 400]
    assert paint > 3 * walkway > 3 * asphalt
