import numpy as np

from hdmap_core.geometry import BEVGrid
from hdmap_core.geometry.raster import draw_lines, fill_polygon

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


def test_polygons_with_holes() -> None:
    outer = np.array([[-5.0, -3.0], [5.0, -3.0], [5.0, 3.0], [-5.0, 3.0]])
    hole = outer / 4
    full, ring = fill_polygon(GRID, outer), fill_polygon(GRID, outer, [hole])
    cells = 10 * 6 / 0.25
    assert abs(int(full.sum()) - cells) < 40  # OpenCV fills the cells of the outline as well
    assert ring[9, 20] == 0
    assert full[9, 20] == 1
    assert fill_polygon(GRID, outer * 100).all()  # far beyond the grid


def test_agrees_with_points_in_polygon() -> None:
    import shapely

    generator = np.random.default_rng(0)
    corners = shapely.get_coordinates(shapely.convex_hull(shapely.MultiPoint(generator.uniform(-4, 4, (9, 2)))))[:-1]
    mask = fill_polygon(GRID, corners)
    polygon = shapely.Polygon(corners)
    centres = shapely.points(GRID.cell_centres().numpy())
    inside = shapely.contains(polygon.buffer(-0.5), centres)
    outside = shapely.disjoint(polygon.buffer(0.5), centres)
    assert mask[inside].all()
    assert not mask[outside].any()
