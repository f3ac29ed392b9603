"""LiDAR of a bag beside its images: the sweep of an instant, where the layout names a topic of PointCloud2."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from hdmap_core.datasets.nearest import NearestInTime
from hdmap_core.errors import BagError
from hdmap_core.geometry import se3
from hdmap_ros.bag.mcap import BagReader
from hdmap_ros.bag.sources import ReplayConfig
from hdmap_ros.observing.lidar_sweeps import ego_from_sweep
from hdmap_ros.observing.observation_builder import ObservationBuilder
from hdmap_ros.observing.point_clouds import KIND, points_of
from hdmap_ros.observing.transforms import TransformBuffer, TransformError
from hdmap_ros.problems import Problems
from hdmap_ros.stamps import stamp_to_ns

_PROBLEM = "no_lidar"


def see_ground_by_lidar(builder: ObservationBuilder, bag: BagReader, config: ReplayConfig, problems: Problems) -> None:
    """Lets a builder take the ground's shape from the bag's LiDAR; `bag` and `problems` as for `BagSweeps`.

    Raises:
        BagError: if the bag has no LiDAR where the layout names it.
    """
    topic, _ = config.layout.lidar
    if bag.topics.get(topic) != KIND or not bag.counts.get(topic, 0):
        raise BagError(
            f"{bag.path} has no {KIND} on {topic or 'a topic that the layout names'}, which --lidar-ground asks for"
        )
    builder.sweep_at = BagSweeps(bag, config, builder.transforms, problems).in_base


class BagSweeps:
    """Goes through the LiDAR of a bag.

    Args:
        bag: open; opened once more where it has sweeps, which are read beside its images.
        config: with the layout.
        transforms: that know all of the bag's.
        problems: gets what is wrong with LiDAR; a bag without any is none.
    """

    def __init__(self, bag: BagReader, config: ReplayConfig, transforms: TransformBuffer, problems: Problems) -> None:
        self._topic, self._frame = config.layout.lidar
        self._base, self._fixed = config.layout.base_frame, config.node.fixed_frame
        self._transforms, self._problems = transforms, problems
        self._sweeps: NearestInTime[Any] | None = None
        kind = bag.topics.get(self._topic, KIND)
        if kind != KIND:
            problems.add(_PROBLEM, "", f"{bag.path} holds {kind} on {self._topic}, not {KIND}: no LiDAR is written")
        elif bag.counts.get(self._topic, 0):
            self._sweeps = NearestInTime(self._clouds(bag.again()), reach=1.0)  # it takes a period to sweep

    def near(self, stamp_ns: int) -> tuple[np.ndarray, np.ndarray] | None:
        """The sweep nearest to an instant.

        Args:
            stamp_ns: no earlier than the last.

        Returns:
            (P, 5) float32 as `points_of`, in the sensor's frame, and (4, 4): where that is in the car's frame of the
            instant; None where none is within a period, or can be used.
        """
        if self._sweeps is None:
            return None
        found = self._sweeps.at(stamp_ns)
        if found is None:
            self._problems.add(_PROBLEM, "", f"no sweep on {self._topic} within a period of {stamp_ns}")
            return None
        swept_ns, cloud = found
        try:
            frame = cloud.header.frame_id.lstrip("/") or self._frame
            pose = ego_from_sweep(self._transforms, frame, swept_ns, stamp_ns, base=self._base, fixed=self._fixed)
            return points_of(cloud), pose
        except (BagError, TransformError) as error:
            self._problems.add(_PROBLEM, "", f"{self._topic} at {swept_ns}: {error}")
            return None

    def in_base(self, stamp_ns: int) -> np.ndarray | None:
        """(P, 3) float64 x, y, z in metres: that sweep in the car's frame of the instant; None as for `near`."""
        found = self.near(stamp_ns)
        return None if found is None else se3.transform_points(found[1], found[0][:, :3].astype(np.float64))

    def _clouds(self, bag: BagReader) -> Iterator[tuple[int, Any]]:
        def unreadable(topic: str, reason: str) -> None:
            self._problems.add("unreadable_message", "", reason)

        for _, log_ns, cloud in bag.messages(lambda topic: topic == self._topic, unreadable):
            yield stamp_to_ns(cloud.header.stamp) or log_ns, cloud
