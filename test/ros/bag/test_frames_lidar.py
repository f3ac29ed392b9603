"""LiDAR from nuScenes through a bag into a frames folder: the same points at the same place."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from hdmap_core.datasets.nuscenes import NuScenesDataset
from hdmap_core.datasets.opening import open_dataset
from hdmap_core.datasets.protocol import lidar_of
from hdmap_core.datasets.sensor_files import read_points
from hdmap_core.datasets.synthetic.presets import PRESETS
from hdmap_core.datasets.synthetic.writer import write_dataset
from hdmap_core.geometry.se3 import rotation_from_quaternion, se3, transform_points
from hdmap_core.inference import default_weights
from hdmap_core.recordings.opening import open_recording
from hdmap_core.recordings.recording import Wanted
from hdmap_core.viewer.opening import open_footage
from hdmap_ros.bag.layouts import layout_folder
from hdmap_ros.bag.mcap import open_bag
from hdmap_ros.bag.write import write_bag

POINTS = "/lidar_top/points"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Half a second of a drive, whose cameras fire at 12 Hz and whose LiDAR turns at 20 Hz."""
    root = tmp_path_factory.mktemp("lidar") / "town"
    change = {"towns": {"train": 1}, "keyframes": 2, "image_size": (45, 80), "lidar": "all", "sweeps": True}
    write_dataset(root, PRESETS["tiny"].model_copy(update=change), 1)
    return root


@pytest.fixture(scope="module")
def drive(world: Path) -> Path:
    """Its bag."""
    path = world.parent / "drive.mcap"
    write_bag(world, NuScenesDataset(world).scenes[0].name, path)
    return path


def test_the_same_points_at_the_same_place(drive: Path, world: Path, tmp_path: Path, hdmap: Callable[..., Any]) -> None:
    ended = hdmap("frames", "from-bag", drive, "-o", tmp_path / "out")
    dataset, source = open_dataset(tmp_path / "out"), NuScenesDataset(world)
    assert ended.code == 0 and f"{len(dataset.tokens)} with LiDAR" in ended.out, ended.err
    sweeps = source.sensor_frames(source.scenes[0], ["LIDAR_TOP"])
    moved = []
    for token in dataset.tokens:
        file = dataset.keyframe(token)["lidar"]
        nearest = min(sweeps, key=lambda sweep: abs(sweep.stamp_ns - int(token)))
        assert abs(nearest.stamp_ns - int(token)) <= 50_000_000
        theirs = read_points(nearest, nearest.map_from_ego @ nearest.ego_from_sensor)
        ours = read_points(file, file.map_from_ego @ file.ego_from_sensor)
        assert len(ours) == len(theirs) > 100
        np.testing.assert_allclose(ours[:, :3], theirs[:, :3], atol=1e-4)
        np.testing.assert_array_equal(ours[:, 3:], theirs[:, 3:])
        moved.append(np.abs(file.ego_from_sensor[:3, 3] - nearest.ego_from_sensor[:3, 3]).max())
        seen = dataset.observation(token, images=False)
        assert seen.points is not None and len(seen.points) > 50
    assert max(moved) > 0.01, "the car drove on between sweep and image"
    content = json.loads((tmp_path / "out" / "frames.json").read_text())
    assert {frame["lidar"]["columns"] for frame in content["frames"]} == {5}


def test_the_ground_of_a_bags_lidar_is_that_of_the_data_set(
    drive: Path, tmp_path: Path, hdmap: Callable[..., Any]
) -> None:
    assert hdmap("frames", "from-bag", drive, "-o", tmp_path / "frames").code == 0
    dataset = open_dataset(tmp_path / "frames")
    (with_lidar, without) = (
        list(open_recording([str(drive)], Wanted(lidar_ground=asked)).frames) for asked in (True, False)
    )
    assert [each.token for each in with_lidar] == list(dataset.tokens)
    for ours, plain in zip(with_lidar, without, strict=True):
        theirs = dataset.observation(ours.token, images=False, points=False, lidar_ground=True)
        assert ours.relief is not None and theirs.relief is not None and ours.points is None
        np.testing.assert_allclose(ours.rig.ego_from_camera, theirs.rig.ego_from_camera, atol=1e-4)
        np.testing.assert_allclose(ours.relief.heights, theirs.relief.heights, atol=0.02)
        assert plain.relief is None
    for asked in (True, False):
        seen = [moment.observation for moment in open_footage(drive, Wanted(lidar_ground=asked)).moments("drive")]
        assert seen and all(each is not None and (each.relief is not None) == asked for each in seen)


def test_a_replay_takes_the_ground_from_lidar_or_says_that_there_is_none(
    drive: Path, tmp_path: Path, hdmap: Callable[..., Any], changed: Any
) -> None:
    ended = hdmap("bag", "replay", drive, "-o", tmp_path / "out", "--lidar-ground")
    assert ended.code == 0 and (tmp_path / "out" / "predictions.jsonl").stat().st_size > 0, ended.err
    bare = changed(drive, tmp_path / "bare.mcap", lambda topic, _, message: None if topic == POINTS else message)
    for command in (("bag", "replay", bare, "-o", tmp_path / "none"), ("predict", default_weights(), bare)):
        ended = hdmap(*command, "--lidar-ground")
        assert ended.code == 2 and f"no sensor_msgs/msg/PointCloud2 on {POINTS}" in ended.err, ended.err


def test_without_lidar_if_that_is_wanted(drive: Path, tmp_path: Path, hdmap: Callable[..., Any]) -> None:
    ended = hdmap("frames", "from-bag", drive, "-o", tmp_path / "none", "--no-lidar")
    assert ended.code == 0 and "LiDAR" not in ended.out, ended.err
    layout = yaml.safe_load((layout_folder() / "hdmap.yaml").read_text())
    del layout["lidar"]  # whoever has none need not name it
    (tmp_path / "plain.yaml").write_text(yaml.safe_dump(layout))
    ended = hdmap("frames", "from-bag", drive, "--topics", tmp_path / "plain.yaml", "-o", tmp_path / "plain")
    assert ended.code == 0 and "LiDAR" not in ended.out, ended.err
    for name in ("none", "plain"):
        dataset = open_dataset(tmp_path / name)
        assert lidar_of(dataset.keyframe(dataset.tokens[0])) is None


def test_a_sweep_that_lacks_or_is_broken_costs_no_frame(
    drive: Path, tmp_path: Path, hdmap: Callable[..., Any], changed: Any
) -> None:
    """Of the first sweeps the fields are lost, the last do not come."""
    with open_bag(drive) as bag:
        stamps = [stamp_ns for topic, stamp_ns, _ in bag.messages(lambda topic: topic == POINTS)]
    first, last = stamps[len(stamps) // 4], stamps[-len(stamps) // 3]

    def change(topic: str, number: int, message: Any) -> Any:
        if topic != POINTS:
            return message
        stamp = message.header.stamp
        stamp_ns = stamp.sec * 1_000_000_000 + stamp.nanosec
        if stamp_ns > last:
            return None
        return replace(message, fields=message.fields[1:]) if stamp_ns <= first else message

    path = changed(drive, tmp_path / "broken.mcap", change)
    ended = hdmap("frames", "from-bag", path, "-o", tmp_path / "out")
    assert ended.code == 0, ended.err
    dataset = open_dataset(tmp_path / "out")
    has = [lidar_of(dataset.keyframe(token)) is not None for token in dataset.tokens]
    assert not has[0] and not has[-1] and 0 < sum(has) < len(has)
    assert f"{sum(has)} with LiDAR" in ended.out
    assert "no_lidar" in ended.out and "a cloud without x" in ended.out


def test_a_topic_of_another_type_is_told(drive: Path, tmp_path: Path, hdmap: Callable[..., Any], changed: Any) -> None:
    odometry: list[Any] = []

    def change(topic: str, number: int, message: Any) -> Any:
        if topic == "/odom" and not odometry:
            odometry.append(message)
        return (odometry[0] if odometry else None) if topic == POINTS else message

    path = changed(drive, tmp_path / "odd.mcap", change, kinds={POINTS: "nav_msgs/msg/Odometry"})
    ended = hdmap("frames", "from-bag", path, "-o", tmp_path / "out")
    assert ended.code == 0 and "with LiDAR" not in ended.out, ended.err
    assert f"holds nav_msgs/msg/Odometry on {POINTS}, not sensor_msgs/msg/PointCloud2" in ended.out


def test_points_in_the_cars_frame_and_without_poses(
    drive: Path, tmp_path: Path, hdmap: Callable[..., Any], changed: Any
) -> None:
    """A driver that moved the points into base_link, of a car that nobody follows."""
    with open_bag(drive) as bag:
        static = next(message for _, _, message in bag.messages(lambda topic: topic == "/tf_static"))
    mount = next(each.transform for each in static.transforms if each.child_frame_id == "lidar_top")
    turn, place = mount.rotation, mount.translation
    base_from_lidar = se3(rotation_from_quaternion([turn.w, turn.x, turn.y, turn.z]), [place.x, place.y, place.z])

    def change(topic: str, number: int, message: Any) -> Any:
        if topic in ("/tf", "/odom"):
            return None
        if topic != POINTS:
            return message
        points = np.frombuffer(bytes(message.data), "<f4").reshape(-1, 5).copy()
        points[:, :3] = transform_points(base_from_lidar, points[:, :3].astype(np.float64))
        header = replace(message.header, frame_id="base_link")
        return replace(message, header=header, data=np.frombuffer(points.tobytes(), np.uint8))

    path = changed(drive, tmp_path / "base.mcap", change)
    for source, name in ((drive, "own"), (path, "base")):
        ended = hdmap("frames", "from-bag", source, "-o", tmp_path / name)
        assert ended.code == 0 and "with LiDAR" in ended.out, ended.err
    own, base = (open_dataset(tmp_path / name) for name in ("own", "base"))
    assert own.tokens == base.tokens and base.map_from_ego(base.tokens[0]) is None
    for token in own.tokens:
        ours, theirs = base.keyframe(token)["lidar"], own.keyframe(token)["lidar"]
        np.testing.assert_allclose(ours.ego_from_sensor, np.eye(4), atol=1e-12)
        seen, expected = read_points(ours, ours.ego_from_sensor), read_points(theirs, base_from_lidar)
        np.testing.assert_allclose(seen[:, :3], expected[:, :3], atol=1e-4)
