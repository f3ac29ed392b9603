"""The lidar sweep: order, motion correction, ranges, materials."""

import math

import numpy as np
import pytest

from hdmap_core.datasets.synthetic.sensors.lidar import NUM_COLUMNS, NUM_RINGS, TURN_S, TownLidar
from hdmap_core.datasets.synthetic.town import Box, Mover

EGO_FROM_LIDAR = np.array([[0.0, 1, 0, 0.94], [-1, 0, 0, 0], [0, 0, 1, 1.84], [0, 0, 0, 1]])
SPEED = 9.0
MIDDLE = 80.0
"""Centre of the crossroads of conftest.py, metres."""


def driving_east(time_s: float) -> np.ndarray:
    pose = np.eye(4)
    pose[:2, 3] = 60.0 + SPEED * time_s, MIDDLE - 1.75
    return pose


def turning(time_s: float) -> np.ndarray:
    yaw = 0.3 + 0.6 * time_s
    pose = np.eye(4)
    pose[:2, :2] = [[math.cos(yaw), -math.sin(yaw)], [math.sin(yaw), math.cos(yaw)]]
    pose[:2, 3] = 60.0 + 8.0 * time_s, MIDDLE + 4.0 * time_s
    return pose


def in_town(sweep: np.ndarray, pose: np.ndarray) -> np.ndarray:
    town_from_lidar = pose @ EGO_FROM_LIDAR
    return sweep[:, :3].astype(np.float64) @ town_from_lidar[:3, :3].T + town_from_lidar[:3, 3]


def returned(sweep: np.ndarray) -> np.ndarray:
    return np.linalg.norm(sweep[:, :3], axis=1) > 2.0


def test_order_of_rings_and_columns(crossroads_town):
    sweep = TownLidar(crossroads_town()).cast_sweep(lambda _: driving_east(0.0), EGO_FROM_LIDAR, 0.0, 1)
    assert sweep.shape == (NUM_COLUMNS * NUM_RINGS, 5) and sweep.dtype == np.float32
    np.testing.assert_array_equal(sweep[:, 4], np.tile(np.arange(32), NUM_COLUMNS))
    grid = sweep.reshape(NUM_COLUMNS, NUM_RINGS, 5)
    # Ring 0 always hits the ground 3 m away and tells where a column looks.
    for share, (x, y) in ((0.0, (-1, 0)), (0.25, (0, 1)), (0.5, (1, 0)), (0.75, (0, -1))):
        lowest = grid[int(share * NUM_COLUMNS) : int(share * NUM_COLUMNS) + 5, 0, :2]
        seen = lowest[np.linalg.norm(lowest, axis=1) > 1.0].mean(axis=0)
        assert np.dot(seen / np.linalg.norm(seen), (x, y)) > 0.999
    hits = returned(sweep)
    elevation = np.degrees(np.arcsin(sweep[hits, 2] / np.linalg.norm(sweep[hits, :3], axis=1)))
    expected = -30.6 + sweep[hits, 4] * (10.7 + 30.6) / 31
    assert np.abs(elevation - expected).max() < 0.05
    assert set(np.unique(sweep[:, 3] % 1)) == {0.0} and sweep[:, 3].min() >= 0 and sweep[:, 3].max() <= 255


@pytest.mark.parametrize("motion", [driving_east, turning])
def test_ground_is_flat_after_motion_correction(crossroads_town, motion):
    sweep = TownLidar(crossroads_town()).cast_sweep(motion, EGO_FROM_LIDAR, 1.3, 5)
    z = in_town(sweep, motion(1.3))[returned(sweep), 2]
    assert len(z) > 10_000
    assert np.abs(z).max() < 0.05


def test_wall_stands_where_it_is_although_the_vehicle_moves(crossroads_town):
    wall = Box((60.0, MIDDLE + 20.0), 0.0, (60.0, 4.0, 12.0), (0.4, 0.4, 0.4), "building")
    sweep = TownLidar(crossroads_town(boxes=(wall,))).cast_sweep(driving_east, EGO_FROM_LIDAR, 0.5, 2)
    points = in_town(sweep, driving_east(0.5))[returned(sweep)]
    on_wall = points[(points[:, 2] > 0.3) & (np.abs(points[:, 0] - 60.0) < 29.0)]
    assert len(on_wall) > 500
    assert np.abs(on_wall[:, 1] - (MIDDLE + 18.0)).max() < 0.08
    assert not ((points[:, 1] > MIDDLE + 18.3) & (np.abs(points[:, 0] - 60.0) < 15.0)).any()


def test_columns_are_fired_one_after_another(crossroads_town):
    """The right-hand column (half turn) fired 25 ms before the end: its origin lies behind the final one."""
    sweep = TownLidar(crossroads_town()).cast_sweep(driving_east, EGO_FROM_LIDAR, 0.5, 2)
    sweep = sweep.reshape(NUM_COLUMNS, NUM_RINGS, 5)
    rising = sweep[:, NUM_RINGS - 1]
    assert np.linalg.norm(rising[:, :3], axis=1).max() < SPEED * TURN_S + 0.2
    behind = -rising[NUM_COLUMNS // 2, 1]
    assert behind == pytest.approx(SPEED * TURN_S / 2, abs=0.02)
    assert -rising[0, 1] == pytest.approx(SPEED * TURN_S, abs=0.02)
    assert (rising[:, 3] == 0).all()


def test_mover_is_met_where_it_was_when_its_column_fired(crossroads_town):
    route = np.array([[10.0, MIDDLE + 3.0], [150.0, MIDDLE + 3.0]])
    bus = Mover(route, 50.0, -10.0, (10.0, 2.5, 3.0), (0.5, 0.5, 0.5), "bus")
    sweep = TownLidar(crossroads_town(movers=(bus,))).cast_sweep(lambda _: driving_east(0.0), EGO_FROM_LIDAR, 0.0, 2)
    points = in_town(sweep, driving_east(0.0))[returned(sweep)]
    on_bus = points[points[:, 2] > 0.3]
    # The bus stands to the left, where the sweep begins (50 ms ago, 0.5 m further east) and ends.
    assert on_bus[:, 0].max() == pytest.approx(65.5, abs=0.15)
    assert on_bus[:, 0].min() == pytest.approx(55.0, abs=0.15)


def test_paint_shines_and_seeds_matter(crossroads_town):
    lidar = TownLidar(crossroads_town())
    sweep = lidar.cast_sweep(lambda _: driving_east(0.0), EGO_FROM_LIDAR, 0.0, 3)
    points, keep = in_town(sweep, driving_east(0.0)), returned(sweep)
    on_stop_line = keep & (np.abs(points[:, 0] - (MIDDLE - 15.2)) < 0.12) & (points[:, 1] < MIDDLE - 0.3)
    on_stop_line &= points[:, 1] > MIDDLE - 6.5
    on_lane = keep & (np.abs(points[:, 1] - (MIDDLE - 1.75)) < 0.5) & (points[:, 0] < 60.0)
    assert on_stop_line.sum() > 5 and on_lane.sum() > 50
    assert np.median(sweep[on_stop_line, 3]) > 4 * np.median(sweep[on_lane, 3])
    again = TownLidar(crossroads_town()).cast_sweep(lambda _: driving_east(0.0), EGO_FROM_LIDAR, 0.0, 3)
    other = lidar.cast_sweep(lambda _: driving_east(0.0), EGO_FROM_LIDAR, 0.0, 4)
    assert sweep.tobytes() == again.tobytes() and sweep.tobytes() != other.tobytes()
