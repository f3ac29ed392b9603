"""The quick ways of painting a relief give what the plain ones do, to the bit: data sets are not to change."""

import cv2
import numpy as np
import pytest

from hdmap_core.datasets.synthetic.ground import relief_ground
from hdmap_core.datasets.synthetic.ground.relief import Relief


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("width", [1, 7, 82])
def test_the_mean_of_rows_is_that_of_opencv(count: int, width: int) -> None:
    patch = np.random.default_rng(count).integers(0, 256, (9 * count, width, 3), dtype=np.uint8)
    patch[:, 0] = np.arange(9 * count)[:, None] % 4 + 100  # sums that end on a half
    wanted = cv2.resize(patch, (width, 9), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(relief_ground._mean_of_rows(patch, count), wanted)


@pytest.mark.parametrize(("step", "thin"), [(16, 1), (16, 4), (7, 1), (4, 4)])
@pytest.mark.parametrize("subrows", [1, 2, 4])
@pytest.mark.parametrize("rows", [(0, 5), (3, 9), (25, 30)])
def test_two_tables_grow_together_as_each_alone(step: int, thin: int, subrows: int, rows: tuple[int, int]) -> None:
    low, high = np.random.default_rng(1).normal(0.0, 90.0, (2, 30, 12, 2)).astype(np.float32)
    part = (*rows, 4, 9)
    both = relief_ground._grown([low, high], part, step, subrows, thin)
    alone = [relief_ground._grown([table], part, step, subrows, thin) for table in (low, high)]
    np.testing.assert_array_equal(both, np.concatenate(alone))
    assert both.shape == (2 * subrows * (rows[1] - rows[0]), 5 * step // thin + 2, 2)


def test_slopes_of_many_points_are_those_of_each() -> None:
    rng = np.random.default_rng(2)
    base, lift = rng.normal(0.0, 1.0, (2, 9, 11)).astype(np.float32)
    relief = Relief((100.0, 80.0), base, lift, np.zeros((160, 200), np.uint8))
    points = rng.uniform(-5.0, 105.0, (40, 2))
    found = relief.slope(points, 3.0)
    np.testing.assert_array_equal(found, [relief.slope(point, 3.0) for point in points])
    step = np.array([3.0, 0.0])
    east = (relief.smooth(points + step) - relief.smooth(points - step)) / 6.0
    np.testing.assert_array_equal(found[:, 0], east)
