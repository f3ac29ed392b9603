"""Sweeps of a LiDAR in the car's frame of another instant, and the newest ones that a node has heard."""

from collections import deque
from threading import Lock
from typing import Any

import numpy as np

from hdmap_core.errors import BagError
from hdmap_core.geometry import se3
from hdmap_ros.observing.point_clouds import points_of
from hdmap_ros.observing.transforms import TransformBuffer, TransformError, UnconnectedError
from hdmap_ros.problems import Problems
from hdmap_ros.stamps import stamp_to_ns

_KEPT = 5
_REACH_NS = 200_000_000
"""Two turns of a LiDAR at 10 Hz."""


def ego_from_sweep(
    transforms: TransformBuffer, frame: str, swept_ns: int, stamp_ns: int, *, base: str, fixed: str
) -> np.ndarray:
    """(4, 4): where a cloud of an instant lies in the car's frame of another.

    Args:
        transforms: of the rig, and of how the car moves.
        frame: the cloud's.
        swept_ns: its instant.
        stamp_ns: the other.
        base: the car's frame.
        fixed: does not move meanwhile; "": nothing is carried along. So it is too where nothing connects it.

    Raises:
        TransformError: if the LiDAR's place on the car, or the car's at an instant, is not known.
    """
    mounted = transforms.lookup_mount(base, frame, swept_ns)
    if not fixed:
        return mounted
    try:
        return transforms.lookup_between(base, stamp_ns, base, swept_ns, fixed) @ mounted
    except UnconnectedError:  # nobody knows how the car moves, which the cameras have told
        return mounted


class RecentSweeps:
    """The newest clouds of a topic; `add` and `at` may run in different threads.

    Args:
        topic: for messages.
        transforms: see `ego_from_sweep`, as `base` and `fixed`.
        problems: gets what is wrong with LiDAR.
    """

    def __init__(self, topic: str, transforms: TransformBuffer, base: str, fixed: str, problems: Problems) -> None:
        self._topic, self._transforms, self._base, self._fixed = topic, transforms, base, fixed
        self._problems = problems
        self._clouds: deque[tuple[int, Any]] = deque(maxlen=_KEPT)
        self._lock = Lock()

    def add(self, cloud: Any) -> None:
        """Takes a PointCloud2."""
        with self._lock:
            self._clouds.append((stamp_to_ns(cloud.header.stamp), cloud))

    def at(self, stamp_ns: int) -> np.ndarray | None:
        """(P, 3) float64 x, y, z in metres: the nearest sweep in the car's frame at an instant, or None."""
        with self._lock:
            clouds = list(self._clouds)
        swept_ns, cloud = min(clouds, key=lambda each: abs(each[0] - stamp_ns), default=(0, None))
        if cloud is None or abs(swept_ns - stamp_ns) > _REACH_NS:
            self._problems.add("no_lidar", "", f"no sweep on {self._topic} within {_REACH_NS * 1e-9} s of a set")
            return None
        frame = cloud.header.frame_id.lstrip("/")
        try:
            pose = ego_from_sweep(self._transforms, frame, swept_ns, stamp_ns, base=self._base, fixed=self._fixed)
            return se3.transform_points(pose, points_of(cloud)[:, :3].astype(np.float64))
        except (BagError, TransformError) as error:
            self._problems.add("no_lidar", "", f"{self._topic} at {swept_ns}: {error}")
            return None
