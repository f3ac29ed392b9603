import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hdmap_core.errors import ConfigError
from hdmap_core.geometry import BEVGrid

GRID = BEVGrid((-30.0, 30.0), (-15.0, 15.0), 0.5)


def test_shape_and_corners() -> None:
    assert GRID.shape == (60, 120)
    assert GRID.size == (60.0, 30.0)
    centres = GRID.cell_centres()
    assert centres.shape == (60, 120, 2)
    assert centres[0, 0].tolist() == [-29.75, -14.75]  # behind and to the right
    assert centres[-1, -1].tolist() == [29.75, 14.75]
    assert centres[0, 1].tolist() == [-29.25, -14.75]  # columns run forward


def test_cells_of_metres() -> None:
    np.testing.assert_allclose(GRID.to_cells(np.array([-29.75, -14.75])), [0, 0])
    np.testing.assert_allclose(GRID.to_cells(np.array([-30.0, -15.0])), [-0.5, -0.5])
    torch.testing.assert_close(GRID.to_cells(GRID.cell_centres())[3, 7], torch.tensor([7.0, 3.0]), atol=1e-5, rtol=0.0)
    np.testing.assert_allclose(GRID.normalise(np.array([[30.0, -15.0], [0.0, 0.0]])), [[1, 0], [0.5, 0.5]])


@settings(max_examples=50, deadline=None, derandomize=True)
@given(points=st.lists(st.tuples(st.floats(-100, 100), st.floats(-100, 100)), min_size=1, max_size=5))
def test_round_trips(points: list) -> None:
    array = np.array(points)
    np.testing.assert_allclose(GRID.to_metres(GRID.to_cells(array)), array, atol=1e-9)
    np.testing.assert_allclose(GRID.denormalise(GRID.normalise(array)), array, atol=1e-9)
    tensor = torch.from_numpy(array)
    np.testing.assert_allclose(GRID.to_cells(tensor).numpy(), GRID.to_cells(array))
    assert GRID.normalise(array.astype(np.float32)).dtype == np.float32


@pytest.mark.parametrize(
    ("x_range", "resolution"), [((-30.0, 30.0), 0.7), ((0.0, 0.0), 0.5), ((30.0, -30.0), 0.5), ((-30.0, 30.0), 0.0)]
)
def test_ranges_that_are_no_whole_number_of_cells(x_range: tuple[float, float], resolution: float) -> None:
    with pytest.raises(ConfigError, match="x_range"):
        BEVGrid(x_range, (-15.0, 15.0), resolution)


def test_as_a_user_writes_it() -> None:
    assert BEVGrid.parse("120x60@0.3", 0.15) == BEVGrid((-60.0, 60.0), (-30.0, 30.0), 0.3)
    assert BEVGrid.parse("61.5x30", 0.15) == BEVGrid((-30.75, 30.75), (-15.0, 15.0), 0.15)


@pytest.mark.parametrize("text", ["60", "60x", "axb", "60x30@", "60x30@0.7", "0x30", "-60x30", "60x30x2"])
def test_writings_that_are_no_grid(text: str) -> None:
    with pytest.raises(ConfigError, match="grid"):
        BEVGrid.parse(text, 0.15)
