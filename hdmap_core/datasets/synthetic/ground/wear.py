"""What light, tyres and weather do to the ground of a synthetic town: cast shadows, tracks, stains, worn paint."""

import math

import cv2
import numpy as np
import shapely

from hdmap_core.datasets.synthetic.curve import total_length
from hdmap_core.datasets.synthetic.ground.brush import fill
from hdmap_core.datasets.synthetic.ground.shapes import strip
from hdmap_core.datasets.synthetic.light.shading import Lighting
from hdmap_core.datasets.synthetic.town import Box, Town

SHADE_TEXEL_M = 0.2
LAMP_POST_M = 4.0
"""Poles higher than this carry a lamp."""


def blocked_light(town: Town) -> np.ndarray:
    """Share of the sun's, at night of the lamps', light that does not reach the ground: (rows, columns) float32 at
    0.2 m, row 0 is the south.
    """
    columns, rows = (max(math.ceil(edge / SHADE_TEXEL_M), 2) for edge in town.size)
    light = Lighting.of(town.appearance)
    return _beyond_lamps(town, (rows, columns)) if light.lamps else _cast_shadows(town, (rows, columns), light)


def shade_map(town: Town, blocked: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Brightness factors of the ground, (rows, columns) uint8 at 0.2 m, 128 = unchanged; row 0 is the south.

    `blocked`: as `blocked_light` gives it.
    """
    rows, columns = blocked.shape
    factor = np.ones((rows, columns), np.float32)
    for cell_m, amplitude in ((25.0, 0.05), (5.0, 0.05), (1.0, 0.035)):
        size = max(int(columns * SHADE_TEXEL_M / cell_m), 2), max(int(rows * SHADE_TEXEL_M / cell_m), 2)
        noise = rng.normal(0.0, amplitude, size[::-1]).astype(np.float32)
        factor += cv2.resize(noise, (columns, rows), interpolation=cv2.INTER_LINEAR)
    factor *= 1.0 - _tyre_tracks(town, (rows, columns), rng)
    light = Lighting.of(town.appearance)
    factor *= light.lamp_gain(1.0 - blocked) if light.lamps else 1.0 - blocked * (1.0 - light.shadow_gain)
    factor *= 1.0 - 0.55 * _contact_shadows(town, (rows, columns))
    return np.clip(128.0 * factor, 0, 255).astype(np.uint8)


def worn(wear: float, size: int, rng: np.random.Generator) -> np.ndarray:
    """How much paint is left, (size, size) float32 0..1: scratches and whole worn-off spots grow with `wear`."""
    fine = rng.normal(0.0, 1.0, (size, size)).astype(np.float32)
    spots = cv2.GaussianBlur(fine, (0, 0), 3.0)
    pattern = 0.5 * fine + 0.9 * spots / max(float(spots.std()), 1e-6)
    left = 1.0 - 0.35 * wear - 0.9 * wear * np.clip(pattern * 0.8 + 0.9 * wear, 0.0, 1.0)
    return np.clip(left, 0.0, 1.0).astype(np.float32)


def _tyre_tracks(town: Town, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Darkening 0..1 by two tyre tracks and a thin line of oil along every lane: (rows, columns) float32."""
    mask = np.zeros(shape, np.uint8)
    for lane in town.lanes:
        length = total_length(lane.centerline)
        if length < 1.0:
            continue
        strength = int(rng.uniform(20, 70) * (0.5 if lane.is_connector else 1.0))
        for aside, width, gain in ((-0.85, 0.5, 1.0), (0.85, 0.5, 1.0), (0.0, 0.6, 0.6)):
            fill(mask, [strip(lane.centerline, 0.0, length, width, aside)], int(strength * gain), SHADE_TEXEL_M)
    return cv2.GaussianBlur(mask, (0, 0), 1.2).astype(np.float32) / 255.0


def _cast_shadows(town: Town, shape: tuple[int, int], light: Lighting) -> np.ndarray:
    """Shadow coverage 0..1 by boxes that stand still: (rows, columns) float32."""
    mask = np.zeros(shape, np.uint8)
    away = -light.to_sun[:2] / light.to_sun[2]
    look = town.appearance
    for box in town.boxes:
        if box.kind == "tree":
            parts = _tree_shadow(box, away, 40 if look.shades_objects else 14)
        elif box.kind == "gantry":
            parts = [shapely.Polygon(box_corners(box) + box.size[2] * away)]
        else:
            feet = box_corners(box)
            reach = min(box.size[2], 45.0) * away
            parts = [shapely.MultiPoint(np.concatenate([feet, feet + reach])).convex_hull]
        for part in parts:
            if part.geom_type == "Polygon":
                fill(mask, [np.asarray(part.exterior.coords)], 255, SHADE_TEXEL_M)
    return cv2.GaussianBlur(mask, (0, 0), look.shadow_softness_m / SHADE_TEXEL_M).astype(np.float32) / 255.0


def _beyond_lamps(town: Town, shape: tuple[int, int]) -> np.ndarray:
    """What the street lamps' light lacks to that right below one: (rows, columns) float32 0..1."""
    coarse = 5
    rows, columns = -(-shape[0] // coarse), -(-shape[1] // coarse)
    sum_of_pools = np.zeros((rows, columns), np.float32)
    cell = coarse * SHADE_TEXEL_M
    for x, y, height in lamp_heads(town):
        reach = 4.0 * height
        low = np.maximum((np.array([y, x]) - reach) / cell, 0).astype(int)
        high = np.minimum((np.array([y, x]) + reach) / cell + 1, (rows, columns)).astype(int)
        if (high <= low).any():
            continue
        v, u = np.ogrid[low[0] : high[0], low[1] : high[1]]
        squared = ((u + 0.5) * cell - x) ** 2 + ((v + 0.5) * cell - y) ** 2
        # A lamp's light falls with the square of the distance and the slant, and its hood cuts it off sideways.
        sum_of_pools[low[0] : high[0], low[1] : high[1]] += (height**2 / (height**2 + squared)) ** 2
    pools = cv2.resize(sum_of_pools, (columns * coarse, rows * coarse), interpolation=cv2.INTER_LINEAR)
    return 1.0 - np.minimum(pools[: shape[0], : shape[1]], 1.0)


def lamp_heads(town: Town) -> np.ndarray:
    """(N, 3) where the street lamps' heads are: poles of more than 4 m."""
    heads = [(*box.centre, box.size[2]) for box in town.boxes if box.kind == "pole" and box.size[2] > LAMP_POST_M]
    return np.array(heads, dtype=np.float64).reshape(-1, 3)


def _tree_shadow(box: Box, away: np.ndarray, num_blobs: int) -> list[shapely.Geometry]:
    """Dappled crown and trunk, thrown away from the sun."""
    foot, height, radius = np.asarray(box.centre), box.size[2], 0.5 * max(box.size[:2])
    rng = np.random.default_rng([int(abs(foot[0]) * 100), int(abs(foot[1]) * 100)])
    trunk = shapely.LineString([foot, foot + away * 0.5 * height]).buffer(0.15)
    blobs = []
    size = math.sqrt(14 / num_blobs)
    for _ in range(num_blobs):
        shift = rng.normal(0.0, 0.42 * radius, 2) + away * height * rng.uniform(0.45, 0.9)
        blobs.append(shapely.Point(foot + shift).buffer(size * radius * rng.uniform(0.25, 0.5), quad_segs=3))
    return [trunk, *blobs]


def _contact_shadows(town: Town, shape: tuple[int, int]) -> np.ndarray:
    """Darkness 0..1 under and right beside boxes: (rows, columns) float32."""
    mask = np.zeros(shape, np.uint8)
    for box in town.boxes:
        if box.kind in ("car", "truck", "bus", "van"):
            fill(mask, [box_corners(box)], 255, SHADE_TEXEL_M)
        elif box.kind != "building":
            radius = 0.25 if box.kind in ("tree", "pole") else 0.35
            disc = shapely.Point(box.centre).buffer(radius, quad_segs=2)
            fill(mask, [np.asarray(disc.exterior.coords)], 200, SHADE_TEXEL_M)
    return cv2.GaussianBlur(mask, (0, 0), 1.3).astype(np.float32) / 255.0


def box_corners(box: Box) -> np.ndarray:
    """Footprint of a box, (4, 2) metres, counter-clockwise from the rear right."""
    cos, sin = math.cos(box.yaw), math.sin(box.yaw)
    half = 0.5 * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * np.asarray(box.size[:2])
    return half @ np.array([[cos, sin], [-sin, cos]]) + np.asarray(box.centre)
