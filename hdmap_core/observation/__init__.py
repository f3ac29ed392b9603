"""Observation: what the car sees at one instant."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from hdmap_core.geometry import CameraRig
from hdmap_core.geometry.ground_relief import GroundRelief
from hdmap_core.geometry.map_origin import MapOrigin

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Observation:
    """Sensor data of one instant in the ego frame of `stamp_ns`.

    Attributes:
        images: one (H, W, 3) uint8 RGB array per camera of `rig`, native size, which may differ between cameras; None
            where the camera is missing.
        rig: calibration in the same order; its `ego_from_camera` already holds the ego motion from each camera's own
            stamp to `stamp_ns`.
        stamp_ns: time the geometry refers to, nanoseconds since 1970.
        token: name of the frame, unique in its data set or bag.
        points: (P, 5) float32 x, y, z in metres (ego frame of `stamp_ns`), intensity 0..255, ring; or None.
        sd_lines: SD-map roads, each (P, 2) float32 metres in the ego frame; or None when there is no SD map.
        map_from_ego: (4, 4) float64 pose of the ego frame; or None when unknown.
        point_age_s: (P,) float32, how long before `stamp_ns` each point's sweep ended, seconds; None without points.
        camera_stamps_ns: exposure time of each camera, in the order of `rig`.
        relief: the ground's heights over z = 0, where a LiDAR has shown them; None: it is taken for flat.
        map_origin: where the frame that `map_from_ego` leads to lies on the earth; None when unknown.
        device_images: per camera (H, W, 3) uint8 RGB that lies on a GPU, and has None in `images`; empty: none does.
    """

    images: tuple[np.ndarray | None, ...]
    rig: CameraRig
    stamp_ns: int
    token: str
    points: np.ndarray | None = None
    sd_lines: tuple[np.ndarray, ...] | None = None
    map_from_ego: np.ndarray | None = None
    camera_stamps_ns: tuple[int, ...] = field(default=())
    point_age_s: np.ndarray | None = None
    map_origin: MapOrigin | None = None
    relief: GroundRelief | None = None
    device_images: "tuple[Tensor | None, ...]" = ()

    @property
    def camera_mask(self) -> tuple[bool, ...]:
        """Which cameras contributed an image."""
        return tuple(image is not None or there is not None for image, there in self._both())

    def on_host(self) -> "Observation":
        """The same with all images in `images`; waits for a GPU if some lie there."""
        images = (image if there is None else there.cpu().numpy() for image, there in self._both())
        return replace(self, images=tuple(images), device_images=())

    def _both(self) -> "Iterator[tuple[np.ndarray | None, Tensor | None]]":
        return zip(self.images, self.device_images or (None,) * len(self.images), strict=True)
