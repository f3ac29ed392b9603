"""What the node has in the ROS graph: executor, subscriptions for CameraInputs, and its other ends; by rclpy."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from rclpy.clock import ClockChange, JumpHandle, JumpThreshold
from rclpy.context import Context
from rclpy.duration import Duration
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.exceptions import InvalidHandle
from rclpy.executors import Executor, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions

from hdmap_ros.message_types import graph_types
from hdmap_ros.observing.transforms import TransformBuffer

_LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
_STATIC_TF = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def make_executor(context: Context | None = None, kind: str = "events") -> Executor:
    """The events executor where this rclpy has one, else, or if `kind` is `classic`, the classic one.

    The classic one builds a wait set of all entities in Python for every few messages: with six cameras that is most of
    what the node costs beside its pipeline. Both run callbacks one after the other in the thread that spins.
    """
    if kind == "classic":
        return SingleThreadedExecutor(context=context)
    try:
        from rclpy.experimental import EventsExecutor
    except ImportError:
        return SingleThreadedExecutor(context=context)
    return EventsExecutor(context=context)


def watch_clock(node: Node, backward_s: float, jumped: Callable[[bool], None]) -> JumpHandle:
    """Calls `jumped(True)` when the node's clock has gone back by more than this, `jumped(False)` when it has begun or
    ceased to follow /clock; until the handle is unregistered.
    """
    backward = Duration(seconds=-backward_s)
    threshold = JumpThreshold(min_forward=None, min_backward=backward, on_clock_change=True)

    def after(jump: Any) -> None:
        jumped(jump.clock_change == ClockChange.ROS_TIME_NO_CHANGE)

    return node.get_clock().create_jump_callback(threshold, post_callback=after)


class RosGraph:
    """See `hdmap_ros.observing.camera_inputs.Graph`."""

    def __init__(self, node: Node, depth: int) -> None:
        self._node = node
        self._depth = depth

    def subscribe(self, kind: str, topic: str, callback: Callable[[Any], None], reliable: bool) -> Any:
        """A subscription; a publisher whose QoS does not fit is logged."""

        def incompatible(event: Any) -> None:
            asked = "reliable" if reliable else "best effort"
            policy = event.last_policy_kind
            self.warn(
                f"{topic}: a publisher's QoS does not fit ({policy}); asked for {asked}; see input_qos.reliability"
            )

        reliability = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
        qos = QoSProfile(depth=self._depth, reliability=reliability)
        events = SubscriptionEventCallbacks(incompatible_qos=incompatible)
        return self._node.create_subscription(graph_types().get(kind), topic, callback, qos, event_callbacks=events)

    def unsubscribe(self, subscription: Any) -> None:
        """Ends a subscription."""
        self._node.destroy_subscription(subscription)

    def publishers(self, topic: str) -> list[tuple[str, bool]]:
        """Node name and whether it is reliable, of every publisher of a topic."""
        found = self._node.get_publishers_info_by_topic(self._node.resolve_topic_name(topic))
        return [(info.node_name, info.qos_profile.reliability == ReliabilityPolicy.RELIABLE) for info in found]

    def warn(self, message: str) -> None:
        """Logs a warning."""
        self._node.get_logger().warning(message)


class Endpoints:
    """Publishers, services and TF's subscriptions of a configured node.

    Args:
        node: the node.
        transforms: filled from /tf and /tf_static.
        on_enable: answers `~/enable`.
        on_reset: answers `~/reset`.

    Attributes:
        elements: publisher of MapElementArray.
        markers: publisher of MarkerArray.
        local_map: publisher of the fused MapElementArray, latched.
        local_map_markers: publisher of its MarkerArray, latched.
        model_info: publisher of MapModelInfo, latched.
        diagnostics: publisher of DiagnosticArray.
        image, compressed, mask: publishers of what `hdmap_ros.output.pictures` makes.
    """

    def __init__(
        self, node: Node, transforms: TransformBuffer, on_enable: Callable[..., Any], on_reset: Callable[..., Any]
    ) -> None:
        get, overrides = graph_types().get, QoSOverridingOptions.with_default_policies()
        array, drawn = get("hdmap_ros/msg/MapElementArray"), get("visualization_msgs/msg/MarkerArray")
        self._node = node
        self.elements = node.create_publisher(array, "~/output/map_elements", 1, qos_overriding_options=overrides)
        self.markers = node.create_publisher(drawn, "~/output/markers", 1, qos_overriding_options=overrides)
        self.local_map = node.create_publisher(array, "~/output/local_map", _LATCHED)
        self.local_map_markers = node.create_publisher(drawn, "~/output/local_map_markers", _LATCHED)
        self.model_info = node.create_publisher(get("hdmap_ros/msg/MapModelInfo"), "~/output/model_info", _LATCHED)
        self.diagnostics = node.create_publisher(get("diagnostic_msgs/msg/DiagnosticArray"), "/diagnostics", 10)
        image, compressed = get("sensor_msgs/msg/Image"), get("sensor_msgs/msg/CompressedImage")
        self.image = node.create_publisher(image, "~/debug/image", 1)
        self.compressed = node.create_publisher(compressed, "~/debug/image/compressed", 1)
        self.mask = node.create_publisher(get("nav_msgs/msg/OccupancyGrid"), "~/output/mask", 1)

        def listen(topic: str, qos: QoSProfile, static: bool) -> Any:
            kind = get("tf2_msgs/msg/TFMessage")

            def store(message: Any) -> None:
                transforms.add(message.transforms, static)
                take()

            def take() -> None:
                with suppress(InvalidHandle), subscription.handle:  # closed, but what had come is still handed on
                    for _ in range(qos.depth):
                        waiting = subscription.handle.take_message(kind, False)
                        if waiting is None:
                            return
                        transforms.add(waiting[0].transforms, static)

            subscription = node.create_subscription(kind, topic, store, qos)
            self._takes.append(take)
            return subscription

        self._takes: list[Callable[[], None]] = []
        self._tf = [listen("/tf", QoSProfile(depth=100), False), listen("/tf_static", _STATIC_TF, True)]
        self._services = [
            node.create_service(get("std_srvs/srv/SetBool"), "~/enable", on_enable),
            node.create_service(get("std_srvs/srv/Trigger"), "~/reset", on_reset),
        ]

    def take_transforms(self) -> None:
        """Takes what waits on /tf and /tf_static now; for the executor's thread.

        An executor hands on one message of a topic per round. /tf carries as many as all cameras together and falls
        behind the images on a busy machine, whose sets then find no transform: so before an image is handed on, the
        transforms that were sent before it are taken.
        """
        for take in self._takes:
            take()

    def close(self) -> None:
        """Takes all of them out of the graph."""
        maps = self.elements, self.markers, self.local_map, self.local_map_markers, self.mask
        for publisher in (*maps, self.image, self.compressed, self.model_info, self.diagnostics):
            self._node.destroy_publisher(publisher)
        for subscription in self._tf:
            self._node.destroy_subscription(subscription)
        for service in self._services:
            self._node.destroy_service(service)
