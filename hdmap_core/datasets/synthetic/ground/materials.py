"""Of what the ground of a synthetic town is made, and how old it is: repaved stretches, concrete, pavers, grass edges.

None of their edges is a line of the map, and few of them run along one.
"""

from dataclasses import replace

import cv2
import numpy as np
import shapely

from hdmap_core.datasets.synthetic.curve import offset, points_at, total_length
from hdmap_core.datasets.synthetic.ground.brush import Lit, draw_lines, fill
from hdmap_core.datasets.synthetic.ground.shapes import rings_of, strip
from hdmap_core.datasets.synthetic.town import RGB, Appearance, Lane, Town

CONCRETE: RGB = (0.36, 0.35, 0.33)
BRICK: RGB = (0.32, 0.17, 0.12)
_JOINT_M = 5.0
_BAND = 512


def soaked(look: Appearance) -> Appearance:
    """The look with materials as dark as rain makes them."""
    wet = look.weather.wetness
    if not wet:
        return look

    def darker(colour: RGB, most: float) -> RGB:
        red, green, blue = (part * (1.0 - most * wet) for part in colour)
        return red, green, blue

    return replace(
        look,
        asphalt=darker(look.asphalt, 0.55),
        walkway=darker(look.walkway, 0.4),
        kerb=darker(look.kerb, 0.3),
        terrain=darker(look.terrain, 0.3),
    )


def walkway_colour(look: Appearance) -> RGB:
    """What walkways are painted with."""
    if look.paving.walkway != "brick":
        return look.walkway
    gain = 2.5 * float(np.mean(look.walkway))
    red, green, blue = (min(part * gain, 0.6) for part in BRICK)
    return red, green, blue


def repave(canvas: np.ndarray, town: Town, lit: Lit, texel_m: float) -> None:
    """Paint stretches of road of another age or material over the asphalt, in place.

    Args:
        canvas: (rows, columns, 3) uint8 of the ground, row 0 in the south.
        town: whose roads they are.
        lit: (linear colour, gain = 1.0) to 8-bit RGB.
        texel_m: size of a texel.
    """
    look = town.appearance
    paving = look.paving
    rng = np.random.default_rng([look.seed, 37])
    if not paving.resurfaced:
        return
    shapely.prepare(town.drivable)
    for lane in town.lanes:
        length = total_length(lane.centerline)
        if length <= 12.0:
            continue
        for _ in range(rng.poisson(paving.resurfaced * length / 100.0)):
            outline = _stretch(lane, length, rng).intersection(town.drivable)
            tone = _tone(rng, paving.contrast)
            is_concrete = rng.random() < 0.2
            dry = 1.0 - 0.45 * look.weather.wetness
            colour = lit(CONCRETE, dry * float(rng.uniform(0.8, 1.15))) if is_concrete else lit(look.asphalt, tone)
            fill(canvas, rings_of(outline), colour, texel_m)
            if is_concrete:
                _joints(canvas, lane, outline, lit(CONCRETE, 0.45), texel_m)
        for _ in range(rng.poisson(paving.resurfaced * length / 60.0)):
            _tar_line(canvas, lane, length, lit(look.asphalt, 0.45), texel_m, rng)


def pave_walkways(canvas: np.ndarray, town: Town, lit: Lit, texel_m: float) -> None:
    """Lay pavers or brick over the walkways and let grass grow over their edges, in place; arguments as `repave`."""
    look = town.appearance
    paving = look.paving
    if not town.walkways:
        return
    rng = np.random.default_rng([look.seed, 38])
    if paving.walkway != "slabs":
        block = max(round((0.4 if paving.walkway == "pavers" else 0.2) / texel_m), 3)
        gains = np.kron(rng.uniform(0.86, 1.08, (32, 64)), np.ones((block, block)))
        gains[::block] *= 0.8
        gains[:, ::block] *= 0.8
        pattern = np.clip(128.0 * gains, 0, 255).astype(np.uint8)
        mask = np.zeros(canvas.shape[:2], np.uint8)
        fill(mask, [ring for walkway in town.walkways for ring in rings_of(walkway)], 255, texel_m)
        pattern = np.tile(pattern, (_BAND // pattern.shape[0] + 1, canvas.shape[1] // pattern.shape[1] + 1))
        for top in range(0, canvas.shape[0], _BAND):
            part = canvas[top : top + _BAND]
            gain = np.full(part.shape[:2], 128, np.uint8)
            cv2.copyTo(pattern[: part.shape[0], : part.shape[1]], mask[top : top + _BAND], gain)
            cv2.multiply(part, cv2.merge((gain, gain, gain)), dst=part, scale=1.0 / 128.0)
    if paving.grass_edge_m:
        edge = shapely.difference(shapely.union_all(list(town.walkways)).boundary, town.drivable.buffer(0.8))
        spots = shapely.get_coordinates(shapely.segmentize(edge, 0.4))
        for spot in spots[rng.random(len(spots)) < 0.7]:
            at = np.rint((spot + rng.normal(0.0, 0.06, 2)) / texel_m - 0.5).astype(int)
            radius = max(round(paving.grass_edge_m * rng.uniform(0.3, 1.0) / texel_m), 1)
            cv2.circle(canvas, at.tolist(), radius, lit(look.terrain, float(rng.uniform(0.8, 1.1))), cv2.FILLED)


def _stretch(lane: Lane, length: float, rng: np.random.Generator) -> shapely.Polygon:
    """A piece of road: across all of it, or a strip of any width beside the lane's middle."""
    extent = float(np.clip(rng.gamma(2.0, 14.0), 4.0, length - 1.0))
    start = float(rng.uniform(0.0, length - extent))
    width, aside = (30.0, 0.0) if rng.random() < 0.3 else (float(rng.uniform(0.8, 5.5)), float(rng.uniform(-1.6, 1.6)))
    outline = shapely.Polygon(strip(lane.centerline, start, start + extent, width, aside))
    return outline if outline.is_valid else outline.buffer(0.0)


def _tone(rng: np.random.Generator, contrast: float) -> float:
    """Brightness against the town's asphalt: fresh is darker, worn is lighter."""
    spread = 0.25 + 0.75 * contrast
    return float(
        rng.uniform(1.0 - 0.6 * spread, 1.0 - 0.15 * spread) if rng.random() < 0.6 else rng.uniform(1.1, 1.0 + spread)
    )


def _joints(canvas: np.ndarray, lane: Lane, outline: shapely.Geometry, colour: tuple[int, ...], texel_m: float) -> None:
    line, length = lane.centerline, total_length(lane.centerline)
    cuts = [strip(line, at, at + 0.04, 12.0) for at in np.arange(2.0, length - 1.0, _JOINT_M)]
    cuts.append(strip(line, 0.0, length, 0.04, 1.4))
    for cut in cuts:
        piece = shapely.Polygon(cut).buffer(0.0).intersection(outline)
        fill(canvas, rings_of(piece), colour, texel_m)


def _tar_line(
    canvas: np.ndarray, lane: Lane, length: float, colour: tuple[int, ...], texel_m: float, rng: np.random.Generator
) -> None:
    """A sealed crack: a dark, wavering line of tar, mostly along the road."""
    extent = float(min(rng.uniform(4.0, 30.0), length - 1.0))
    along = float(rng.uniform(0.0, length - extent)) + np.linspace(0.0, extent, 16)
    aside = rng.uniform(-1.6, 1.6) + np.cumsum(rng.normal(0.0, 0.12, 16))
    points = offset(points_at(lane.centerline, along), aside)
    draw_lines(canvas, [points], colour, texel_m, rng.uniform(0.03, 0.1))
