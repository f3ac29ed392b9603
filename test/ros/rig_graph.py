"""Nodes of a test in a real ROS graph of its own: the rig's cameras, an online map node, and who listens."""

import itertools
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

import rclpy
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile

from hdmap_ros.message_types import graph_types
from hdmap_ros.online_map_node import SUCCESS, OnlineMapNode
from hdmap_ros.ros_graph import make_executor


class Graph:
    """Nodes of one test on one executor.

    Args:
        module: `conftest.py`, which has the rig.
        raw: images are raw ones.
    """

    def __init__(self, module: ModuleType, raw: bool = False) -> None:
        self.module = module
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.executor = make_executor(self.context)
        self.rig = module.RigMessages(graph_types(), raw)
        self.nodes: list[Any] = []
        self.node = rclpy.create_node("test_rig", context=self.context)
        self.add(self.node)
        self._images: dict[str, Any] = {}

    def add(self, node: Any) -> Any:
        self.nodes.append(node)
        self.executor.add_node(node)
        return node

    def until(self, condition: Callable[[], Any], timeout_s: float = 60.0) -> bool:
        """Spins until the condition holds; false when it takes too long."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            if condition():
                return True
            self.executor.spin_once(timeout_sec=0.02)
        return bool(condition())

    def spin(self, seconds: float) -> None:
        self.until(lambda: False, seconds)

    def listen(self, kind: str, topic: str, qos: Any = 10) -> list[Any]:
        """The messages as they come."""
        messages: list[Any] = []
        self.node.create_subscription(self.rig.types.get(kind), topic, messages.append, qos)
        return messages

    def listen_to_maps(self) -> list[Any]:
        return self.listen("hdmap_ros/msg/MapElementArray", "/online_map/output/map_elements")

    def listen_to_markers(self) -> list[Any]:
        return self.listen("visualization_msgs/msg/MarkerArray", "/online_map/output/markers")

    def listen_to_diagnostics(self) -> list[dict[str, Any]]:
        """Task -> status, of each message."""
        found: list[dict[str, Any]] = []

        def store(message: Any) -> None:
            found.append({status.name.split(": ")[1]: status for status in message.status})

        kind = self.rig.types.get("diagnostic_msgs/msg/DiagnosticArray")
        self.node.create_subscription(kind, "/diagnostics", store, 10)
        return found

    def open_cameras(self, cameras: tuple[str, ...] = (), qos: Any = 10) -> None:
        """Publishers of these cameras, by default of all, and of TF."""
        types, create = self.rig.types, self.node.create_publisher
        kind, end = ("Image", "") if self.rig.raw else ("CompressedImage", "/compressed")
        for name in cameras or self.module.CAMERAS:
            topic = name.lower()
            self._images[name] = (
                create(types.get(f"sensor_msgs/msg/{kind}"), f"{topic}/image_raw{end}", qos),
                create(types.get("sensor_msgs/msg/CameraInfo"), f"{topic}/camera_info", qos),
            )
        tf = types.get("tf2_msgs/msg/TFMessage")
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._tf, self._tf_static = create(tf, "/tf", 100), create(tf, "/tf_static", latched)
        self._tf_static.publish(self.rig.tf_static())

    def matched(self) -> bool:
        """Whether the node listens to TF and to every camera, as reliably as that sends: it may subscribe once more."""

        def is_matched(publisher: Any) -> bool:
            offered, found = publisher.qos_profile.reliability, publisher.get_subscription_count()
            asked = self.node.get_subscriptions_info_by_topic(publisher.topic_name)
            return bool(found) and all(info.qos_profile.reliability == offered for info in asked)

        return self._tf.get_subscription_count() > 0 and all(map(is_matched, itertools.chain(*self._images.values())))

    def drive(
        self,
        stamps_ns: list[int],
        cameras: tuple[str, ...] = (),
        lost: Callable[[str, int], bool] = lambda camera, index: False,
        focal: float = 120.0,
        data: bytes | None = None,
        pause_s: float = 0.03,
    ) -> None:
        """Publishes cycles, spinning in between; not at all where the pause is negative."""
        for index, tick in enumerate(stamps_ns):
            for name in sorted(cameras or self.module.CAMERAS, key=self.module.PHASES_NS.__getitem__):
                stamp_ns = tick + self.module.PHASES_NS[name]
                self._tf.publish(self.rig.tf(stamp_ns))
                if lost(name, index):
                    continue
                image, info = self._images[name]
                info.publish(self.rig.info(name, stamp_ns, focal))
                image.publish(self.rig.image(name, stamp_ns, data))
            self.spin(pause_s)
            for _ in range(60 if pause_s > 0 else 0):  # a busy machine comes to a few callbacks in that time
                self.executor.spin_once(timeout_sec=0.0)

    def close(self) -> None:
        self.executor.shutdown()
        for node in self.nodes:
            node.destroy_node()
        self.context.try_shutdown()

    def start_node(self, predictor: Any, activate: bool = True, **parameters: Any) -> Any:
        """An online map node with these parameters (`a__b` or `a.b`), active unless `activate` is false."""
        overrides = [Parameter(name.replace("__", "."), value=value) for name, value in parameters.items()]
        node = OnlineMapNode(lambda config: predictor, context=self.context, parameter_overrides=overrides)
        self.add(node)
        if activate:
            assert node.trigger_configure() == SUCCESS
            assert node.trigger_activate() == SUCCESS
            if self._images:
                assert self.until(self.matched)
        return node
