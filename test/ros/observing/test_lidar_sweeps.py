"""The newest sweeps of a node, in the car's frame of a set's instant."""

from typing import Any

import numpy as np
import pytest

from hdmap_core.geometry import se3
from hdmap_ros.message_types import MessageTypes, bag_types
from hdmap_ros.observing.lidar_sweeps import RecentSweeps
from hdmap_ros.observing.transforms import TransformBuffer
from hdmap_ros.problems import Problems

SECOND = 1_000_000_000


def cloud(types: MessageTypes, stamp_ns: int, points: np.ndarray, frame: str = "lidar") -> Any:
    field = types.get("sensor_msgs/msg/PointField")
    return types.get("sensor_msgs/msg/PointCloud2")(
        header=types.header(stamp_ns, frame),
        height=1,
        width=len(points),
        fields=[field(name=n, offset=4 * i, datatype=field.FLOAT32, count=1) for i, n in enumerate("xyz")],
        is_bigendian=False,
        point_step=12,
        row_step=12 * len(points),
        data=types.octets(points.astype(np.float32).tobytes()),
        is_dense=True,
    )


@pytest.fixture
def heard() -> tuple[RecentSweeps, Problems, MessageTypes]:
    """Sweeps of a car at 10 m/s, whose LiDAR stands 2 m above the road."""
    types, transforms, problems = bag_types()[0], TransformBuffer(), Problems(lambda message: None)
    make, poses = types.get("geometry_msgs/msg/TransformStamped"), {}
    for stamp_ns in (SECOND, 2 * SECOND):
        poses[stamp_ns] = se3.se3(np.eye(3), [stamp_ns * 1e-8, 0.0, 0.0])
    moving = [_transform(types, make, "odom", "base_link", stamp_ns, pose) for stamp_ns, pose in poses.items()]
    transforms.add(moving, static=False)
    mount = _transform(types, make, "base_link", "lidar", SECOND, se3.se3(np.eye(3), [0.0, 0.0, 2.0]))
    transforms.add([mount], static=True)
    return RecentSweeps("/points", transforms, "base_link", "odom", problems), problems, types


def _transform(types: MessageTypes, make: Any, parent: str, child: str, stamp_ns: int, pose: np.ndarray) -> Any:
    vector, quaternion = (types.get(f"geometry_msgs/msg/{name}") for name in ("Vector3", "Quaternion"))
    x, y, z = map(float, pose[:3, 3])
    move = types.get("geometry_msgs/msg/Transform")(
        translation=vector(x=x, y=y, z=z), rotation=quaternion(x=0.0, y=0.0, z=0.0, w=1.0)
    )
    return make(header=types.header(stamp_ns, parent), child_frame_id=child, transform=move)


def test_the_nearest_sweep_is_carried_to_the_instant(heard: tuple[RecentSweeps, Problems, MessageTypes]) -> None:
    sweeps, problems, types = heard
    for stamp_ns in (SECOND, SECOND + 100_000_000, SECOND + 200_000_000):
        sweeps.add(cloud(types, stamp_ns, np.array([[stamp_ns * 1e-9, 1.0, -2.0]])))
    found = sweeps.at(SECOND + 140_000_000)
    np.testing.assert_allclose(found, [[1.1 - 0.4, 1.0, 0.0]], atol=1e-5)
    assert not problems.report()


def test_what_cannot_be_used_is_counted(heard: tuple[RecentSweeps, Problems, MessageTypes]) -> None:
    sweeps, problems, types = heard
    assert sweeps.at(SECOND) is None, "nothing has come"
    sweeps.add(cloud(types, SECOND, np.ones((3, 3))))
    assert sweeps.at(2 * SECOND) is None, "that is long ago"
    sweeps.add(cloud(types, 2 * SECOND, np.ones((3, 3)), "roof"))
    assert sweeps.at(2 * SECOND) is None, "nobody knows where it is mounted"
    assert next(iter(problems.report().values()))["count"] == 3
