"""Synchronisers behind one face.

`cycle` is ours. `approximate` and `exact` are message_filters', where that package is installed: it comes with a
sourced ROS, not with the ROS wheels.
"""

from types import SimpleNamespace
from typing import Any, Protocol

from hdmap_core.errors import MissingDependencyError
from hdmap_ros.stamps import ns_to_parts
from hdmap_ros.sync.image_sets import ImageSet, SyncConfig, SyncStatistics
from hdmap_ros.sync.synchronizer import CycleSynchronizer


class Synchronizer(Protocol):
    """What the node and the replay need; see `CycleSynchronizer`."""

    statistics: SyncStatistics

    def add(self, camera: str, stamp_ns: int, message: Any, arrival_ns: int) -> list[ImageSet]:
        """Takes one image; returns the sets that became ready."""

    def poll(self, now_ns: int) -> list[ImageSet]:
        """Closes what has waited long enough."""

    def flush(self) -> list[ImageSet]:
        """Closes everything."""

    def reset(self) -> None:
        """Forgets images."""


def make_synchronizer(policy: str, config: SyncConfig) -> Synchronizer:
    """The synchroniser of a policy: cycle, approximate or exact.

    Raises:
        MissingDependencyError: if the policy needs message_filters and it is not there.
    """
    return CycleSynchronizer(config) if policy == "cycle" else MessageFiltersSynchronizer(policy, config)


class MessageFiltersSynchronizer:
    """message_filters' ApproximateTimeSynchronizer or TimeSynchronizer; complete sets only."""

    def __init__(self, policy: str, config: SyncConfig) -> None:
        try:
            import message_filters
            from builtin_interfaces.msg import Time
        except ImportError:
            raise MissingDependencyError(
                f"sync.policy {policy!r} needs the ROS package message_filters, which is not installed; "
                "source a ROS 2 that has it, or use the policy 'cycle'"
            ) from None
        self._library: Any = message_filters
        self._make_stamp: Any = Time
        self._policy = policy
        self._config = config
        self.statistics = SyncStatistics()
        self.reset()

    def reset(self) -> None:
        """Begins anew: their queues cannot be emptied otherwise."""
        self._inputs = {camera: self._library.SimpleFilter() for camera in self._config.cameras}
        filters = list(self._inputs.values())
        if self._policy == "exact":
            joined = self._library.TimeSynchronizer(filters, 10)
        else:
            joined = self._library.ApproximateTimeSynchronizer(filters, 10, self._config.max_spread_ns * 1e-9)
        self._ready: list[ImageSet] = []
        self._newest_ns: dict[str, int] = {}
        self._closed_ns = -1
        joined.registerCallback(self._collect)
        self._joined = joined

    def add(self, camera: str, stamp_ns: int, message: Any, arrival_ns: int) -> list[ImageSet]:
        """Takes one image; `stamp_ns` decides, whatever its header says."""
        newest_ns = self._newest_ns.get(camera, stamp_ns)
        if stamp_ns < newest_ns - self._config.jump_ns:
            self.statistics.resets += 1
            self.reset()
        self._newest_ns[camera] = max(stamp_ns, self._newest_ns.get(camera, stamp_ns))
        self._inputs[camera].signalMessage(_Stamped(self._make_stamp(**ns_to_parts(stamp_ns)), stamp_ns, message))
        ready, self._ready = self._ready, []
        return ready

    def poll(self, now_ns: int) -> list[ImageSet]:
        """Nothing: these policies know no timeout."""
        return []

    def flush(self) -> list[ImageSet]:
        """Nothing: these policies know no partial sets."""
        return []

    def _collect(self, *images: "_Stamped") -> None:
        by_camera = dict(zip(self._config.cameras, images, strict=True))
        stamps = {camera: image.stamp_ns for camera, image in by_camera.items()}
        stamp_ns = stamps[self._config.anchor]
        if stamp_ns <= self._closed_ns:
            self.statistics.incomplete += 1
            return
        self._closed_ns = stamp_ns
        messages = {camera: image.message for camera, image in by_camera.items()}
        found = ImageSet(stamp_ns, messages, stamps, (), 0)
        self.statistics.complete += 1
        self.statistics.spreads_ns.append(found.spread_ns)
        self._ready.append(found)


class _Stamped:
    """A message with the header that message_filters looks for: images without a stamp have been given one."""

    def __init__(self, stamp: Any, stamp_ns: int, message: Any) -> None:
        self.header = SimpleNamespace(stamp=stamp)
        self.stamp_ns = stamp_ns
        self.message = message
