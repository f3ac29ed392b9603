"""A bag of an Argoverse 2 log: its pictures, and its points as they are stored, in the car's frame."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.highlevel import AnyReader

from hdmap_core.datasets.argoverse.sweeps import read_sweep


def test_points_and_pictures_come_along(argoverse_world: Path, tmp_path: Path, hdmap: Callable[..., Any]) -> None:
    log = next((argoverse_world / "val").iterdir())
    bag = tmp_path / "drive.mcap"
    ended = hdmap("bag", "write", argoverse_world, "--scene", log.name, "-o", bag)
    assert ended.code == 0, ended.err
    sweeps = sorted((log / "sensors" / "lidar").iterdir())
    with AnyReader([bag]) as reader:
        counts = {connection.topic: connection.msgcount for connection in reader.connections}
        clouds = [c for c in reader.connections if c.topic == "/lidar_top/points"]
        _, _, raw = next(reader.messages(connections=clouds))
        cloud = reader.deserialize(raw, clouds[0].msgtype)
    assert sum(count for topic, count in counts.items() if "image" in topic) == 12
    points = np.frombuffer(cloud.data.tobytes(), "<f4").reshape(-1, 5)
    np.testing.assert_array_equal(points, read_sweep(sweeps[0]))
