"""A rig like Argoverse 2's: seven cameras in a ring on the roof, the one ahead upright. The numbers are our own."""

import numpy as np

from hdmap_core.datasets.synthetic.sensors.rig import OPTICAL, Camera, Rig
from hdmap_core.geometry.se3 import rotation_from_euler, se3

LANDSCAPE = (1550, 2048)
"""Height and width; the camera ahead has them the other way round."""
# name: degrees to the left, place (m), focal length (px)
_CAMERAS = {
    "ring_front_center": (0.0, (1.63, 0.0, 1.73), 1780.0),
    "ring_front_left": (45.0, (1.55, 0.2, 1.73), 1690.0),
    "ring_front_right": (-45.0, (1.55, -0.2, 1.73), 1690.0),
    "ring_side_left": (99.0, (1.3, 0.28, 1.73), 1690.0),
    "ring_side_right": (-99.0, (1.3, -0.28, 1.73), 1690.0),
    "ring_rear_left": (153.0, (1.1, 0.13, 1.75), 1690.0),
    "ring_rear_right": (-153.0, (1.1, -0.13, 1.75), 1690.0),
}
CHANNELS = (*_CAMERAS, "LIDAR_TOP")


def ring_rig() -> Rig:
    """The rig at full size."""
    cameras, aims = {}, {}
    for name, (degrees, place, focal) in _CAMERAS.items():
        height, width = LANDSCAPE[::-1] if name == "ring_front_center" else LANDSCAPE
        matrix = np.array([[focal, 0.0, (width - 1) / 2], [0.0, focal, (height - 1) / 2], [0.0, 0.0, 1.0]])
        aims[name] = float(np.deg2rad(degrees))
        pose = se3(rotation_from_euler(0.0, 0.0, aims[name]) @ OPTICAL, place)
        cameras[name] = Camera(matrix, pose, (height, width))
    return Rig(cameras, se3(np.eye(3), [1.35, 0.0, 1.97]), aims)
