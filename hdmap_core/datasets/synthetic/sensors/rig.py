"""The sensor rig of nuScenes: where the six cameras and the LiDAR sit, what they see and when they fire.

The numbers are the calibration and timing of the real vehicle n015 (nuScenes v1.0-mini, scene-0061, and the stamps of
all 404 keyframes of v1.0-mini).
"""

from dataclasses import dataclass, field, replace
from functools import cached_property

import cv2
import numpy as np

from hdmap_core.datasets.synthetic.sensors.lens_view import pinhole_around, places_in_pinhole
from hdmap_core.geometry.lens import Lens
from hdmap_core.geometry.se3 import rotation_from_euler, rotation_from_quaternion, se3

OPTICAL = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
"""Axes x right, y down, z forward of a camera that looks ahead, in the ego frame."""
NATIVE_SIZE = (900, 1600)
"""Height and width that the intrinsics below belong to."""
CLOCK_US = 50_000
"""Period of the LiDAR and of the cameras' trigger clock."""
TICKS_PER_KEYFRAME = 10
CAMERA_TICKS = (2, 4, 5, 7, 9)
"""Between two keyframes the cameras fire on these ticks too: 12 Hz as gaps of 50 and 100 ms."""

# channel: fx, cx, cy, position (m), quaternion w x y z
_CAMERAS = {
    "CAM_FRONT": (
        1266.417, 816.267, 491.507, (1.70079, 0.01595, 1.51096), (0.499802, -0.503032, 0.499780, -0.497371),
    ),
    "CAM_FRONT_RIGHT": (
        1260.847, 807.968, 495.334, (1.55085, -0.49340, 1.49575), (0.206035, -0.202694, 0.682451, -0.671361),
    ),
    "CAM_FRONT_LEFT": (
        1272.598, 826.615, 479.752, (1.52388, 0.49463, 1.50933), (0.675727, -0.673627, 0.212140, -0.211228),
    ),
    "CAM_BACK": (
        809.221, 829.220, 481.778, (0.02833, 0.00345, 1.57910), (0.503787, -0.497402, -0.494185, 0.504550),
    ),
    "CAM_BACK_LEFT": (
        1256.741, 792.113, 492.776, (1.03569, 0.48480, 1.59097), (0.692419, -0.703162, -0.116483, 0.112033),
    ),
    "CAM_BACK_RIGHT": (
        1259.514, 807.253, 501.196, (1.01488, -0.48057, 1.56240), (0.122810, -0.132401, -0.700431, 0.690496),
    ),
}  # fmt: skip
_LIDAR = ((0.943713, 0.0, 1.84023), (0.70780, -0.00649, 0.01065, -0.70631))
CHANNELS = (*_CAMERAS, "LIDAR_TOP")


@dataclass(frozen=True)
class Camera:
    """A camera. `intrinsics` (3, 3) belong to `image_size` (H, W); `ego_from_camera` (4, 4), optical axes."""

    intrinsics: np.ndarray
    ego_from_camera: np.ndarray
    image_size: tuple[int, int]
    lens: Lens | None = None
    """That its pictures show; None for a pinhole."""
    miscalibrated: np.ndarray | None = None
    """(4, 4) what the tables give in place of `ego_from_camera`; None for the truth."""

    @property
    def calibrated(self) -> np.ndarray:
        """(4, 4) `ego_from_camera` as the calibration has it."""
        return self.ego_from_camera if self.miscalibrated is None else self.miscalibrated

    @cached_property
    def pinhole(self) -> "Camera":
        """What is drawn: the camera itself, or where it has a lens a pinhole that sees as much."""
        if self.lens is None:
            return self
        matrix, size = pinhole_around(self.lens, self.intrinsics, self.image_size)
        return Camera(matrix, self.ego_from_camera, size)

    def through_lens(self, image: np.ndarray) -> np.ndarray:
        """The picture (H, W, 3) uint8 that the lens makes of one of `pinhole`."""
        if self.lens is None:
            return image
        return cv2.remap(image, self._places, None, cv2.INTER_LINEAR)  # type: ignore[call-overload]

    @cached_property
    def _places(self) -> np.ndarray:
        assert self.lens is not None  # who asks has looked
        return places_in_pinhole(self.lens, self.intrinsics, self.image_size, self.pinhole.intrinsics)

    @property
    def yaw(self) -> float:
        """Direction of the optical axis in radians, to the left positive."""
        return float(np.arctan2(self.ego_from_camera[1, 2], self.ego_from_camera[0, 2]))

    def resized(self, image_size: tuple[int, int]) -> "Camera":
        """The same camera with another image size; pixel centres lie at whole numbers, borders half a pixel out."""
        scale_y, scale_x = (new / old for new, old in zip(image_size, self.image_size, strict=True))
        intrinsics = self.intrinsics.copy()
        intrinsics[0, 0] *= scale_x
        intrinsics[1, 1] *= scale_y
        intrinsics[0, 2] = (intrinsics[0, 2] + 0.5) * scale_x - 0.5
        intrinsics[1, 2] = (intrinsics[1, 2] + 0.5) * scale_y - 0.5
        return replace(self, intrinsics=intrinsics, image_size=image_size)


@dataclass(frozen=True)
class Rig:
    """Cameras by channel name, and `ego_from_lidar` (4, 4)."""

    cameras: dict[str, Camera]
    ego_from_lidar: np.ndarray
    aims: dict[str, float] = field(default_factory=dict)
    """Where each camera is meant to look, radians to the left: by that it fires. Empty: where nuScenes' are."""

    def resized(self, image_size: tuple[int, int]) -> "Rig":
        """The rig with all images of another size (H, W); upright ones keep upright."""
        cameras = {
            name: camera.resized(image_size if camera.image_size[0] <= camera.image_size[1] else image_size[::-1])
            for name, camera in self.cameras.items()
        }
        return replace(self, cameras=cameras)


def _pose(position: tuple[float, float, float], quaternion: tuple[float, float, float, float]) -> np.ndarray:
    return se3(rotation_from_quaternion(quaternion), position)


def nuscenes_rig() -> Rig:
    """The rig as it is, at 1600 x 900."""
    cameras = {}
    for name, (focal, cx, cy, position, quaternion) in _CAMERAS.items():
        intrinsics = np.array([[focal, 0.0, cx], [0.0, focal, cy], [0.0, 0.0, 1.0]])
        cameras[name] = Camera(intrinsics, _pose(position, quaternion), NATIVE_SIZE)
    return Rig(cameras, _pose(*_LIDAR))


def varied_rig(rng: np.random.Generator) -> Rig:
    """Another vehicle of the fleet: focal lengths ±4 %, principal points ±15 px, positions ±5 cm, the whole rig up or
    down by up to 10 cm, angles ±1 degree.
    """
    rig, lift = nuscenes_rig(), np.array([0.0, 0.0, rng.uniform(-0.1, 0.1)])
    cameras = {}
    for name, camera in rig.cameras.items():
        intrinsics = camera.intrinsics.copy()
        intrinsics[[0, 1], [0, 1]] *= rng.uniform(0.96, 1.04)
        intrinsics[:2, 2] += rng.uniform(-15, 15, 2)
        pose = camera.ego_from_camera.copy()
        pose[:3, :3] = _random_turn(rng, 1.0) @ pose[:3, :3]
        pose[:3, 3] += lift + rng.uniform(-0.05, 0.05, 3)
        cameras[name] = Camera(intrinsics, pose, camera.image_size)
    lidar = rig.ego_from_lidar.copy()
    lidar[:3, :3] = _random_turn(rng, 0.5) @ lidar[:3, :3]
    lidar[:3, 3] += lift + rng.uniform(-0.03, 0.03, 3)
    return Rig(cameras, lidar)


def _random_turn(rng: np.random.Generator, limit_degrees: float) -> np.ndarray:
    yaw, pitch, roll = np.deg2rad(rng.uniform(-limit_degrees, limit_degrees, 3))
    return rotation_from_euler(roll, pitch, yaw)


def camera_delay_us(yaw: float) -> float:
    """Exposure of a camera minus the LiDAR's stamp (end of its turn), from the direction of the optical axis.

    The beam starts at the left, turns clockwise in 50 ms, and the camera fires 2.05 ms after it passed the axis.
    """
    share = ((np.pi / 2 - yaw) % (2 * np.pi)) / (2 * np.pi)
    return CLOCK_US * (share - 1.0) + 2050.0


@dataclass(frozen=True)
class Firing:
    """One exposure of a camera, or the end of one turn of the LiDAR."""

    channel: str
    stamp_us: int
    """Since the start of the drive."""
    is_keyframe: bool
    keyframe: int
    """The keyframe this belongs to: its own, or the next one."""


def firings(rng: np.random.Generator, rig: Rig, keyframes: int, sweeps: bool, lidar: str) -> list[Firing]:
    """Every exposure and turn of a scene, by time.

    Args:
        rng: for the jitter of a scene.
        rig: whose cameras fire.
        keyframes: number of keyframes, half a second apart.
        sweeps: also the camera frames between keyframes (12 Hz in all).
        lidar: `none`, `keyframes` or `all` (20 Hz).
    """
    found = []
    ticks = (keyframes - 1) * TICKS_PER_KEYFRAME + 1
    # The LiDAR's stamps wander slowly against the cameras' fixed clock.
    wander = np.clip(
        400 + 800 * np.sin(np.arange(ticks) * 0.21 + rng.uniform(0, 6)) + rng.normal(0, 250, ticks), -1500, 3900
    )
    aims = rig.aims or {name: camera.yaw for name, camera in nuscenes_rig().cameras.items() if name in rig.cameras}
    delays = {name: camera_delay_us(yaw) for name, yaw in aims.items()}
    for tick in range(ticks):
        is_key = tick % TICKS_PER_KEYFRAME == 0
        keyframe = -(-tick // TICKS_PER_KEYFRAME)
        if is_key or (sweeps and tick % TICKS_PER_KEYFRAME in CAMERA_TICKS):
            found += [
                Firing(name, round(tick * CLOCK_US + delay + rng.normal(0, 40)), is_key, keyframe)
                for name, delay in delays.items()
            ]
        if is_key or lidar == "all":
            found.append(Firing("LIDAR_TOP", round(tick * CLOCK_US + wander[tick]), is_key, keyframe))
    return sorted(found, key=lambda firing: (firing.stamp_us, firing.channel))
