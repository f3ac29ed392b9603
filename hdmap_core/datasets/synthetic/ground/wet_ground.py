"""Wet ground: puddles, and the mirror images of sky, houses and lights in it.

The mirror image is drawn small, smeared up and down as a rough wet road does, and laid over the ground as strongly as
water mirrors at that angle.
"""

import cv2
import numpy as np

from hdmap_core.datasets.synthetic.ground.brush import fill
from hdmap_core.datasets.synthetic.ground.picture import GroundTexture, pyramid
from hdmap_core.datasets.synthetic.ground.shapes import rings_of
from hdmap_core.datasets.synthetic.ground.view import FAR_M, GroundPlane, draw_ground
from hdmap_core.datasets.synthetic.light.headlights import Glow
from hdmap_core.datasets.synthetic.light.sky import draw_sky
from hdmap_core.datasets.synthetic.town import Town

STEP = 8
"""Pixels of the picture per pixel of the mirror image."""
PUDDLE_TEXEL_M = 0.2
SMALLEST_PX = 6.0
"""Faces narrower than this have no mirror image."""
_WET_SHARE = 0.6
"""How well wet asphalt mirrors, compared with a puddle."""


def bake_puddles(town: Town) -> GroundTexture:
    """Where water stands on the asphalt: one channel, 255 = a puddle, `_WET_SHARE` of it = merely wet."""
    shape = tuple(int(np.ceil(edge / PUDDLE_TEXEL_M)) for edge in town.size[::-1])
    rng = np.random.default_rng([town.appearance.seed, 36])
    depth = np.zeros(shape, np.float32)
    for cell_m, gain in ((14.0, 1.0), (5.0, 0.7), (1.5, 0.25)):
        size = tuple(max(int(edge * PUDDLE_TEXEL_M / cell_m), 2) for edge in shape[::-1])
        depth += gain * cv2.resize(
            rng.normal(0.0, 1.0, size[::-1]).astype(np.float32), shape[::-1], interpolation=cv2.INTER_CUBIC
        )
    hard = np.zeros(shape, np.uint8)
    fill(hard, rings_of(town.drivable), 255, PUDDLE_TEXEL_M)
    wetness = town.appearance.weather.wetness
    standing = np.clip((depth - (2.2 - 0.9 * wetness)) * 2.5, 0.0, 1.0)
    level = (255.0 * wetness * (_WET_SHARE + (1.0 - _WET_SHARE) * standing) * (hard / 255.0)).astype(np.uint8)
    levels = pyramid(np.maximum(level, np.uint8(60 * wetness)))
    return GroundTexture(levels, PUDDLE_TEXEL_M, (int(60 * wetness), 0, 0), np.zeros((2, 2), np.float32))


def mirrored_faces(camera: np.ndarray, counts: np.ndarray, intrinsics: np.ndarray) -> list[np.ndarray | None]:
    """Mirrored faces as polygons (P, 2) int32 in 1/16 pixels of the small picture; None for small or cut-off ones.

    `camera` (K, C, 3): corners in the camera frame, of which each face has `counts` (K,).
    """
    depth = np.maximum(camera[..., 2:], 0.5)
    points = (camera / depth) @ intrinsics.T
    extent = np.ptp(points[..., :2], axis=1).min(axis=1)
    matters = (camera[..., 2] > 0.5).all(axis=1) & (extent > SMALLEST_PX)
    small = (points[..., :2] + 0.5) / STEP - 0.5
    pixels = np.rint(np.clip(small, -4000.0, 4000.0) * 16).astype(np.int32)
    return [p[:n] if ok else None for p, n, ok in zip(pixels, counts.tolist(), matters.tolist(), strict=True)]


def draw_mirror_image(
    image: np.ndarray,
    puddles: GroundTexture,
    intrinsics: np.ndarray,
    pose: np.ndarray,
    panorama: np.ndarray,
    faces: list[tuple[np.ndarray, list[float]]],
    glows: list[Glow],
) -> None:
    """Lay the mirror image over the ground, in place.

    Args:
        image: (H, W, 3) uint8, with sky and ground, nothing that stands on it yet.
        puddles: as `bake_puddles` makes them.
        intrinsics: (3, 3) of the camera.
        pose: (4, 4) of the camera over the plane z = 0.
        panorama: the sky.
        faces: mirrored polygons as `mirrored_faces` makes them, with their colours, from far to near.
        glows: mirrored lights.
    """
    height, width = image.shape[:2]
    plane = GroundPlane.seen_by(intrinsics, pose)
    rays = pose[:3, :3] @ np.linalg.inv(intrinsics)
    a, b, c = plane.drop
    if b <= 1e-9 or plane.height <= 0.05:
        return
    top = int(np.clip((plane.height / FAR_M - c - max(0.0, a * width)) / b, 0, height))
    top -= top % STEP
    if height - top < 2 * STEP:
        return
    small = np.array([[STEP, 0.0, 0.5 * STEP - 0.5], [0.0, STEP, 0.5 * STEP - 0.5], [0.0, 0.0, 1.0]])
    rows, columns = -(-height // STEP), -(-width // STEP)
    layer = np.zeros((rows, columns, 3), np.uint8)
    upward = np.diag([1.0, 1.0, -1.0]) @ rays @ small
    draw_sky(layer, panorama, upward, np.inf)
    for polygon, colour in faces:
        cv2.fillConvexPoly(layer, polygon, colour, cv2.LINE_AA, 4)
    for glow in glows:
        column, row = int(glow.column / STEP), int(glow.row / STEP)
        value = tuple(255.0 * part for part in glow.colour)
        cv2.line(layer, (column, row - 2), (column, row + 4), value, max(glow.radius // 12, 1), cv2.LINE_AA)
    layer = cv2.blur(layer[top // STEP :], (1, 7))

    drop = plane.drop @ small
    grazing = np.add.outer(drop[1] * np.arange(top // STEP, rows) + drop[2], drop[0] * np.arange(columns))
    share = 0.03 + 0.97 * np.clip(1.0 - np.maximum(grazing, 0.0), 0.0, 1.0) ** 5
    size = columns * STEP, (rows - top // STEP) * STEP
    mirrored = cv2.resize(layer, size, interpolation=cv2.INTER_LINEAR)[: height - top, :width]
    shares = cv2.resize((255.0 * share).astype(np.uint8), size, interpolation=cv2.INTER_LINEAR)[: height - top, :width]
    water = np.zeros(((height + 1) // 2, (width + 1) // 2), np.uint8)
    half = np.array([[0.5, 0.0, -0.25], [0.0, 0.5, -0.25], [0.0, 0.0, 1.0]]) @ intrinsics
    draw_ground(water, puddles, GroundPlane.seen_by(half, pose))
    water = cv2.resize(water[top // 2 :], None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR)[: height - top, :width]
    weight = cv2.multiply(shares, water, scale=1.0 / 255.0)
    weights = cv2.merge((weight, weight, weight))
    part = image[top:]
    cv2.multiply(mirrored, weights, dst=mirrored, scale=1.0 / 255.0)
    cv2.multiply(part, cv2.bitwise_not(weights), dst=part, scale=1.0 / 255.0)
    cv2.add(part, mirrored, dst=part)
