"""Clutter over ground pixels: what real streets show more of than rendered ones.

Domain randomisation (Tobin et al., 2017): light that differs from camera to camera, shadows, patches of other asphalt,
grain, and the streaks that trees, fences and houses leave in a view from above, all of them at random and far from
natural. The true map stays as it is: what such things hide must be guessed, what they only look like must not be said.
"""

from functools import lru_cache

import cv2
import numpy as np

CAMERAS = 6
_BINS = 720  # of the angle around the car


def cluttered(ground: np.ndarray, strength: float, random: np.random.Generator) -> np.ndarray:
    """Ground pixels under random clutter; the car is in their middle.

    Args:
        ground: (4, Y, X) uint8: R, G, B, seen; left as it is.
        strength: 0 to 1; scales how much there is of each and how strong it is.
        random: where chance comes from.

    Returns:
        The same shape; what was unseen stays black.
    """
    shape = ground.shape[1:]
    pixels: np.ndarray = np.ascontiguousarray(ground[:3].transpose(1, 2, 0)).astype(np.float32)
    pixels *= _light_of_cameras(shape, strength, random)
    light = _grain(shape, strength, random)
    for _ in range(random.poisson(1.5 * strength)):
        light *= _area(shape, (0.1, 1.0), (0.3, 0.9), random.uniform(0, 4), random)
    for _ in range(random.poisson(3 * strength)):
        light *= _area(shape, (0.02, 0.2), (0.7, 1.3), 0, random)
    pixels *= light[..., None]
    for _ in range(random.poisson(3 * strength)):
        _draw_streaks(pixels, random)
    if random.random() < 0.4 * strength:
        pixels = cv2.GaussianBlur(pixels, (0, 0), random.uniform(0.3, 1.2))
    noise = random.standard_normal(shape, np.float32)
    pixels += (6 * strength * random.random() * noise)[..., None]
    result = np.clip(pixels, 1, 255).astype(np.uint8).transpose(2, 0, 1)
    return np.concatenate([np.where(ground[3] > 0, result, np.uint8(0)), ground[3:]])


@lru_cache(maxsize=4)
def _polar(shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Of each pixel (Y, X): the bin of its angle around the car, its distance in shares of the longer side."""
    rows, columns = np.indices(shape, np.float32)
    y, x = rows - (shape[0] - 1) / 2, columns - (shape[1] - 1) / 2
    bins = ((np.arctan2(y, x) / (2 * np.pi) % 1) * _BINS).astype(np.int32) % _BINS
    return bins, np.hypot(x, y) / max(shape)


def _light_of_cameras(shape: tuple[int, int], strength: float, random: np.random.Generator) -> np.ndarray:
    """(Y, X, 3) factors: each camera's sector is exposed and balanced in its own way."""
    edges = (np.arange(CAMERAS) + random.uniform(-0.2, 0.2, CAMERAS)) * _BINS / CAMERAS + random.uniform(0, _BINS)
    sector = np.searchsorted(np.sort(edges % _BINS), np.arange(_BINS)) % CAMERAS
    exposure = random.normal(0, 0.2, (CAMERAS, 1)) + random.normal(0, 0.05, (CAMERAS, 3))
    factors: np.ndarray = np.exp(strength * exposure).astype(np.float32)[sector][_polar(shape)[0]]
    return factors


def _grain(shape: tuple[int, int], strength: float, random: np.random.Generator) -> np.ndarray:
    """(Y, X) factors: noise that is coarse, finer and fine."""
    factors = np.ones(shape, np.float32)
    for cell in (64, 16, 4, 1):
        size = shape[0] // cell + 2, shape[1] // cell + 2
        noise = 0.08 * strength * random.random() * random.standard_normal(size, np.float32)
        factors += cv2.resize(noise, shape[::-1], interpolation=cv2.INTER_LINEAR)
    return factors


def _area(
    shape: tuple[int, int],
    size: tuple[float, float],
    factor: tuple[float, float],
    softness: float,
    random: np.random.Generator,
) -> np.ndarray:
    """(Y, X) factors: another one within a turned quadrilateral, its size in shares of the longer side."""
    angle, middle = random.uniform(0, np.pi), random.uniform(0, 1, 2) * shape[::-1]
    half = random.uniform(*size, 2) * max(shape) / 2
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * random.uniform(0.6, 1.0, (4, 2)) * half
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    factors = np.ones(shape, np.float32)
    cv2.fillConvexPoly(factors, np.rint(corners @ turn.T + middle).astype(np.int32), random.uniform(*factor))
    return cv2.GaussianBlur(factors, (0, 0), softness) if softness > 0.3 else factors


def _draw_streaks(pixels: np.ndarray, random: np.random.Generator) -> None:
    """In place: something that stands, of any colour, smeared away from the car to the border."""
    bins, distance = _polar(pixels.shape[:2])
    width = int(random.uniform(4, 50))  # half degrees
    profile = random.normal(1, random.uniform(0, 0.5), width + 1).astype(np.float32)
    foot = random.uniform(0.1, 0.5) + np.cumsum(random.normal(0, 0.003, width + 1))
    place = (bins - int(random.integers(_BINS))) % _BINS
    drawn = (place <= width) & (distance > foot[np.minimum(place, width)])
    rings = random.normal(1, 0.15, 16).astype(np.float32)[(distance[drawn] * 24).astype(np.int32) % 16]
    colour = random.uniform(20, 200) * random.uniform(0.75, 1.25, 3).astype(np.float32)
    pixels[drawn] = (profile[place[drawn]] * rings)[:, None] * colour
