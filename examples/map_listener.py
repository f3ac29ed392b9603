"""A ROS 2 node that listens to the map and does something with it: how far is the road's edge on either side?

    ros2 launch hdmap_ros online_map.launch.py        # in one terminal, and a bag or a car in another
    python examples/map_listener.py --ros-args -p warn_below:=0.5

Publishes metres from the car's middle to the nearest divider or boundary on each side, at the car's height along its
way, as a geometry_msgs/Vector3Stamped (x: left, y: right; inf: none seen), and warns where one is near.
"""

import math

import rclpy
from geometry_msgs.msg import Vector3, Vector3Stamped
from rclpy.node import Node

from hdmap_ros.msg import MapElement, MapElementArray

LINES = (MapElement.DIVIDER, MapElement.BOUNDARY)


def crossings_of(element: MapElement) -> list[float]:
    """Where a line crosses the car's own cross-section (x = 0): metres to the left."""
    points = [(point.x, point.y) for point in element.points]
    ends = zip(points, points[1:] + (points[:1] if element.closed else []), strict=False)
    return [y + (other_y - y) * x / (x - other_x) for (x, y), (other_x, other_y) in ends if x * other_x < 0]


class EdgeDistance(Node):
    """Map in, distances out."""

    def __init__(self) -> None:
        super().__init__("edge_distance")
        self.warn_below = self.declare_parameter("warn_below", 1.2).value
        self.out = self.create_publisher(Vector3Stamped, "~/edges", 1)
        self.create_subscription(MapElementArray, "/online_map/output/map_elements", self.hear, 1)

    def hear(self, message: MapElementArray) -> None:
        """One map; its frame is base_link, x forward and y left."""
        found = [y for element in message.elements if element.label in LINES for y in crossings_of(element)]
        left = min((y for y in found if y >= 0), default=math.inf)
        right = min((-y for y in found if y < 0), default=math.inf)
        self.out.publish(Vector3Stamped(header=message.header, vector=Vector3(x=left, y=right)))
        if min(left, right) < self.warn_below:
            self.get_logger().warning(f"a line is {min(left, right):.2f} m from the car's middle")


def main() -> None:
    rclpy.init()
    try:
        rclpy.spin(EdgeDistance())
    except KeyboardInterrupt:
        pass
    finally:
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
