"""Lenses that are no pinhole: from directions in the camera's frame to its image plane, and back.

The models and the order of their coefficients are OpenCV's, which sensor_msgs/CameraInfo takes over. A lens works on
the image plane at focal length 1, before the camera matrix: an image that is scaled or cropped keeps its lens.

Polynomials are fitted inside the picture. Beyond it most turn round, and what lies far to the side would come back into
the picture; so a lens sees only what lies within its reach, up to where the picture first stops growing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal

import numpy as np

from hdmap_core.errors import CalibrationError
from hdmap_core.geometry.se3 import rotation_from_euler

_PINHOLES = ("", "none", "pinhole", "perspective")
_POLYNOMIALS = ("plumb_bob", "radtan", "brown_conrady", "rational_polynomial", "thin_prism")
FISHEYES = ("equidistant", "fisheye", "kannala_brandt", "kannala_brandt4")
"""Names of a lens that is no pinhole even without coefficients."""
_OTHER_POLYNOMIALS = ("modified_brown_conrady", "inverse_brown_conrady")  # a pinhole without coefficients, else unknown
_COUNTS = (4, 5, 8, 12, 14)
_WIDEST_RAD = np.deg2rad(89.0)  # what a polynomial may reach at most
_LEAST_RAD = np.deg2rad(1.0)  # what a lens sees at least; coefficients that leave less are none
_STEPS = 2000
_ITERATIONS = 25


@dataclass(frozen=True)
class Lens:
    """One lens.

    Attributes:
        kind: `polynomial`: OpenCV's k1 k2 p1 p2 k3, k4 k5 k6 (rational), s1 .. s4 (thin prism), tau_x tau_y (tilted
            sensor); `fisheye`: k1 .. k4 of OpenCV's fisheye, an ideal equidistant lens when all are 0.
        coefficients: 4, 5, 8, 12 or 14 of them, of a fisheye 4.
    """

    kind: Literal["polynomial", "fisheye"]
    coefficients: tuple[float, ...]

    @property
    def model(self) -> str:
        """Its name in CameraInfo."""
        if self.kind == "fisheye":
            return "equidistant"
        count = len(self.coefficients)
        return "plumb_bob" if count <= 5 else "rational_polynomial" if count == 8 else "thin_prism"

    @cached_property
    def reach_rad(self) -> float:
        """Up to this angle from the axis the lens is one to one, and sees."""
        angles, points = self._rings
        along = np.diff(points, axis=0)
        around = (np.roll(points, -1, axis=1) - np.roll(points, 1, axis=1))[:-1]
        growing = (along[..., 0] * around[..., 1] - along[..., 1] * around[..., 0] > 0).all(axis=1)
        growing[0] = True  # of no width
        return float(angles[len(growing) if growing.all() else int(np.argmin(growing))])

    @cached_property
    def _rings(self) -> tuple[np.ndarray, np.ndarray]:
        """Angles (A,) from the axis, and points (A, 64, 2) of the image plane where circles of these angles come."""
        widest = np.pi if self.kind == "fisheye" else _WIDEST_RAD
        angles = np.linspace(0, widest, _STEPS)
        azimuths = np.linspace(0, 2 * np.pi, 64, endpoint=False)
        ring = np.stack([np.cos(azimuths), np.sin(azimuths)], axis=-1)
        return angles, self._bent(angles[:, None, None] * ring)

    def project(self, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where directions come on the image plane.

        Args:
            directions: (..., 3) in the camera's optical frame, of any length.

        Returns:
            (..., 2) at focal length 1; what lies beyond the lens's reach is put on the rim. (...) depth in the unit of
            `directions`: along the axis, of a fisheye the distance, as it may look behind; negative beyond the reach.
        """
        sideways = np.hypot(directions[..., 0], directions[..., 1])
        angle = np.arctan2(sideways, directions[..., 2])
        along = np.minimum(angle, self.reach_rad) / np.maximum(sideways, 1e-12)
        depth = np.hypot(sideways, directions[..., 2]) if self.kind == "fisheye" else np.abs(directions[..., 2])
        return self._bent(directions[..., :2] * along[..., None]), np.where(angle <= self.reach_rad, depth, -depth)

    def unproject(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The directions that come to points of the image plane.

        Args:
            points: (..., 2) at focal length 1.

        Returns:
            (..., 3) unit vectors, and (...) bool: whether the lens brings anything there.
        """
        angles, rings = self._rings
        inside = angles <= self.reach_rad
        mean = np.hypot(rings[inside, :, 0], rings[inside, :, 1]).mean(axis=1)
        radius = np.hypot(points[..., 0], points[..., 1])
        angle = np.interp(radius, np.maximum.accumulate(mean), angles[inside])
        polar = points * (angle / np.maximum(radius, 1e-12))[..., None]
        limit = 1e-8 * (1 + radius)
        polar, miss = self._solved(polar, points)
        for share in (0.7, 0.3):  # a tilted sensor's rim is no circle: from further in there is a way to more of it
            lost = miss >= limit
            polar[lost], miss[lost] = self._solved(share * polar[lost], points[lost])
        angle = np.hypot(polar[..., 0], polar[..., 1])
        scale = np.sinc(angle / np.pi)[..., None]  # sin(angle) / angle
        return np.concatenate([polar * scale, np.cos(angle)[..., None]], axis=-1), miss < limit

    def _solved(self, polar: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Directions (..., 2) that come to points, sought from `polar` on, and how far (...) they miss them."""
        miss, share = self._miss(polar, points), np.ones(polar.shape[:-1])
        for _ in range(_ITERATIONS):
            step = self._newton_step(polar, points)
            tried = polar - share[..., None] * step
            angle = np.hypot(tried[..., 0], tried[..., 1])
            tried = tried * (np.minimum(angle, self.reach_rad) / np.maximum(angle, 1e-12))[..., None]
            missed = self._miss(tried, points)
            # Near a rim where the lens folds a whole step goes too far, and there and back for ever.
            better = missed <= miss
            polar, miss = np.where(better[..., None], tried, polar), np.where(better, missed, miss)
            share = np.where(better, 1.0, share / 2)
            if np.abs(step).max(initial=0) < 1e-10:
                break
        return polar, miss

    def _miss(self, polar: np.ndarray, points: np.ndarray) -> np.ndarray:
        return np.hypot(*np.moveaxis(self._bent(polar) - points, -1, 0))

    def _newton_step(self, polar: np.ndarray, points: np.ndarray) -> np.ndarray:
        step = 1e-6
        error = self._bent(polar) - points
        dx, dy = (
            (self._bent(polar + offset) - self._bent(polar - offset)) / (2 * step)
            for offset in (np.array([step, 0.0]), np.array([0.0, step]))
        )
        turn = dx[..., 0] * dy[..., 1] - dx[..., 1] * dy[..., 0]
        turn = np.where(np.abs(turn) < 1e-12, 1e-12, turn)[..., None]
        across = np.stack([dy[..., 1], -dx[..., 1]], axis=-1) * error[..., :1]
        down = np.stack([-dy[..., 0], dx[..., 0]], axis=-1) * error[..., 1:]
        return (across + down) / turn

    def _bent(self, polar: np.ndarray) -> np.ndarray:
        """(..., 2) image plane at focal length 1, of (..., 2) directions whose length is the angle from the axis."""
        angle = np.hypot(polar[..., 0], polar[..., 1])
        if self.kind == "fisheye":
            square = angle * angle
            k1, k2, k3, k4 = self.coefficients
            return polar * (1 + square * (k1 + square * (k2 + square * (k3 + square * k4))))[..., None]
        scale = np.where(angle < 1e-6, 1.0, np.tan(angle) / np.maximum(angle, 1e-12))
        return _polynomial(polar[..., 0] * scale, polar[..., 1] * scale, self.coefficients)


def lens_of(model: str, coefficients: Sequence[float] | np.ndarray) -> Lens | None:
    """The lens of a model's name, as CameraInfo and calibration files give it; None for a pinhole.

    A name of the polynomial family may come with the coefficients of any of it. Fewer than its own are filled up with
    zeros, and zeros at the end are no coefficients: an equidistant lens with four zeros, or none, is still one.

    Raises:
        CalibrationError: for a model that is not known, listing those that are; for coefficients that are not finite,
            too many of them, or such that the lens sees nothing.
    """
    name, values = model.strip().lower(), np.asarray(coefficients, dtype=np.float64).reshape(-1)
    if not np.isfinite(values).all():
        raise CalibrationError(f"the coefficients of the lens must be finite numbers, got {values.tolist()}")
    given = np.trim_zeros(values, "b")
    if name in FISHEYES:
        return _seeing("fisheye", _filled(given, 4, name))
    if name not in (*_PINHOLES, *_POLYNOMIALS) and (len(given) or name not in _OTHER_POLYNOMIALS):
        known = ", ".join((*_POLYNOMIALS, *FISHEYES))
        raise CalibrationError(f"a lens of the model {model!r} is not known; known are {known}")
    if not len(given):
        return None
    return _seeing("polynomial", _filled(given, next((n for n in _COUNTS if n >= len(given)), _COUNTS[-1]), name))


@lru_cache(maxsize=64)
def _seeing(kind: Literal["polynomial", "fisheye"], coefficients: tuple[float, ...]) -> Lens:
    """The same lens for the same coefficients, as its reach takes a while."""
    lens = Lens(kind, coefficients)
    with np.errstate(over="ignore", invalid="ignore"):
        degrees = np.rad2deg(lens.reach_rad)
    if degrees < np.rad2deg(_LEAST_RAD):
        raise CalibrationError(
            f"the coefficients of the lens, {list(coefficients)}, turn its picture round {degrees:.2g} degrees from "
            "the axis: it sees nothing; they are those of the image plane at focal length 1, not of pixels"
        )
    return lens


def _filled(given: np.ndarray, count: int, name: str) -> tuple[float, ...]:
    if len(given) > count:
        raise CalibrationError(f"a lens of the model {name!r} has at most {count} coefficients, got {len(given)}")
    return tuple(np.pad(given, (0, count - len(given))).tolist())


def _polynomial(x: np.ndarray, y: np.ndarray, coefficients: tuple[float, ...]) -> np.ndarray:
    """(..., 2): OpenCV's model (`cv2.projectPoints`, to rounding, but an order of magnitude quicker)."""
    k1, k2, p1, p2, k3, k4, k5, k6, s1, s2, s3, s4, tau_x, tau_y = np.pad(coefficients, (0, 14 - len(coefficients)))
    xx, yy, xy = x * x, y * y, x * y
    square = xx + yy
    radial = 1 + square * (k1 + square * (k2 + square * k3))
    if k4 or k5 or k6:
        below = 1 + square * (k4 + square * (k5 + square * k6))
        radial = radial / np.where(below == 0, 1e-12, below)
    bent = np.stack([x * radial, y * radial], axis=-1)
    if p1 or p2 or s1 or s2 or s3 or s4:
        bent[..., 0] += 2 * p1 * xy + p2 * (square + 2 * xx) + square * (s1 + square * s2)
        bent[..., 1] += 2 * p2 * xy + p1 * (square + 2 * yy) + square * (s3 + square * s4)
    if tau_x or tau_y:
        bent = _tilted(bent, tau_x, tau_y)
    return bent


def _tilted(points: np.ndarray, tau_x: float, tau_y: float) -> np.ndarray:
    """Points on a sensor that is turned about x and y against the lens (Scheimpflug)."""
    about_x, about_y = rotation_from_euler(-tau_x, 0.0, 0.0), rotation_from_euler(0.0, -tau_y, 0.0)
    turn = about_y @ about_x
    onto = np.array([[turn[2, 2], 0, -turn[0, 2]], [0, turn[2, 2], -turn[1, 2]], [0, 0, 1]]) @ turn
    place = points @ onto[:, :2].T + onto[:, 2]
    return place[..., :2] / place[..., 2:]
