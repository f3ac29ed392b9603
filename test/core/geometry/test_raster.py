import numpy as np
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from hdmap_core.geometry import BEVGrid
from hdmap_core.geometry.raster import draw_lines, fill_polygon, fill_polygons

GRID = BEVGrid((-10.0, 10.0), (-5.0, 5.0), 0.5)


def test_a_line_ahead_is_a_row() -> None:
    mask = draw_lines(GRID, [np.array([[-10.0, 1.25], [10.0, 1.25]])], thickness=0.5)
    assert mask.shape == (20, 40)
    assert mask.dtype == np.uint8
    row = int(GRID.to_cells(np.array([0.0, 1.25]))[1])
    assert mask[row].all()
    assert mask.sum() == 40


def test_thickness_closing_and_nothing() -> None:
    thick = draw_lines(GRID, [np.array([[-10.0, 0.25], [10.0, 0.25]])], thickness=1.5)
    assert thick[:, 20].sum() == 3
    assert np.flatnonzero(thick[:, 20]).mean() == GRID.to_cells(np.array([0.0, 0.25]))[1]
    triangle = np.array([[-5.0, -3.0], [5.0, -3.0], [0.0, 3.0]])
    assert draw_lines(GRID, [triangle], 0.5, closed=True).sum() > draw_lines(GRID, [triangle], 0.5).sum()
    assert draw_lines(GRID, [], 0.5).sum() == 0


def test_polygons() -> None:
    outer = np.array([[-5.0, -3.0], [5.0, -3.0], [5.0, 3.0], [-5.0, 3.0]])
    full = fill_polygon(GRID, outer)
    cells = 10 * 6 / 0.25
    assert abs(int(full.sum()) - cells) < 40  # OpenCV fills the cells of the outline as well
    assert full[9, 20] == 1
    assert fill_polygon(GRID, outer * 100).all()  # far beyond the grid


def test_agrees_with_points_in_polygon() -> None:
    generator = np.random.default_rng(0)
    corners = shapely.get_coordinates(shapely.convex_hull(shapely.MultiPoint(generator.uniform(-4, 4, (9, 2)))))[:-1]
    mask = fill_polygon(GRID, corners)
    polygon = shapely.Polygon(corners)
    centres = shapely.points(GRID.cell_centres().numpy())
    inside = shapely.contains(polygon.buffer(-0.5), centres)
    outside = shapely.disjoint(polygon.buffer(0.5), centres)
    assert mask[inside].all()
    assert not mask[outside].any()


def rectangle(x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])


def test_cell_centres_decide_what_a_polygon_fills() -> None:
    mask = fill_polygons(GRID, [[rectangle(-2.0, -1.0, 3.0, 1.5)]])  # on cell borders: 10 x 5 cells, none more
    assert mask.dtype == np.uint8 and mask.sum() == 50
    assert mask[8:13, 16:26].all()
    assert fill_polygons(GRID, [[rectangle(-2.3, -1.2, 3.3, 1.7)]]).sum() == 12 * 5
    assert fill_polygons(GRID, []).sum() == 0
    assert fill_polygons(GRID, [[rectangle(-99, -99, 99, 99)]]).all()
    assert not fill_polygons(GRID, [[rectangle(20, -99, 99, 99)]]).any()


def test_a_hole_stays_unless_another_polygon_covers_it() -> None:
    block = [rectangle(-4.0, -2.0, 4.0, 2.0), rectangle(-1.0, -1.0, 1.0, 1.0)]
    across = [rectangle(-0.5, -4.0, 0.5, 4.0)]
    holed = fill_polygons(GRID, [block])
    assert holed.sum() == (8 * 4 - 4) * 4
    assert not holed[8:12, 18:22].any()
    for order in ([block, across], [across, block]):
        both = fill_polygons(GRID, order)
        assert both.sum() == (8 * 4 - 4) * 4 + 2 * 4 + 2 * 2 * 4, "what two polygons cover stays covered"
        assert both[8:12, 18:22].tolist() == [[0, 1, 1, 0]] * 4


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**31), st.integers(3, 40))
def test_filled_cells_are_those_whose_centres_shapely_finds_inside(seed: int, count: int) -> None:
    generator = np.random.default_rng(seed)
    angle = np.sort(generator.uniform(0, 2 * np.pi, count))
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    middle = generator.uniform(-6, 6, 2)
    outer = circle * generator.uniform(2, 9, (count, 1)) + middle
    area = shapely.make_valid(shapely.Polygon(outer)).difference(shapely.Point(middle).buffer(1.5))
    parts = [part for part in shapely.get_parts(area) if part.geom_type == "Polygon"]
    rings = [[shapely.get_coordinates(ring) for ring in (part.exterior, *part.interiors)] for part in parts]
    x, y = GRID.cell_centres().double().numpy().transpose(2, 0, 1)
    inside = np.any([shapely.contains_xy(part, x, y) for part in parts], axis=0)
    np.testing.assert_array_equal(fill_polygons(GRID, rings), inside)
