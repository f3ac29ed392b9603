"""The road's plane from images: what two successive sets, or the cameras' seams in one set, tell of it.

Ground seen twice must look the same where it is projected onto the right plane. Gauss-Newton with a prior finds the
plane z = a x + b y + c at which it does: the prior's mean is what the poses say (or the ego frame's plane), and where
the images tell little the answer stays there. Nothing of the package uses it: docs/results/road_plane.md says why.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from hdmap_core.observation import Observation

PRIOR_SD = np.array([np.deg2rad(0.4), np.deg2rad(0.4), 0.03])
"""Of a, b and c in metres: springs and, over some metres, the road itself."""
ROUNDS = ((2.0, 21), (1.0, 11))
"""Blur and surroundings in pixels of pictures of 400 x 225, coarse to fine."""
STEPS = 6
SPREAD = 0.8
"""Scale of the Geman-McClure norm, in units of the picture's own contrast."""
INDEPENDENT = 0.1
"""Share of the places that tells something new: neighbours see the same texture."""
REGION_M = ((-25.0, 25.0), (-10.0, 10.0))
OWN_CAR_M = ((-1.5, 4.5), (-1.5, 1.5))
Ray = tuple[np.ndarray, np.ndarray]
"""Of N places: pixels, homogeneous (N, 3), at height 0, and what a metre of height adds to them."""


@dataclass(frozen=True)
class Sighting:
    """Grey pictures (H, W) uint8 by camera, and (3, 4) projections of ego points into them."""

    pictures: dict[str, np.ndarray]
    projections: dict[str, np.ndarray]


def sighting(observation: Observation) -> Sighting:
    """Of the cameras that are there; pictures of about 400 x 225 are enough."""
    names = observation.rig.names
    cameras = {name: image for name, image in zip(names, observation.images, strict=True) if image is not None}
    matrices = dict(zip(names, observation.rig.projection().double().numpy(), strict=True))
    pictures = {name: cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for name, image in cameras.items()}
    return Sighting(pictures, {name: matrices[name] for name in cameras})


def plane_from_motion(now: Sighting, before: Sighting, before_from_now: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """(3,) a, b, c: the plane on which the earlier set, moved by the odometry, fits the present one best.

    Args:
        now: the set whose ego frame the plane is in.
        before: an earlier set.
        before_from_now: (4, 4) from the present ego frame into that of the earlier set.
        mean: (3,) the prior's.
    """
    pairs = [(name, name) for name in now.pictures if name in before.pictures]
    return _fit(now, before, before_from_now, pairs, mean, step=(0.6, 0.4))


def plane_from_seams(now: Sighting, ring: tuple[str, ...], mean: np.ndarray) -> np.ndarray:
    """(3,) a, b, c at which neighbours in the `ring` of cameras see the same ground where both see it."""
    pairs = [pair for pair in zip(ring, (*ring[1:], ring[0]), strict=True) if set(pair) <= set(now.pictures)]
    return _fit(now, now, np.eye(4), pairs, mean, step=(0.3, 0.3))


def _fit(
    now: Sighting,
    before: Sighting,
    before_from_now: np.ndarray,
    pairs: Sequence[tuple[str, str]],
    mean: np.ndarray,
    step: tuple[float, float],
) -> np.ndarray:
    """The plane by pairs of cameras (of now, of before); places lie `step` metres apart along x and y."""
    x, y = (
        values.ravel()
        for values in np.meshgrid(*(np.arange(*span, by) for span, by in zip(REGION_M, step, strict=True)))
    )
    (x0, x1), (y0, y1) = OWN_CAR_M
    beside = ~((x > x0) & (x < x1) & (y > y0) & (y < y1))
    x, y = x[beside], y[beside]
    z = mean[0] * x + mean[1] * y + mean[2]
    places: list[np.ndarray] = []
    rays: tuple[list[Ray], list[Ray]] = ([], [])
    for number, (one, other) in enumerate(pairs):
        height, width = now.pictures[one].shape
        matrices = now.projections[one], before.projections[other] @ before_from_now
        sides = [
            (np.stack([x, y, np.ones_like(x)], 1) @ m[:, [0, 1, 3]].T, np.tile(m[:, 2], (len(x), 1))) for m in matrices
        ]
        both = np.ones(len(x), bool)
        for level, up in sides:
            u, v, depth = _pixels(level, up, z)
            both &= (depth > 1.5) & (u > 4) & (v > 4) & (u < width - 5) & (v < height - 5)
        places.append(
            np.stack([x, y, np.ones_like(x), np.full_like(x, number * height), np.full_like(x, height)], 1)[both]
        )
        for ray, (level, up) in zip(rays, sides, strict=True):
            ray.append((level[both], up[both]))
    if not places:
        return np.asarray(mean, np.float64)
    stacked = np.concatenate(places)
    basis, tops, heights = stacked[:, :3], stacked[:, 3], stacked[:, 4]
    here, there = (_joined(ray) for ray in rays)
    prior, found = np.diag(PRIOR_SD**-2), np.array(mean, np.float64)
    for blur, around in ROUNDS:
        now_looks = np.concatenate([_looks(now.pictures[one], blur, around) for one, _ in pairs])
        before_looks = np.concatenate([_looks(before.pictures[other], blur, around) for _, other in pairs])
        for _ in range(STEPS):
            z = basis @ found
            seen, climb, inside = _read(now_looks, *here, z, tops, heights)
            seen_before, climb_before, inside_before = _read(before_looks, *there, z, tops, heights)
            off, slope = seen - seen_before, (climb - climb_before)[:, None] * basis
            weight = INDEPENDENT / SPREAD**2 / (1 + (off / SPREAD) ** 2) ** 2 * (inside & inside_before)
            normal = prior + (slope * weight[:, None]).T @ slope
            found = found + np.linalg.solve(normal, prior @ (mean - found) - slope.T @ (weight * off))
    return found


def _joined(rays: Sequence[Ray]) -> Ray:
    levels, ups = zip(*rays, strict=True)
    return np.concatenate(levels), np.concatenate(ups)


def _pixels(level: np.ndarray, up: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels and depth of the places of a `Ray` at heights z."""
    place = level + z[:, None] * up
    depth = np.maximum(place[:, 2], 1e-6)
    return place[:, 0] / depth, place[:, 1] / depth, place[:, 2]


def _looks(picture: np.ndarray, blur: float, around: int) -> np.ndarray:
    """(H, W, 3) float32: contrast to the surroundings over its own spread, which exposure does not change, and its
    derivatives by column and by row.
    """
    smooth = cv2.GaussianBlur(picture.astype(np.float32), (0, 0), blur)
    contrast = smooth - cv2.blur(smooth, (around, around))
    contrast /= cv2.sqrt(cv2.blur(contrast * contrast, (2 * around + 1, 2 * around + 1))) + 2.0
    across, down = (cv2.Sobel(contrast, cv2.CV_32F, *order, scale=1 / 8) for order in ((1, 0), (0, 1)))
    return cv2.merge([contrast, across, down])


def _read(
    looks: np.ndarray, level: np.ndarray, up: np.ndarray, z: np.ndarray, tops: np.ndarray, heights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Contrast at places, how it changes by metre of their height, and whether they are in the picture."""
    u, v, depth = _pixels(level, up, z)
    inside = (depth > 1.5) & (u > 1) & (v > 1) & (u < looks.shape[1] - 2) & (v < heights - 2)
    u, v, depth = np.where(inside, u, 1.0), np.where(inside, v, 1.0), np.where(inside, depth, 1.0)
    at = cv2.remap(looks, u.astype(np.float32), (v + tops).astype(np.float32), cv2.INTER_LINEAR).reshape(-1, 3)
    climb = at[:, 1] * (up[:, 0] - u * up[:, 2]) + at[:, 2] * (up[:, 1] - v * up[:, 2])
    return at[:, 0], climb / depth, inside
