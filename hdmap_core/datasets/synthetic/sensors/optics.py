"""What one camera's lens and sensor do to the picture: plain numbers, and the development of a picture with them.

Most of it is one multiplication: exposure, white balance, vignetting, dirt and, at night, the own headlights are baked
into one gain per pixel. Encoded values are multiplied, so that a gain on light is raised to 1 / gamma.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from hdmap_core.datasets.synthetic.light.headlights import own_beam
from hdmap_core.datasets.synthetic.light.shading import DISPLAY_GAMMA, Lighting
from hdmap_core.datasets.synthetic.light.sky import haze_colour
from hdmap_core.datasets.synthetic.sensors.own_car import BodyView, OwnCar, body_view
from hdmap_core.datasets.synthetic.sensors.rig import Camera
from hdmap_core.datasets.synthetic.town import RGB, Appearance

_ONE = 64
"""Gain 1 in the 8-bit gain image."""
_COARSE = 8
_TYPICAL_M = 9.0
"""Distance of what fills most of a side view; motion smears it."""


@dataclass(frozen=True)
class Optics:
    """Lens and sensor of one camera. Pixels are those of an image 1600 wide. The defaults are a perfect camera."""

    exposure_error: float = 0.0
    """Stops that the automatic exposure is off; positive is too bright."""
    white_balance: RGB = (1.0, 1.0, 1.0)
    """Gain of each channel."""
    exposure_s: float = 0.0
    """Seconds that the shutter is open: how far motion smears."""
    defocus_px: float = 0.0
    """Standard deviation of the blur of what should be sharp."""
    noise: float = 1.0
    """Sensor noise as a multiple of that of a well-lit picture."""
    vignetting: float = 0.0
    """Share of the light that is missing in the corners."""
    jpeg_quality: int = 100
    """At most; the data set's own quality may be lower."""
    dirt: float = 0.0
    """0 clean .. 1 filthy."""
    drops: float = 0.0
    """Drops of water on the lens: 0 none .. 1 covered."""
    seed: int = 0
    """Where dirt and drops sit."""


@dataclass(frozen=True)
class _Drop:
    """A drop of water on the lens: `cover` (2 r, 2 r, 3) uint8 around (column, row)."""

    column: int
    row: int
    radius: int
    cover: np.ndarray


@dataclass(frozen=True)
class Developer:
    """What is prepared once for a camera, and develops each of its pictures."""

    gain: np.ndarray
    """(H, W, 3) uint8, 64 = unchanged."""
    body: BodyView | None
    drops: tuple[_Drop, ...]
    grain: np.ndarray
    """Larger than the image, uint8; 16 = no noise."""
    defocus_px: float
    smear_px_per_mps: float
    glare: float
    sun: np.ndarray
    """(3,) unit vector towards the sun, town frame."""

    def develop(self, image: np.ndarray, axes: np.ndarray, intrinsics: np.ndarray, speed: float, time_s: float) -> None:
        """Turn the picture of a perfect camera, (H, W, 3) uint8, into what this one takes; in place.

        Args:
            image: the scene.
            axes: (3, 3) rotation town from camera.
            intrinsics: (3, 3).
            speed: of the vehicle, m/s.
            time_s: picks the noise.
        """
        smear = int(self.smear_px_per_mps * speed)
        if smear >= 2:
            cv2.blur(image, (smear | 1, 1), dst=image)
        if self.defocus_px > 0.35:
            size = 3 if self.defocus_px < 0.8 else 5 if self.defocus_px < 1.3 else 7
            cv2.GaussianBlur(image, (size, size), self.defocus_px, dst=image)
        veil = self._veil(image, axes, intrinsics) if self.glare else None
        cv2.multiply(image, self.gain, dst=image, scale=1.0 / _ONE)
        if veil is not None:
            cv2.add(image, veil, dst=image)
        if self.body is not None:
            self.body.draw(image)
        for drop in self.drops:
            _draw_drop(image, drop)
        height, width = image.shape[:2]
        rng = np.random.default_rng(round(time_s * 1e6) & 0xFFFFFFFF)
        top, left = rng.integers(0, self.grain.shape[0] - height), rng.integers(0, self.grain.shape[1] - width)
        cv2.add(image, self.grain[top : top + height, left : left + width], dst=image)
        cv2.subtract(image, (16, 16, 16, 0), dst=image)  # type: ignore[call-overload]

    def _veil(self, image: np.ndarray, axes: np.ndarray, intrinsics: np.ndarray) -> np.ndarray | None:
        """Light that the sun strews over the picture, or None where it does not shine into the lens."""
        height, width = image.shape[:2]
        x, y, z = self.sun @ axes
        if z < 0.25:
            return None
        column, row = intrinsics[0, 0] * x / z + intrinsics[0, 2], intrinsics[1, 1] * y / z + intrinsics[1, 2]
        aside = max(-column, column - width, -row, row - height, 0.0) / width
        if aside > 0.35:
            return None
        strength = self.glare * math.exp(-aside / 0.12)
        if aside == 0.0 and image[int(min(row, height - 1)), int(min(column, width - 1))].min() < 235:
            return None  # something stands before the sun
        step = 16
        v, u = np.ogrid[0 : -(-height // step), 0 : -(-width // step)]
        away = np.hypot(u * step - column, v * step - row) / width
        light = strength * (0.8 * np.exp(-away / 0.035) + 0.42 * np.exp(-away / 0.22) + 0.06)
        centre = np.array([width / 2, height / 2])
        for share, radius in ((0.45, 0.02), (-0.35, 0.035), (-0.9, 0.05)):
            ghost = centre + share * (np.array([column, row]) - centre)
            light += strength * 0.07 * (np.hypot(u * step - ghost[0], v * step - ghost[1]) < radius * width)
        small = np.clip(255.0 * light[..., None] * (1.0, 0.93, 0.8), 0.0, 255.0).astype(np.uint8)
        return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR))


def developer_of(optics: Optics, camera: Camera, car: OwnCar | None, look: Appearance) -> Developer:
    """Prepare a camera of a scene.

    Args:
        optics: of the camera.
        camera: its pinhole, at the image's size.
        car: the ego vehicle, of which the camera may see a part; None for none.
        look: of the scene.
    """
    height, width = camera.image_size
    scale = width / 1600.0
    rng = np.random.default_rng([optics.seed, 35])
    light = Lighting.of(look)
    exposed = 2.0**optics.exposure_error * np.asarray(optics.white_balance)
    sky = np.asarray(haze_colour(look), np.float64) / 255.0
    body = body_view(car, camera, light, sky**DISPLAY_GAMMA, exposed) if car else None
    # 1 / distance of what passes beside the car, seen along the axis across the motion.
    smear = optics.exposure_s * camera.intrinsics[0, 0] * abs(math.sin(camera.yaw)) / _TYPICAL_M
    elevation = look.sun_elevation
    sun = np.array([math.cos(look.sun_azimuth), math.sin(look.sun_azimuth), math.tan(elevation)]) * math.cos(elevation)
    return Developer(
        gain=_gain(optics, camera, look, exposed, rng),
        body=body,
        drops=tuple(_drops(optics.drops, (height, width), rng)),
        grain=_grain(optics.noise, look.weather.rain, (height, width), rng),
        defocus_px=optics.defocus_px * scale,
        smear_px_per_mps=smear,
        glare=look.glare,
        sun=sun,
    )


def _gain(
    optics: Optics, camera: Camera, look: Appearance, exposed: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    height, width = camera.image_size
    rows, columns = -(-height // _COARSE), -(-width // _COARSE)
    v, u = np.ogrid[0:rows, 0:columns]
    squared = ((u + 0.5) * _COARSE / width - 0.5) ** 2 + ((v + 0.5) * _COARSE / height - 0.5) ** 2 * (
        height / width
    ) ** 2
    gain = 1.0 - optics.vignetting * squared / squared.max()
    if look.weather.time_of_day == "night":
        gain = gain * own_beam(camera, (rows, columns), _COARSE)
    gain = np.asarray(gain, np.float32)
    if optics.dirt:
        soft = cv2.GaussianBlur(rng.normal(0.0, 1.0, (rows, columns)).astype(np.float32), (0, 0), 5.0)
        gain *= 1.0 - 0.5 * optics.dirt * np.clip(soft / soft.std() - 1.8, 0.0, 1.0)
        for _ in range(rng.poisson(14 * optics.dirt)):
            radius = rng.uniform(0.6, 3.5)
            spot = np.exp(-((((u - rng.uniform(0, columns)) ** 2 + (v - rng.uniform(0, rows)) ** 2) / radius**2) ** 2))
            gain *= 1.0 - rng.uniform(0.2, 0.7) * spot
    encoded = (gain[..., None] * exposed) ** (1.0 / DISPLAY_GAMMA)
    size = columns * _COARSE, rows * _COARSE
    fine = cv2.resize((_ONE * encoded).astype(np.float32), size, interpolation=cv2.INTER_LINEAR)[:height, :width]
    # Steps of a 64th would show as rings, so that they are dithered.
    dither = np.tile(rng.random((64, 64, 1), np.float32), (height // 64 + 1, width // 64 + 1, 1))
    return np.asarray(np.clip(fine + dither[:height, :width], 0.0, 255.0).astype(np.uint8))


def _grain(amount: float, rain: float, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Noise, and streaks of rain, on a canvas a good deal larger than the image."""
    height, width = size
    tile = 2.0 * rng.standard_normal((512, 1024, 1), np.float32) + rng.standard_normal((512, 1024, 3), np.float32)
    # Sensors mix neighbours when they make colours of them.
    tile = amount * 1.3 * cv2.GaussianBlur(tile, (0, 0), 0.6) + 16.0
    if rain:
        streaks = np.zeros((512, 1024), np.uint8)
        slant = rng.normal(0.0, 0.12)
        for _ in range(rng.poisson(260 * rain)):
            x, y, length = rng.uniform(0, 1024), rng.uniform(-60, 512), rng.gamma(3.0, 16.0) * width / 1600.0
            end = (int(x + slant * length), int(y + length))
            cv2.line(streaks, (int(x), int(y)), end, float(rng.uniform(6, 26)), 1, cv2.LINE_AA)
        tile = tile + cv2.GaussianBlur(streaks, (3, 1), 0.7)[..., None]
    tile8 = np.clip(np.rint(tile), 0, 255).astype(np.uint8)
    return np.tile(tile8, ((height + 256) // 512 + 1, (width + 512) // 1024 + 1, 1))


def _drops(amount: float, size: tuple[int, int], rng: np.random.Generator) -> list[_Drop]:
    height, width = size
    drops = []
    for _ in range(rng.poisson(45 * amount)):
        radius = int(np.clip(rng.gamma(2.0, 9.0), 5, 46) * width / 1600.0)
        if radius < 3 or 6 * radius + 2 > min(size):
            continue
        v, u = np.ogrid[-1 : 1 : 2j * radius, -1 : 1 : 2j * radius]
        squash, power = rng.uniform(0.8, 1.25), rng.uniform(1.6, 2.4)
        inside = 1.0 - (np.abs(u * squash) ** power + np.abs(v) ** power)
        cover = np.clip(inside * 4.0, 0.0, 1.0) * rng.uniform(0.55, 0.95)
        soft = cv2.GaussianBlur(255.0 * cover, (0, 0), 0.08 * radius + 0.5, borderType=cv2.BORDER_CONSTANT)
        cover8 = cv2.merge([soft.astype(np.uint8)] * 3)
        column, row = (int(rng.integers(3 * radius, edge - 3 * radius)) for edge in (width, height))
        drops.append(_Drop(column, row, radius, cover8))
    return drops


def _draw_drop(image: np.ndarray, drop: _Drop) -> None:
    """A drop shows what is around it, small, upside down and out of focus."""
    r, reach = drop.radius, 3 * drop.radius
    around = image[drop.row - reach : drop.row + reach, drop.column - reach : drop.column + reach]
    seen = cv2.blur(around[::-3, ::-3], (3, 3))
    part = image[drop.row - r : drop.row + r, drop.column - r : drop.column + r]
    cv2.multiply(part, 255 - drop.cover, dst=part, scale=1.0 / 255.0)
    cv2.add(part, cv2.multiply(seen, drop.cover, scale=1.0 / 255.0), dst=part)
