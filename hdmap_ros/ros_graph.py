"""Subscriptions for CameraInputs, by rclpy."""

from collections.abc import Callable
from typing import Any

from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy

from hdmap_ros.message_types import graph_types


class RosGraph:
    """See `hdmap_ros.camera_inputs.Graph`."""

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
