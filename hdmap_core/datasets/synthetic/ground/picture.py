"""The ground of a synthetic town as a picture from above: painted once per town, then seen by every camera frame.

Texel (row, column) of level k is the square around town coordinates x = (column + 0.5) * texel_m * 2**k and
y = (row + 0.5) * texel_m * 2**k; row 0 is the southern edge.
"""

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np
import shapely

from hdmap_core.datasets.synthetic.curve import left_of, points_at, total_length
from hdmap_core.datasets.synthetic.ground import decals as ground_decals
from hdmap_core.datasets.synthetic.ground import shapes
from hdmap_core.datasets.synthetic.ground.brush import FATTENING_TEXELS, Lit, draw_lines, fill, stamp
from hdmap_core.datasets.synthetic.ground.materials import pave_walkways, repave, soaked, walkway_colour
from hdmap_core.datasets.synthetic.ground.wear import blocked_light, shade_map, worn
from hdmap_core.datasets.synthetic.light.shading import Lighting, encode
from hdmap_core.datasets.synthetic.town import Town

KERB_WIDTH_M = 0.25
MAX_TEXELS = 8192
NUM_LEVELS = 7
REFLECTIVITY_TEXEL_M = 0.1
WHITE_PAINT = (0.80, 0.80, 0.78)
YELLOW_PAINT = (0.72, 0.46, 0.07)
_BLOCK = 256

# Lidar intensities (0..255) of a surface hit head-on; retro-reflecting beads make paint much brighter than asphalt.
ASPHALT_INTENSITY, WALKWAY_INTENSITY, TERRAIN_INTENSITY, KERB_INTENSITY, PAINT_INTENSITY = 9, 24, 17, 32, 90


@dataclass(frozen=True)
class GroundTexture:
    """Mip pyramid of the ground: `levels[k]` is (rows, columns, 3) uint8 RGB, each half the size of the one before."""

    levels: tuple[np.ndarray, ...]
    texel_m: float
    border: tuple[int, int, int]
    """Colour of the land outside the town."""
    blocked: np.ndarray
    """Light that does not arrive, as `blocked_light` gives it."""

    def level_from_town(self, level: int) -> np.ndarray:
        """(3, 3) map from homogeneous town coordinates (x, y, 1) to texel coordinates (column, row, 1)."""
        per_m = 1.0 / (self.texel_m * 2**level)
        return np.array([[per_m, 0.0, -0.5], [0.0, per_m, -0.5], [0.0, 0.0, 1.0]])


def pyramid(finest: np.ndarray, most: int = NUM_LEVELS) -> tuple[np.ndarray, ...]:
    """Up to `most` pictures (rows, columns[, 3]) uint8, each half the size of the one before."""
    levels = [finest]
    while len(levels) < most and min(levels[-1].shape[:2]) >= 4:
        levels.append(cv2.resize(levels[-1], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
    return tuple(levels)


def bake_ground(town: Town, texel_m: float | None = None) -> GroundTexture:
    """Paint the ground of a town.

    Args:
        town: what to paint.
        texel_m: size of the finest texels; None takes 0.05 m, or coarser if the town would need more than 8192.
    """
    texel_m = texel_m if texel_m is not None else max(0.05, max(town.size) / MAX_TEXELS)
    columns, rows = (max(math.ceil(edge / texel_m), 2) for edge in town.size)
    town = replace(town, appearance=soaked(town.appearance))
    look, light = town.appearance, Lighting.of(town.appearance)
    rng = np.random.default_rng([look.seed, 1])

    def lit(rgb: tuple[float, float, float], gain: float = 1.0) -> tuple[int, int, int]:
        r, g, b = encode(np.asarray(rgb) * np.asarray(light.tint) * light.ground * gain)
        return int(r), int(g), int(b)

    canvas = np.empty((rows, columns, 3), np.uint8)
    canvas[:] = lit(look.terrain)
    for walkway in town.walkways:
        fill(canvas, shapes.rings_of(walkway), lit(walkway_colour(look)), texel_m)
    if look.paving.walkway == "slabs":
        _lay_slabs(canvas, town, lit(look.walkway, 0.55), texel_m)
    pave_walkways(canvas, town, lit, texel_m)
    for island in town.islands:
        is_wide = not island.buffer(-1.2).is_empty
        fill(canvas, shapes.rings_of(island), lit(look.terrain if is_wide else look.walkway), texel_m)
    soft = np.full((rows, columns), 255, np.uint8)
    hard = town.drivable.buffer(KERB_WIDTH_M, join_style="mitre", mitre_limit=2.0)
    paved = shapely.union_all([*town.walkways, hard])
    for part in shapely.get_parts(paved):
        fill(soft, shapes.rings_of(part), 0, texel_m)

    fill(canvas, shapes.rings_of(hard), lit(look.kerb, 1.15), texel_m)
    ground_decals.paint_kerbs(canvas, town, lit, texel_m, KERB_WIDTH_M)
    drivable = shapes.rings_of(town.drivable.buffer(-FATTENING_TEXELS * texel_m))
    fill(canvas, drivable, lit(look.asphalt), texel_m)
    repave(canvas, town, lit, texel_m)
    _patch_asphalt(canvas, town, lit, texel_m, rng)
    # The kerb's face lies in shade, and dirt gathers in the gutter below it.
    draw_lines(canvas, shapes.rings_of(hard), lit(look.kerb, 0.55), texel_m, 0.05, closed=True)
    draw_lines(canvas, drivable, lit(look.asphalt, 0.35), texel_m, 0.12, closed=True)

    ground_decals.lay_decals(canvas, town, lit, texel_m)
    _paint_lines(canvas, town, lit, texel_m, rng)
    blocked = blocked_light(town)
    _apply_shade(canvas, soft, shade_map(town, blocked, rng), rng)

    border = lit(look.terrain, light.sky / light.ground if light.lamps else 1.0)
    return GroundTexture(pyramid(canvas), texel_m, border, blocked)


def paint_masks(town: Town, shape: tuple[int, int], texel_m: float) -> tuple[np.ndarray, np.ndarray]:
    """Coverage of white and of yellow paint, each uint8 of `shape` (rows, columns), 255 = fully covered."""
    white, yellow = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    for marking in town.markings:
        for ring in shapes.marking_pieces(marking):
            stamp(yellow if marking.colour == "yellow" else white, ring, texel_m)
    for crossing in town.crossings:
        for ring in shapes.crossing_pieces(crossing):
            stamp(white, ring, texel_m)
    for corners in town.stop_lines:
        stamp(white, np.asarray(corners, dtype=np.float64), texel_m)
    for decal in filter(ground_decals.is_paint, town.decals):
        for ring in decal.rings:
            stamp(yellow if decal.material == "yellow_paint" else white, ring, texel_m)
    return white, yellow


def bake_reflectivity(town: Town) -> np.ndarray:
    """What the lidar sees of the ground: (rows, columns) uint8 intensities of texels of `REFLECTIVITY_TEXEL_M`."""
    texel_m = REFLECTIVITY_TEXEL_M
    columns, rows = (max(math.ceil(edge / texel_m), 2) for edge in town.size)
    canvas = np.full((rows, columns), TERRAIN_INTENSITY, np.uint8)
    for walkway in (*town.walkways, *town.islands):
        fill(canvas, shapes.rings_of(walkway), WALKWAY_INTENSITY, texel_m)
    fill(canvas, shapes.rings_of(town.drivable.buffer(KERB_WIDTH_M)), KERB_INTENSITY, texel_m)
    fill(canvas, shapes.rings_of(town.drivable), ASPHALT_INTENSITY, texel_m)
    ground_decals.lay_intensities(canvas, town, texel_m)
    white, yellow = paint_masks(town, canvas.shape, texel_m)
    worn_intensity = PAINT_INTENSITY * (1.0 - 0.6 * town.appearance.paint_wear)
    cover = cv2.max(white, yellow).astype(np.float32) / 255.0
    return (canvas + cover * (worn_intensity - canvas)).astype(np.uint8)


def _lay_slabs(canvas: np.ndarray, town: Town, colour: tuple[int, ...], texel_m: float) -> None:
    """Joints across the walkways, every 1.5 m along the kerb, and one along it."""
    if not town.walkways:
        return
    walkways = shapely.union_all(list(town.walkways))
    starts, ends = [], []
    for ring in shapes.rings_of(town.drivable):
        at = np.arange(0.0, total_length(ring), 1.5)
        point = points_at(ring, at)
        ahead = points_at(ring, at + 0.2) - point
        ahead /= np.maximum(np.linalg.norm(ahead, axis=1, keepdims=True), 1e-9)
        # Both sides are tried; the clip against the walkways keeps the outer one.
        aside = left_of(ahead) * 4.0
        starts.append(np.concatenate([point, point]))
        ends.append(np.concatenate([point - aside, point + aside]))
    joints = shapely.linestrings(np.stack([np.concatenate(starts), np.concatenate(ends)], axis=1))
    shapely.prepare(walkways)
    joints = shapely.get_parts(shapely.intersection(joints[shapely.intersects(walkways, joints)], walkways))
    lines = [shapely.get_coordinates(joint) for joint in joints if joint.geom_type == "LineString"]
    draw_lines(canvas, lines, colour, texel_m)


def _patch_asphalt(canvas: np.ndarray, town: Town, lit: Lit, texel_m: float, rng: np.random.Generator) -> None:
    """Road repairs, cracks and manhole covers, strewn along the lanes."""
    asphalt = town.appearance.asphalt
    for lane in town.lanes:
        length = total_length(lane.centerline)
        for _ in range(rng.poisson(length / 28.0)):
            start, size = rng.uniform(0.0, length), rng.uniform(1.0, 8.0)
            width, aside = rng.uniform(0.5, 2.6), rng.uniform(-0.3, 0.3)
            ring = shapes.strip(lane.centerline, start, min(start + size, length), width, aside)
            fill(canvas, [ring], lit(asphalt, rng.uniform(0.70, 1.25)), texel_m)
        for _ in range(rng.poisson(length / 14.0)):
            start = rng.uniform(0.0, length)
            steps = rng.normal(0.0, 0.25, (10, 2)) + rng.normal(0.0, 0.35, 2)
            crack = points_at(lane.centerline, start) + np.cumsum(steps, axis=0)
            draw_lines(canvas, [crack], lit(asphalt, 0.5), texel_m)
        if rng.random() < length / 60.0:
            cover = shapely.Point(lane.centerline[len(lane.centerline) // 2]).buffer(0.36)
            fill(canvas, shapes.rings_of(cover), lit(asphalt, 0.45), texel_m)


def _paint_lines(canvas: np.ndarray, town: Town, lit: Lit, texel_m: float, rng: np.random.Generator) -> None:
    white, yellow = paint_masks(town, canvas.shape[:2], texel_m)
    for lane in town.lanes:
        length = total_length(lane.centerline)
        if not town.decals and not lane.is_connector and length > 25.0 and rng.random() < 0.4:
            stamp(white, shapes.arrow(lane.centerline, length - 14.0), texel_m)
    wear = worn(town.appearance.paint_wear, _BLOCK, rng)
    for mask, paint in ((white, lit(WHITE_PAINT)), (yellow, lit(YELLOW_PAINT))):
        for top in range(0, canvas.shape[0], _BLOCK):
            band = mask[top : top + _BLOCK]
            touched = np.flatnonzero(np.maximum.reduceat(band.max(axis=0), np.arange(0, band.shape[1], _BLOCK)))
            for left in touched * _BLOCK:
                cover = band[:, left : left + _BLOCK].astype(np.float32) / 255.0
                turn = int(rng.integers(4))
                cover *= np.rot90(wear, turn)[: cover.shape[0], : cover.shape[1]]
                block = canvas[top : top + _BLOCK, left : left + _BLOCK]
                block[:] = block + cover[..., None] * (np.asarray(paint, np.float32) - block)


def _apply_shade(canvas: np.ndarray, soft: np.ndarray, shade: np.ndarray, rng: np.random.Generator) -> None:
    """Multiply, in place, by the shade map (128 = unchanged, any coarser size) and by grain, coarser on soft land."""
    rows, columns = canvas.shape[:2]
    fine = rng.normal(0.0, 1.0, (_BLOCK * 2, _BLOCK * 2)).astype(np.float32)
    coarse = cv2.GaussianBlur(fine, (0, 0), 2.0)
    hard_grain = (0.055 * fine + 0.35 * cv2.GaussianBlur(fine, (0, 0), 1.0)).astype(np.float32)
    grains = []
    for grain in (0.7 * hard_grain, 0.10 * fine + 0.75 * coarse):
        factor = np.clip(128.0 * (1.0 + 0.5 * grain), 64, 200).astype(np.uint8)
        grains.append(np.tile(factor, (1, columns // factor.shape[1] + 1))[:, :columns])
    fy, fx = shade.shape[0] / rows, shade.shape[1] / columns
    for top in range(0, rows, _BLOCK * 2):
        height = min(_BLOCK * 2, rows - top)
        warp = np.array([[fx, 0.0, 0.5 * fx - 0.5], [0.0, fy, (top + 0.5) * fy - 0.5]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        part = cv2.warpAffine(shade, warp, (columns, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)
        grain = grains[0][:height].copy()
        cv2.copyTo(grains[1][:height], soft[top : top + height], grain)
        factor = cv2.multiply(part, grain, scale=1.0 / 128.0)
        block = canvas[top : top + height]
        cv2.multiply(block, cv2.merge((factor, factor, factor)), dst=block, scale=1.0 / 128.0)
