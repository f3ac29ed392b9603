"""Several LiDAR sweeps in one observation: by hand at 8 m/s along x, and in a synthetic town."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial import KDTree

from hdmap_core.datasets.nuscenes import NuScenesDataset, NuScenesTables
from hdmap_core.datasets.nuscenes.keyframe_index import KeyframeIndex, open_tables, write_index
from hdmap_core.errors import DatasetError
from hdmap_core.observation import Observation
from hdmap_core.observation.lidar_points import lidar_points

TOKEN = "sample-0-1"  # its sweep, sweep-0, ended 50 ms before it


def change(root: Path, table: str, token: str, **fields: Any) -> None:
    path = root / "v1.0-mini" / f"{table}.json"
    rows = json.loads(path.read_text())
    next(row for row in rows if row["token"] == token).update(fields)
    path.write_text(json.dumps(rows))


def observed(root: Path, token: str = TOKEN, sweeps: int = 3) -> Observation:
    return NuScenesDataset(root).observation(token, images=False, sweeps=sweeps)


def test_an_older_sweep_is_carried_along(small_root: Path) -> None:
    observation = observed(small_root)
    # 0.05 s at 8 m/s: what stands still comes 0.4 m closer.
    key = [[10.9, 0, 1.8, 50, 3], [0.9, -5, 2.8, 20, 4]]
    before = [[10.5, 0, 1.8, 50, 3], [0.5, -5, 2.8, 20, 4]]
    assert observation.points is not None and observation.points.dtype == np.float32
    np.testing.assert_allclose(observation.points, key + before, atol=1e-5)
    assert observation.point_age_s is not None and observation.point_age_s.dtype == np.float32
    np.testing.assert_allclose(observation.point_age_s, [0, 0, 0.05, 0.05], atol=1e-7)


def test_as_many_sweeps_as_asked_for(small_root: Path) -> None:
    alone = observed(small_root, sweeps=1)
    assert alone.points is not None and alone.point_age_s is not None
    assert len(alone.points) == 2 and not alone.point_age_s.any()
    first = observed(small_root, "sample-0-0", sweeps=5)  # the scene begins here
    assert first.points is not None and len(first.points) == 2
    with pytest.raises(ValueError, match="sweeps must be at least 1, got 0"):
        observed(small_root, sweeps=0)


def test_without_points_there_are_no_ages(small_root: Path) -> None:
    observation = NuScenesDataset(small_root).observation(TOKEN, images=False, points=False, sweeps=3)
    assert observation.points is None and observation.point_age_s is None
    none = lidar_points(observation)
    assert none.shape == (0, 5) and none.dtype == np.float32


def test_points_of_a_model_have_an_age(small_root: Path) -> None:
    points = lidar_points(observed(small_root))
    assert points.dtype == np.float32
    np.testing.assert_allclose(points[[0, 3]], [[10.9, 0, 1.8, 50, 0], [0.5, -5, 2.8, 20, 0.05]], atol=1e-5)


@pytest.mark.parametrize(("before_us", "count"), [(299_000, 2), (300_000, 2), (301_000, 1), (0, 1), (-1000, 1)])
def test_how_old_a_sweep_may_be(small_root: Path, before_us: int, count: int) -> None:
    stamp = NuScenesTables(small_root).keyframe(TOKEN)["LIDAR_TOP"].stamp_ns // 1000
    change(small_root, "sample_data", "sweep-0", timestamp=stamp - before_us)
    ages = observed(small_root).point_age_s
    assert ages is not None and len(ages) == 2 * count
    if count == 2:
        np.testing.assert_allclose(ages[2:], before_us * 1e-6, rtol=1e-6)


def test_a_keyframe_before_counts_by_its_stamp(small_root: Path) -> None:
    key = NuScenesTables(small_root).keyframe(TOKEN)["LIDAR_TOP"].stamp_ns // 1000
    change(small_root, "sample_data", "LIDAR_TOP-0-0", timestamp=key - 200_000)
    ages = observed(small_root).point_age_s
    assert ages is not None
    np.testing.assert_allclose(ages, [0, 0, 0.05, 0.05, 0.2, 0.2], atol=1e-7)


def test_missing_files_are_named(small_root: Path) -> None:
    (small_root / "sweeps" / "LIDAR_TOP" / "sweep-0.pcd.bin").unlink()
    assert observed(small_root, sweeps=1).points is not None
    with pytest.raises(DatasetError, match=r"sweep-0\.pcd\.bin.*; or ask for the keyframes' sweeps alone"):
        observed(small_root)
    (small_root / "samples" / "LIDAR_TOP" / "LIDAR_TOP-0-1.pcd.bin").unlink()
    with pytest.raises(DatasetError, match=r"LIDAR_TOP-0-1\.pcd\.bin.*unpack the sensor files$"):
        observed(small_root, sweeps=1)


def test_a_sweep_without_pose_is_named_when_asked_for(small_root: Path) -> None:
    change(small_root, "sample_data", "sweep-0", ego_pose_token="gone")
    assert observed(small_root, sweeps=1).points is not None
    with pytest.raises(DatasetError, match="no record 'gone', which sample_data sweep-0 points to"):
        observed(small_root)


def test_the_index_gives_the_same(small_root: Path, tmp_path: Path) -> None:
    tables = NuScenesTables(small_root)
    write_index(tables, tmp_path / "cache")
    index = open_tables(small_root, tmp_path / "cache")
    assert isinstance(index, KeyframeIndex)
    counts = [len(tables.previous_sweeps(token)) for scene in tables.scenes for token in scene.sample_tokens]
    assert counts == [0, 1, 0, 1]
    by_tables, by_index = NuScenesDataset(small_root), NuScenesDataset(small_root, tables=index)
    for token in by_tables.tokens:
        for expected, found in zip(tables.previous_sweeps(token), index.previous_sweeps(token), strict=True):
            for name, value in vars(expected).items():
                np.testing.assert_array_equal(getattr(found, name), value, err_msg=name)
        expected, found = (data.observation(token, images=False, sweeps=3) for data in (by_tables, by_index))
        np.testing.assert_array_equal(found.points, expected.points)
        np.testing.assert_array_equal(found.point_age_s, expected.point_age_s)


def upright(points: np.ndarray) -> np.ndarray:
    """What stands on the ground, by its place on it: walls, stems, poles."""
    distance = np.hypot(points[:, 0], points[:, 1])
    return points[(points[:, 2] > 0.5) & (distance > 3) & (distance < 30), :2]


def test_what_stands_still_stays_in_place(sensor_world: Path) -> None:
    """In a town driven through at about 7 m/s, the LiDAR at 20 Hz."""
    dataset = NuScenesDataset(sensor_world)
    token = dataset.tokens[1]
    observation = dataset.observation(token, images=False, sweeps=7)
    assert observation.points is not None and observation.point_age_s is not None
    ages, age_of = np.unique(observation.point_age_s, return_inverse=True)
    np.testing.assert_allclose(ages, np.arange(7) * 0.05, atol=0.005)
    key = KDTree(upright(observation.points[age_of == 0]))
    carried = key.query(upright(observation.points[age_of == 5]))[0]
    assert len(carried) > 1000
    assert np.median(carried) < 0.03 and np.percentile(carried, 90) < 0.08
    # Where the car was then: the same points without its motion.
    frame = dataset.tables.previous_sweeps(token)[4]
    ego_from_ego = np.linalg.inv(observation.map_from_ego) @ frame.map_from_ego
    there = observation.points[age_of == 5].astype(np.float64)
    there[:, :3] = (there[:, :3] - ego_from_ego[:3, 3]) @ ego_from_ego[:3, :3]
    assert np.median(key.query(upright(there))[0]) > 0.5


def test_a_town_without_sweeps_has_keyframes_only(tiny_world: Path) -> None:
    dataset = NuScenesDataset(tiny_world)
    for token in dataset.tokens:
        alone, many = (dataset.observation(token, images=False, sweeps=n).points for n in (1, 4))
        assert alone is not None and many is not None
        np.testing.assert_array_equal(alone, many)
