"""Light and colour of a synthetic town: one sun, one overcast sky, at night street lamps, and the display curve.

Reflectances are linear; pixels are gamma-encoded 8-bit RGB.
"""

import math
from dataclasses import dataclass

import numpy as np

from hdmap_core.datasets.synthetic.town import RGB, Appearance

DISPLAY_GAMMA = 2.2
NIGHT_SKY = 0.045
"""Light of the sky at night as a share of that right below a street lamp."""


def encode(linear: np.ndarray | RGB) -> np.ndarray:
    """Linear radiance (…, 3), 1.0 = white, to 8-bit RGB of the same shape."""
    clipped = np.clip(np.asarray(linear, dtype=np.float64), 0.0, 1.0)
    return np.rint(255.0 * clipped ** (1.0 / DISPLAY_GAMMA)).astype(np.uint8)


@dataclass(frozen=True)
class Lighting:
    """Sky light and sun light, scaled so that open ground receives `exposure`."""

    to_sun: np.ndarray
    """(3,) unit vector in the town frame."""
    sun: float
    """Irradiance of a surface that faces the sun."""
    sky: float
    """Irradiance of open ground by the sky alone."""
    lamps: float = 0.0
    """Irradiance right below a street lamp; 0 by day."""
    tint: RGB = (1.0, 1.0, 1.0)
    """Colour of the light."""

    @staticmethod
    def of(appearance: Appearance) -> "Lighting":
        """For one appearance; the sun stands at least 8 degrees high."""
        elevation = max(appearance.sun_elevation, math.radians(8.0))
        horizontal = math.cos(elevation)
        to_sun = np.array(
            [
                horizontal * math.cos(appearance.sun_azimuth),
                horizontal * math.sin(appearance.sun_azimuth),
                math.sin(elevation),
            ]
        )
        if appearance.weather.time_of_day == "night":
            return Lighting(to_sun, 0.0, appearance.exposure * NIGHT_SKY, appearance.exposure, appearance.lamp)
        share = 0.62 * appearance.sun_strength
        # A low sun must not make walls several times as bright as the ground.
        sun = appearance.exposure * share / max(math.sin(elevation), 0.45)
        return Lighting(to_sun, sun, appearance.exposure * (1.0 - share))

    def irradiance(self, normals: np.ndarray, reach: np.ndarray | float = 1.0) -> np.ndarray:
        """Light that falls on faces with `normals` (…, 3): shape (…).

        `reach` (…) is the share of the sun's or the lamps' light that arrives: less than 1 in a cast shadow.
        """
        facing_sky = 0.72 + 0.28 * normals[..., 2]
        return (self.sky + self.lamps * reach) * facing_sky + self.sun * reach * np.maximum(normals @ self.to_sun, 0.0)

    @property
    def ground(self) -> float:
        """Irradiance of open ground, at night right below a lamp."""
        return float(self.irradiance(np.array([0.0, 0.0, 1.0])))

    @property
    def shadow_gain(self) -> float:
        """What a cast shadow multiplies an encoded ground colour with."""
        return (self.sky / self.ground) ** (1.0 / DISPLAY_GAMMA)

    def lamp_gain(self, reach: np.ndarray) -> np.ndarray:
        """What a distance from the lamps multiplies an encoded ground colour with; `reach` as for `irradiance`."""
        return ((self.sky + self.lamps * reach) / (self.sky + self.lamps)) ** (1.0 / DISPLAY_GAMMA)
