"""Where a map frame lies on the earth: metres east and north of an origin <-> longitude and latitude.

True metres in a plane that touches a sphere of the WGS84 equator's radius at the origin. On nuScenes' real maps roads
of OpenStreetMap fit without any shift; Web-Mercator metres, 1.35 times too long in Boston, do not. nuscenes-devkit
walks along great circles of the same sphere: at most 0.05 m elsewhere in Singapore, 1.1 m in Boston's far corner.
"""

from typing import NamedTuple

import numpy as np

from hdmap_core.errors import ElementError

EARTH_RADIUS_M = 6_378_137.0
ECCENTRICITY_SQUARED = 6.694379990141e-3


class MapOrigin(NamedTuple):
    """The point x = y = 0 of a map frame with x east and y north, degrees (WGS84)."""

    latitude: float
    longitude: float

    def metres(self, degrees: np.ndarray) -> np.ndarray:
        """Longitude, latitude (..., 2) in degrees -> x, y in metres, float64."""
        away = np.asarray(degrees, np.float64) - [self.longitude, self.latitude]
        away[..., 0] = _short_way(away[..., 0])
        return away * self._metres_per_degree

    def degrees(self, metres: np.ndarray) -> np.ndarray:
        """x, y (..., 2) in metres -> longitude within ±180, latitude within ±90, degrees, float64.

        Raises:
            ElementError: if that is beyond a pole, or half around the earth.
        """
        metres = np.asarray(metres, np.float64)
        away = metres / self._metres_per_degree
        longitude, latitude = np.moveaxis(away + np.array([self.longitude, self.latitude]), -1, 0)
        if not (np.abs(latitude) <= 90).all() or not (np.abs(away[..., 0]) <= 180).all():
            farthest = np.abs(metres).max() / 1e3
            raise ElementError(
                f"a map {farthest:,.0f} km from its origin at latitude {self.latitude:g}, longitude {self.longitude:g} "
                "does not lie on the earth; the origin is that of another frame"
            )
        return np.stack([_short_way(longitude), latitude], axis=-1)

    @property
    def _metres_per_degree(self) -> np.ndarray:
        return np.radians(1.0) * EARTH_RADIUS_M * np.array([np.cos(np.radians(self.latitude)), 1.0])


class GeodeticOrigin(MapOrigin):
    """The same in a plane that touches the WGS84 ellipsoid, as GNSS and surveys have it, and not nuScenes' sphere."""

    __slots__ = ()

    @property
    def _metres_per_degree(self) -> np.ndarray:
        latitude = np.radians(self.latitude)
        bend = 1 - ECCENTRICITY_SQUARED * np.sin(latitude) ** 2
        east = EARTH_RADIUS_M / np.sqrt(bend)  # radii of curvature across and along the meridian
        north = EARTH_RADIUS_M * (1 - ECCENTRICITY_SQUARED) / bend**1.5
        return np.radians(1.0) * np.array([east * np.cos(latitude), north])


def _short_way(degrees: np.ndarray) -> np.ndarray:
    """Degrees of longitude, or between two, within ±180 also across the date line."""
    return np.where(np.abs(degrees) > 180, (degrees + 180) % 360 - 180, degrees)
