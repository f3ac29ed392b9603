"""The node's camera topics: which reliability to ask for, and how each camera is doing. No rclpy in here.

A reliable reader never hears a best-effort writer, and a best-effort reader loses parts of large images. So `auto`
looks at the publishers: reliable where all of them are, best effort otherwise, checked again while the node runs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from hdmap_ros.bag.layouts import CameraTopics, image_type


class Graph(Protocol):
    """What the inputs need of a node."""

    def subscribe(self, kind: str, topic: str, callback: Callable[[Any], None], reliable: bool) -> Any:
        """A subscription to a topic with messages of a kind (`sensor_msgs/msg/Image`)."""

    def unsubscribe(self, subscription: Any) -> None:
        """Ends a subscription."""

    def publishers(self, topic: str) -> list[tuple[str, bool]]:
        """Node name and whether it is reliable, of every publisher of a topic."""

    def warn(self, message: str) -> None:
        """Logs a warning."""


@dataclass
class _Stream:
    topic: str
    kind: str
    callback: Callable[[Any], None]
    handle: Any = None
    reliable: bool = False
    publishers: int = 0
    names: str = ""


class CameraInputs:
    """Subscriptions to image and CameraInfo of every camera.

    Args:
        graph: the node.
        topics: camera -> topics; without CameraInfo where `info` is empty.
        transport: compressed or raw.
        reliability: auto, best_effort or reliable.
        on_image: called with camera and message.
        on_info: called with camera and message.
        lidar: topic of a PointCloud2, and what is called with a message; None: nobody listens to one.
    """

    def __init__(
        self,
        graph: Graph,
        topics: dict[str, CameraTopics],
        transport: str,
        reliability: str,
        on_image: Callable[[str, Any], None],
        on_info: Callable[[str, Any], None],
        lidar: tuple[str, Callable[[Any], None]] | None = None,
    ) -> None:
        self._graph = graph
        self._reliability = reliability
        image_kind = image_type(transport)
        self.last_arrival_ns: dict[str, int] = {}
        self.received: dict[str, int] = dict.fromkeys(topics, 0)
        self._images = {
            camera: _Stream(entry.image, image_kind, partial(on_image, camera)) for camera, entry in topics.items()
        }
        self._infos = {
            camera: _Stream(entry.info, "sensor_msgs/msg/CameraInfo", partial(on_info, camera))
            for camera, entry in topics.items()
            if entry.info
        }
        self._lidar = [] if lidar is None else [_Stream(lidar[0], "sensor_msgs/msg/PointCloud2", lidar[1])]

    def open(self) -> None:
        """Subscribes to everything."""
        for stream in self._streams():
            self._subscribe(stream, self._wanted(stream))

    def close(self) -> None:
        """Ends all subscriptions."""
        for stream in self._streams():
            if stream.handle is not None:
                self._graph.unsubscribe(stream.handle)
                stream.handle = None

    def recheck(self) -> None:
        """Subscribes anew where publishers have come whose reliability asks for another subscription."""
        for stream in self._streams():
            wanted = self._wanted(stream)
            if stream.publishers and wanted != stream.reliable:
                self._graph.unsubscribe(stream.handle)
                self._subscribe(stream, wanted)

    def arrived(self, camera: str, now_ns: int) -> None:
        """Notes that an image has come."""
        self.last_arrival_ns[camera] = now_ns
        self.received[camera] += 1

    def states(self, now_ns: int, stale_after_ns: int, later: dict[str, str]) -> dict[str, str]:
        """Camera -> the most specific reason why it does not contribute, or what `later` stages say."""
        result = {}
        for camera, stream in self._images.items():
            last_ns = self.last_arrival_ns.get(camera)
            if last_ns is not None and now_ns - last_ns <= stale_after_ns:
                state = later.get(camera, "ok")
                result[camera] = "many_publishers" if state == "ok" and stream.publishers > 1 else state
            elif not stream.publishers:
                result[camera] = "no_publisher"
            elif self._reliability == "reliable" and not self._all_reliable(stream):
                result[camera] = "incompatible_qos"
            else:
                result[camera] = "no_data" if last_ns is None else "stale"
        return result

    def rivals(self) -> dict[str, str]:
        """Camera -> the nodes that publish its images, where these are several."""
        return {camera: stream.names for camera, stream in self._images.items() if stream.publishers > 1}

    def topics(self) -> dict[str, str]:
        """Camera -> image topic."""
        return {camera: stream.topic for camera, stream in self._images.items()}

    def _streams(self) -> list[_Stream]:
        return [*self._images.values(), *self._infos.values(), *self._lidar]

    def _subscribe(self, stream: _Stream, reliable: bool) -> None:
        stream.reliable = reliable
        stream.handle = self._graph.subscribe(stream.kind, stream.topic, stream.callback, reliable)

    def _all_reliable(self, stream: _Stream) -> bool:
        return all(reliable for _, reliable in self._graph.publishers(stream.topic))

    def _wanted(self, stream: _Stream) -> bool:
        publishers = self._graph.publishers(stream.topic)
        stream.names = ", ".join(sorted(name for name, _ in publishers))
        if len(publishers) > 1 and len(publishers) != stream.publishers:
            number = f"{stream.topic} has {len(publishers)} publishers"
            self._graph.warn(f"{number}: {stream.names}; their messages are interleaved")
        stream.publishers = len(publishers)
        if self._reliability != "auto":
            return self._reliability == "reliable"
        return bool(publishers) and all(reliable for _, reliable in publishers)
