"""Pictures of a map for people, and its cells for planners; each is made only when somebody listens."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from hdmap_core.elements import MapClass, MapElement
from hdmap_core.geometry import BEVGrid
from hdmap_core.geometry.raster import draw_lines, fill_polygon
from hdmap_core.observation import Observation
from hdmap_core.viz import draw_cameras
from hdmap_ros.message_types import MessageTypes

JPEG_QUALITY = 80


class Pictures:
    """Publishes them.

    Args:
        types: message classes.
        image: publisher of Image: the cameras' mosaic with the lines on the ground.
        compressed: publisher of CompressedImage: the same as JPEG.
        mask: publisher of OccupancyGrid.
    """

    def __init__(self, types: MessageTypes, image: Any, compressed: Any, mask: Any) -> None:
        self._types = types
        self._image, self._compressed, self._mask = image, compressed, mask

    def wanted(self) -> bool:
        """Whether anybody listens to any of them."""
        return any(map(_is_heard, (self._image, self._compressed, self._mask)))

    def publish(
        self,
        drawn: Sequence[MapElement],
        solid: Sequence[MapElement],
        observation: Observation,
        grid: BEVGrid,
        stamp_ns: int,
        frame_id: str,
    ) -> None:
        """Sends what is listened to.

        Args:
            drawn: over the images; metres, ego frame of `stamp_ns`.
            solid: cells of the mask, in the same frame.
            observation: whose images the lines are drawn over.
            grid: the region of the mask.
            stamp_ns: the map's.
            frame_id: the car's frame.
        """
        header = self._types.header(stamp_ns, frame_id)
        if _is_heard(self._image) or _is_heard(self._compressed):
            mosaic = draw_cameras(observation.on_host(), drawn)
            if _is_heard(self._image):
                self._image.publish(image_message(self._types, header, mosaic))
            if _is_heard(self._compressed):
                self._compressed.publish(jpeg_message(self._types, header, mosaic))
        if _is_heard(self._mask):
            self._mask.publish(mask_message(self._types, header, occupied(solid, grid), grid))


def _is_heard(publisher: Any) -> bool:
    return publisher.get_subscription_count() > 0


def occupied(elements: Sequence[MapElement], grid: BEVGrid) -> np.ndarray:
    """(Y, X) int8: in percent the score of the best element in a cell, 0 where there is none.

    Lines are one cell wide, crossings are filled.
    """
    cells = np.zeros(grid.shape, np.int8)
    for element in sorted(elements, key=lambda element: element.score):
        if element.label is MapClass.PED_CROSSING and element.closed:
            there = fill_polygon(grid, element.points)
        else:
            there = draw_lines(grid, [element.points], grid.resolution, element.closed)
        cells[there > 0] = max(1, round(100 * element.score))
    return cells


def image_message(types: MessageTypes, header: Any, picture: np.ndarray) -> Any:
    """An Image of (H, W, 3) uint8 RGB."""
    height, width, _ = picture.shape
    return types.get("sensor_msgs/msg/Image")(
        header=header,
        height=height,
        width=width,
        encoding="rgb8",
        is_bigendian=0,
        step=3 * width,
        data=types.octets(picture.tobytes()),
    )


def jpeg_message(types: MessageTypes, header: Any, picture: np.ndarray) -> Any:
    """A CompressedImage of (H, W, 3) uint8 RGB."""
    _, jpeg = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return types.get("sensor_msgs/msg/CompressedImage")(
        header=header, format="rgb8; jpeg compressed bgr8", data=types.octets(jpeg.tobytes())
    )


def mask_message(types: MessageTypes, header: Any, cells: np.ndarray, grid: BEVGrid) -> Any:
    """An OccupancyGrid of (Y, X) int8 percent."""
    height, width = grid.shape
    origin = types.get("geometry_msgs/msg/Pose")(
        position=types.get("geometry_msgs/msg/Point")(x=grid.x_range[0], y=grid.y_range[0], z=0.0),
        orientation=types.get("geometry_msgs/msg/Quaternion")(x=0.0, y=0.0, z=0.0, w=1.0),
    )
    info = types.get("nav_msgs/msg/MapMetaData")(
        map_load_time=header.stamp, resolution=grid.resolution, width=width, height=height, origin=origin
    )
    return types.get("nav_msgs/msg/OccupancyGrid")(header=header, info=info, data=types.signed(cells.tobytes()))
