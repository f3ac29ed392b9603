"""Rigs that are not nuScenes': four to eight cameras, low or high, wide or long, behind lenses, calibrated about right.

`varied` rigs are to train on. `unseen` ones are kept back for the table of a rig that nobody has seen: they stand at
heights that `varied` never has, and some have seven cameras, as none of `varied`.
"""

from typing import Literal

import numpy as np

from hdmap_core.datasets.synthetic.sensors.rig import NATIVE_SIZE, OPTICAL, Camera, Rig, nuscenes_rig
from hdmap_core.datasets.synthetic.sensors.ring_rig import ring_rig
from hdmap_core.geometry.lens import Lens, lens_of
from hdmap_core.geometry.se3 import rotation_from_euler, se3

LAYOUTS: dict[int, dict[str, float]] = {
    4: {"CAM_FRONT": 0, "CAM_LEFT": 90, "CAM_RIGHT": -90, "CAM_BACK": 180},
    5: {"CAM_FRONT": 0, "CAM_FRONT_LEFT": 65, "CAM_FRONT_RIGHT": -65, "CAM_BACK_LEFT": 138, "CAM_BACK_RIGHT": -138},
    6: {"CAM_FRONT": 0, "CAM_FRONT_LEFT": 55, "CAM_FRONT_RIGHT": -55, "CAM_BACK_LEFT": 110, "CAM_BACK_RIGHT": -110,
        "CAM_BACK": 180},
    7: {"CAM_FRONT": 0, "CAM_FRONT_LEFT": 50, "CAM_FRONT_RIGHT": -50, "CAM_LEFT": 100, "CAM_RIGHT": -100,
        "CAM_BACK_LEFT": 153, "CAM_BACK_RIGHT": -153},
    8: {"CAM_FRONT": 0, "CAM_FRONT_LEFT": 45, "CAM_FRONT_RIGHT": -45, "CAM_LEFT": 90, "CAM_RIGHT": -90,
        "CAM_BACK_LEFT": 135, "CAM_BACK_RIGHT": -135, "CAM_BACK": 180},
}  # fmt: skip
"""Number of cameras -> where each looks, degrees to the left of straight ahead."""
CHANNELS = (*dict.fromkeys(name for layout in LAYOUTS.values() for name in layout), "LIDAR_TOP")
"""Every channel that such a rig can have."""

Kind = Literal["varied", "unseen", "argoverse"]
HEIGHT_M = (1.2, 2.4)
HELD_BACK_M = ((1.35, 1.45), (1.9, 2.1))
"""Heights of the rig that only `unseen` ones have."""
NUMBERS: dict[str, tuple[int, ...]] = {"varied": (4, 5, 6, 8), "unseen": (4, 5, 6, 7, 8)}
WIDEST_DEG = 105.0
FISHEYE_FROM_DEG = 95.0
MISCALIBRATED_DEG = 0.5
_STREAM: dict[str, int] = {"varied": 41, "unseen": 42}


def other_rig(kind: Kind, town_seed: int, scene: int) -> Rig:
    """The rig of one scene, at 1600 x 900.

    Args:
        kind: which set; `argoverse` is one rig, see `ring_rig`.
        town_seed: of the town.
        scene: number of the drive in it.
    """
    if kind == "argoverse":
        return ring_rig()
    rng = np.random.default_rng([town_seed, scene, _STREAM[kind]])
    height = _height(rng, kind)
    count = int(rng.choice(NUMBERS[kind]))
    gap = 360.0 / count
    fov = float(rng.uniform(max(52.0, gap + 4.0), min(gap + 45.0, WIDEST_DEG)))
    middle, half_length, half_width = rng.uniform((0.7, 0.3, 0.3), (1.2, 0.9, 0.8))
    pitch = float(rng.uniform(-1.0, 5.0))
    family = float(rng.random())
    wrong = MISCALIBRATED_DEG * float(rng.uniform(0.0, 1.0))
    cameras, aims = {}, {}
    for name, degrees in LAYOUTS[count].items():
        aim = np.deg2rad(degrees)
        place = np.array([middle + half_length * np.cos(aim), half_width * np.sin(aim), height])
        place += rng.uniform(-0.04, 0.04, 3)
        turn = np.deg2rad(np.array([0.0, pitch, degrees]) + rng.uniform(-1.0, 1.0, 3))
        own_fov = float(np.clip(fov + rng.uniform(-4.0, 4.0), gap, WIDEST_DEG))
        ego_from_camera = se3(rotation_from_euler(*turn) @ OPTICAL, place)
        matrix, lens = _optics(rng, own_fov, family)
        calibrated = ego_from_camera.copy()
        calibrated[:3, :3] = _tilt(rng, wrong) @ calibrated[:3, :3]
        cameras[name] = Camera(matrix, ego_from_camera, NATIVE_SIZE, lens, calibrated)
        aims[name] = float(aim)
    lidar = nuscenes_rig().ego_from_lidar.copy()
    lidar[2, 3] = max(lidar[2, 3], height + 0.25)
    return Rig(cameras, lidar, aims)


def _height(rng: np.random.Generator, kind: Kind) -> float:
    while True:
        height = float(rng.uniform(HEIGHT_M[0] + 0.04, HEIGHT_M[1] - 0.04))
        if any(low <= height <= high for low, high in HELD_BACK_M) == (kind == "unseen"):
            return height


def _tilt(rng: np.random.Generator, most_degrees: float) -> np.ndarray:
    """(3, 3) turn about any axis by at most so much."""
    axis = rng.normal(0.0, 1.0, 3)
    roll, pitch, yaw = axis / np.linalg.norm(axis) * np.deg2rad(most_degrees * rng.uniform(0.0, 0.98))
    return rotation_from_euler(roll, pitch, yaw)


def _optics(rng: np.random.Generator, fov_deg: float, family: float) -> tuple[np.ndarray, Lens | None]:
    """A (3, 3) camera matrix at 1600 x 900 that sees so much across, and the lens before it; None for a pinhole.

    `family`, 0 .. 1: below 0.35 pinholes, below 0.8 polynomial lenses, above fisheyes, which all wide ones are.
    """
    height, width = NATIVE_SIZE
    tangent = np.tan(np.deg2rad(fov_deg) / 2)
    lens = None
    if fov_deg > FISHEYE_FROM_DEG or family > 0.8:
        lens = lens_of("equidistant", rng.uniform((-0.03, -0.006), (0.03, 0.006)))
    elif family > 0.35:
        corner = tangent * np.hypot(1.0, height / width) * 1.08
        k1 = rng.uniform(-0.2, 0.03) / corner**2
        lens = lens_of("plumb_bob", [k1, -0.1 * k1 / corner**2, *rng.uniform(-4e-4, 4e-4, 2)])
    side = tangent if lens is None else lens.project(np.array([tangent, 0.0, 1.0]))[0][0]
    focal = width / 2 / float(side)
    centre = np.array([width / 2, height / 2]) - 0.5 + rng.uniform(-0.012, 0.012, 2) * width
    return np.array([[focal, 0.0, centre[0]], [0.0, focal * rng.uniform(0.997, 1.003), centre[1]], [0, 0, 1.0]]), lens
