"""The ground's relief from points, against hills that are known."""

import numpy as np

from hdmap_core.geometry.ground_relief import REACH, GroundRelief, relief_from_points


def _hill(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A crest ahead, a crossfall behind, 4 % at most."""
    return -(np.maximum(x - 8, 0) ** 2) / 600 + 0.02 * np.abs(y) - 0.0008 * np.minimum(x, 0) * y


def _street(count: int = 12_000) -> np.ndarray:
    """(P, 3): a hilly street with cars, walls and ghosts below it, as dense near the car as a LiDAR sees it."""
    rng = np.random.default_rng(0)
    far, turn = 40 * rng.uniform(0.06, 1, count), rng.uniform(0, 2 * np.pi, count)
    x, y = far * np.cos(turn), far * np.sin(turn)
    ground = np.c_[x, y, _hill(x, y) + rng.normal(0, 0.02, count)]
    cars = np.c_[rng.uniform((5, -6), (9, -4), (600, 2)), rng.uniform(0.3, 1.5, 600)]
    wall = np.c_[rng.uniform(-30, 30, 3000), np.full(3000, 12.0), rng.uniform(0.2, 4, 3000)]
    ghosts = np.c_[rng.uniform(-30, 30, (60, 2)) / [1, 2], rng.uniform(-5, -1, 60)]
    return np.concatenate([ground, cars, wall, ghosts])


def test_hills_are_found_under_what_stands_on_them() -> None:
    relief = relief_from_points(_street())
    assert relief is not None
    x, y = (side.ravel() for side in np.meshgrid(np.linspace(-30, 30, 61), np.linspace(-11, 11, 23)))
    off = np.abs(relief.at(x, y) - _hill(x, y))
    assert np.ptp(_hill(x, y)) > 1.0 and np.median(off) < 0.02 and np.quantile(off, 0.95) < 0.08


def test_a_plane_has_no_relief_and_beyond_its_reach_it_goes_on() -> None:
    rng = np.random.default_rng(0)
    relief = relief_from_points(np.c_[rng.uniform(-40, 40, (8000, 2)), rng.normal(0, 0.01, 8000)])
    assert relief is not None and np.abs(relief.heights).max() < 0.02
    ends = relief.at(np.array([REACH[0], 99.0]), np.array([0.0, 0.0]))
    assert ends[0] == ends[1]


def test_too_little_ground_tells_nothing() -> None:
    assert relief_from_points(np.zeros((0, 5), np.float32)) is None
    assert relief_from_points(_street()[:90]) is None


def test_any_number_of_places_of_any_shape() -> None:
    relief = GroundRelief(np.tile(np.arange(25, dtype=np.float32), (13, 1)))
    x = np.linspace(-36.0, 36.0, 40_000)
    for shape in ((40_000,), (200, 200), (2, 100, 200)):
        found = relief.at(x.reshape(shape), np.zeros(shape))
        np.testing.assert_allclose(found, (x.reshape(shape) + 36) / 3, atol=1e-4)
