"""Laying a town's decals and painted kerbs onto the picture of its ground, and onto what the LiDAR sees of it."""

from itertools import pairwise

import numpy as np

from hdmap_core.datasets.synthetic.curve import total_length
from hdmap_core.datasets.synthetic.ground.brush import Lit, fill
from hdmap_core.datasets.synthetic.ground.shapes import strip
from hdmap_core.datasets.synthetic.town import Decal, Town

_INTENSITIES = {"asphalt": 9, "concrete": 24, "metal": 40, "rubber": 7, "leaves": 17}
"""Of the LiDAR, 0..255, by material."""


def lay_decals(canvas: np.ndarray, town: Town, lit: Lit, texel_m: float) -> None:
    """Lay all decals but those of paint onto the ground, in place."""
    for decal in town.decals:
        if not is_paint(decal):
            _lay(canvas, decal, lit(decal.colour or town.appearance.asphalt, decal.gain), texel_m)


def lay_intensities(canvas: np.ndarray, town: Town, texel_m: float) -> None:
    """Lay all decals but those of paint onto a map of LiDAR intensities, in place."""
    for decal in town.decals:
        if not is_paint(decal):
            _lay(canvas, decal, (_INTENSITIES[decal.material],), texel_m)


def is_paint(decal: Decal) -> bool:
    """Whether a decal belongs to the town's white and yellow paint."""
    return decal.material in ("white_paint", "yellow_paint")


def paint_kerbs(canvas: np.ndarray, town: Town, lit: Lit, texel_m: float, width_m: float) -> None:
    """Paint kerbs in blocks, in place, `width_m` to either side of the outline; asphalt is laid over the inner half."""
    for kerb in town.kerb_paint:
        length = total_length(kerb.line)
        stops = np.linspace(0.0, length, max(round(length / kerb.block_m), 1) + 1)
        for k, (begin, end) in enumerate(pairwise(stops)):
            fill(canvas, [strip(kerb.line, begin, end, 2 * width_m)], lit(kerb.colours[k % len(kerb.colours)]), texel_m)


def _lay(canvas: np.ndarray, decal: Decal, value: tuple[int, ...], texel_m: float) -> None:
    if decal.cover >= 1.0:
        for ring in decal.rings:
            fill(canvas, [ring], value, texel_m)
        return
    points = np.concatenate(decal.rings) / texel_m
    low = np.maximum(np.floor(points.min(axis=0)).astype(int) - 1, 0)
    high = np.minimum(np.ceil(points.max(axis=0)).astype(int) + 2, canvas.shape[1::-1])
    if (high <= low).any():
        return
    mask = np.zeros((high - low)[::-1], np.uint8)
    for ring in decal.rings:
        fill(mask, [ring - low * texel_m], 255, texel_m)
    block = canvas[low[1] : high[1], low[0] : high[0]]
    cover = mask.astype(np.float32) * (decal.cover / 255.0)
    cover = cover[..., None] if canvas.ndim == 3 else cover
    block[:] = block + cover * (np.asarray(value, np.float32) - block)
