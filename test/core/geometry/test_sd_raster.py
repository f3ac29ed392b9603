"""The SD map as a raster."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hdmap_core.geometry import BEVGrid
from hdmap_core.geometry.sd_raster import sd_raster

GRID = BEVGrid((-15.0, 15.0), (-7.5, 7.5), 0.3)  # (50, 100)


@pytest.mark.parametrize("lines", [None, (), (np.zeros((1, 2), np.float32),), (np.array([[400.0, 0], [500, 9]]),)])
def test_nowhere_a_road(lines: tuple[np.ndarray, ...] | None) -> None:
    raster = sd_raster(lines, GRID)
    assert raster.shape == (1, 50, 100) and raster.dtype == np.float32
    assert (raster == -1).all()


def test_a_road_ahead_fills_its_rows() -> None:
    # y = 3 m is between the rows 34 and 35; cell (row 35) has its centre at 3.15 m.
    raster = sd_raster((np.array([[0.0, 3.15], [20.0, 3.15]], np.float32),), GRID)[0]
    rows, columns = np.nonzero(raster == 1)
    assert set(rows) == {32, 33, 34, 35, 36, 37, 38}
    assert columns.min() in (47, 48, 49) and columns.max() == 99
    assert set(np.unique(raster)) == {-1.0, 1.0}


@pytest.mark.parametrize("cells", [1, 3, 5, 7])
def test_thickness_is_in_cells(cells: int) -> None:
    raster = sd_raster((np.array([[-50.0, 0.1], [50.0, 0.1]]),), GRID, cells)[0]
    assert ((raster == 1).sum(axis=0) == cells).all()


def test_a_road_just_outside_reaches_in() -> None:
    edge = np.array([[-50.0, 7.6], [50.0, 7.6]])
    assert (sd_raster((edge,), GRID, 5)[0] == 1).any(axis=1).sum() == 2
    assert (sd_raster((edge + np.array([0, 2]),), GRID, 5) == -1).all()


def test_lines_are_not_changed() -> None:
    line = np.array([[-1e4, 0.0], [1e4, 1.0]], np.float32)
    kept = line.copy()
    sd_raster((line,), GRID)
    np.testing.assert_array_equal(line, kept)


coordinate = st.floats(-14, 14, width=32)


@given(st.tuples(coordinate, coordinate), st.tuples(coordinate, coordinate), st.floats(1, 1e7))
def test_roads_that_reach_far_out(start: tuple[float, float], end: tuple[float, float], far: float) -> None:
    """A line drawn on beyond the grid, by up to ten thousand kilometres, is the same inside it."""
    line = np.array([start, end], np.float64)
    direction = line[1] - line[0]
    length = np.linalg.norm(direction)
    if length < 1:
        return
    raster = sd_raster((np.stack([line[0], line[1] + direction / length * far]),), GRID)[0]
    inside = np.linspace(line[0], line[1], 50)
    inside = inside[(np.abs(inside) < [14.9, 7.4]).all(axis=1)]
    columns, rows = np.round(GRID.to_cells(inside)).astype(int).T
    assert (raster[rows, columns] == 1).all()
