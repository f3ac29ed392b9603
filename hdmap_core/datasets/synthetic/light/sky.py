"""The sky around a synthetic town: a panorama with clouds and a far skyline, baked once, drawn by affine pieces."""

import math

import cv2
import numpy as np

from hdmap_core.datasets.synthetic.light.shading import Lighting, encode
from hdmap_core.datasets.synthetic.town import Appearance

COLUMNS = 2048
ROWS = 288
TOP_TANGENT = 1.1
"""Tangent of the elevation of row 0."""
BOTTOM_TANGENT = -0.06
THICK_HAZE = 0.012
"""Extinction per metre above which the haze hides the sky too."""
_TILE = 100


def haze_colour(appearance: Appearance) -> np.ndarray:
    """Colour that distant things fade to, (3,) uint8: the sky low above the horizon, paler than overhead."""
    if appearance.horizon is not None:
        return encode(np.asarray(appearance.horizon) * appearance.exposure)
    sky = np.asarray(appearance.sky)
    return encode((0.45 * sky + 0.55 * sky.mean()) * appearance.exposure * 1.05)


def bake_sky(appearance: Appearance) -> np.ndarray:
    """(288, 2048 + 1024, 3) uint8 RGB; columns are azimuths counter-clockwise from east, repeated beyond 360°."""
    rng = np.random.default_rng([appearance.seed, 2])
    tangents = np.linspace(TOP_TANGENT, BOTTOM_TANGENT, ROWS)
    overhead = np.asarray(appearance.sky) * appearance.exposure
    pale = np.asarray(haze_colour(appearance), np.float64) / 255.0
    climb = np.clip(np.maximum(tangents, 0.0) / 0.7, 0.0, 1.0)[:, None, None] ** 0.6
    sky = pale + climb * (encode(overhead) / 255.0 - pale) + np.zeros((ROWS, COLUMNS, 1))

    if appearance.haze_per_m > THICK_HAZE:
        sky = pale + math.exp(-40.0 * (appearance.haze_per_m - THICK_HAZE)) * (sky - pale)
        climb = climb * math.exp(-80.0 * (appearance.haze_per_m - THICK_HAZE))
    if appearance.glare:
        sky = np.maximum(sky, _sun_glow(appearance, tangents))

    cover = np.zeros((ROWS, COLUMNS), np.float32)
    for cells, gain in ((10, 1.0), (22, 0.55), (48, 0.3), (110, 0.15)):
        noise = rng.normal(0.0, 1.0, (max(cells // 2, 3), cells)).astype(np.float32)
        noise[:, -1] = noise[:, 0]
        cover += gain * cv2.resize(noise, (COLUMNS, ROWS), interpolation=cv2.INTER_CUBIC)
    threshold = 0.9 * appearance.sun_strength - 0.3
    cloud = np.clip((cover - threshold) * 0.8, 0.0, 0.85)[..., None] * np.clip(climb * 2.0, 0.0, 1.0)
    white = np.clip(appearance.exposure * (0.78 + 0.2 * appearance.sun_strength), 0.0, 1.0)
    if appearance.weather.time_of_day != "day":
        white *= 1.3 * float(np.mean(overhead))
        cloud = 0.5 * cloud
    sky += cloud * (white ** (1 / 2.2) - sky) * 0.8

    light = Lighting.of(appearance)
    land = encode(np.asarray(appearance.terrain) * (light.sky if light.lamps else light.ground)) / 255.0
    glimmer = 0.05 if light.lamps else 0.2
    fade = math.exp(-appearance.haze_per_m * 300.0) * 0.75
    steps = np.repeat(rng.uniform(0.0, 0.04, 128), COLUMNS // 128)
    waves = cv2.resize(rng.normal(0.014, 0.009, (1, 64)).astype(np.float32), (COLUMNS, 1))[0]
    skyline = np.where(np.repeat(rng.random(128) < 0.35, COLUMNS // 128), steps, np.maximum(waves, 0.004))
    below = tangents[:, None] < skyline[None]
    sky[below] = fade * (0.55 * land + glimmer) + (1.0 - fade) * pale
    sky[tangents < 0.0] = fade * land + (1.0 - fade) * pale
    panorama = np.clip(np.rint(255.0 * sky), 0, 255).astype(np.uint8)
    return np.concatenate([panorama, panorama[:, : COLUMNS // 2]], axis=1)


def _sun_glow(appearance: Appearance, tangents: np.ndarray) -> np.ndarray:
    """The sun's disc and the bright sky around it, (ROWS, COLUMNS, 3), encoded 0..1."""
    azimuths = np.arange(COLUMNS) * 2.0 * math.pi / COLUMNS
    aside = np.angle(np.exp(1j * (azimuths - appearance.sun_azimuth)))[None]
    above = np.arctan(tangents)[:, None] - appearance.sun_elevation
    away = np.degrees(np.hypot(aside * math.cos(appearance.sun_elevation), above))
    glow = 1.15 * np.exp(-away / 2.0) + 0.75 * appearance.glare * np.exp(-away / 14.0)
    return np.clip(glow[..., None] * np.array([1.0, 0.95, 0.86]), 0.0, 1.0)


def draw_sky(image: np.ndarray, panorama: np.ndarray, rays: np.ndarray, limit: float) -> int:
    """Draw the sky in place wherever rays sink by `limit` or less per metre of depth, and some way below.

    Args:
        image: (H, W, 3) uint8.
        panorama: as `bake_sky` makes it.
        rays: (3, 3), directions in the town frame of pixels (u, v, 1).
        limit: where the ground takes over.

    Returns:
        How many rows from the top hold sky in some column; below it the image is as it was, or sky-coloured.
    """
    lowest, drop = 0, -rays[2]
    height, width = image.shape[:2]
    rows_per_tangent = (ROWS - 1) / (TOP_TANGENT - BOTTOM_TANGENT)
    for left in range(0, width, _TILE):
        right = min(left + _TILE, width)
        corners = np.array([[left, left, right - 1, right - 1], [0, height - 1, 0, height - 1], [1, 1, 1, 1]])
        if (drop @ corners).min() > limit:
            continue
        bottom = height
        if drop[1] > 1e-9:
            edge = min(drop[0] * left, drop[0] * (right - 1)) + drop[2]
            bottom = int(np.clip(math.ceil((limit - edge) / drop[1]) + 4, 1, height))
        lowest = max(lowest, bottom)
        # Azimuth and tangent of elevation, linearised from three corners of the tile.
        at = np.array([[left, 0.0, 1.0], [right - 1, 0.0, 1.0], [left, bottom - 1, 1.0]])
        if right - 1 == left or bottom == 1:
            at[1, 0], at[2, 1] = left + 1, 1
        directions = at @ rays.T
        reach = np.maximum(np.hypot(directions[:, 0], directions[:, 1]), 1e-6)
        azimuth = np.unwrap(np.arctan2(directions[:, 1], directions[:, 0]))
        azimuth += 2.0 * math.pi * math.ceil(max(-azimuth.min(), 0.0) / (2.0 * math.pi))
        column = azimuth * COLUMNS / (2.0 * math.pi)
        row = (TOP_TANGENT - directions[:, 2] / reach) * rows_per_tangent
        panorama_from_image = np.linalg.solve(at, np.stack([column, row], axis=1)).T
        panorama_from_tile = panorama_from_image @ np.array([[1.0, 0.0, left], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
        cv2.warpAffine(
            panorama,
            panorama_from_tile,
            (right - left, bottom),
            dst=image[:bottom, left:right],
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
    return lowest
