"""Laying shapes in metres onto pictures of the ground, smooth-edged.

Row 0 of a picture is the southern edge; texel (row, column) is the square around x = (column + 0.5) * texel_m and
y = (row + 0.5) * texel_m. A colour is a number per channel, or one number.
"""

from collections.abc import Callable, Iterable

import cv2
import numpy as np

Lit = Callable[..., tuple[int, int, int]]
"""(linear colour, gain = 1.0) to what it looks like in full light, 8-bit RGB."""
FATTENING_TEXELS = 0.6
"""How far `fill` reaches beyond an outline; measured."""
_SHIFT = 4
"""Bits behind the point in OpenCV's fixed-point coordinates."""
_SUBTEXELS = 4


def fill(canvas: np.ndarray, rings: Iterable[np.ndarray], colour: tuple[int, ...] | int, texel_m: float) -> None:
    """Fill rings (P, 2) in place. Rings given together are one even-odd shape: inner rings become holes."""
    pixels = [_texels(ring, texel_m) for ring in rings]
    if pixels:
        value = colour if isinstance(colour, tuple) else (colour,)
        cv2.fillPoly(canvas, pixels, value, cv2.LINE_AA, _SHIFT)


def draw_lines(
    canvas: np.ndarray,
    lines: Iterable[np.ndarray],
    colour: tuple[int, ...],
    texel_m: float,
    width_m: float = 0.0,
    closed: bool = False,
) -> None:
    """Draw polylines (P, 2), or rings if `closed`, in place; at least one texel wide."""
    pixels = [_texels(line, texel_m) for line in lines]
    cv2.polylines(canvas, pixels, closed, colour, max(round(width_m / texel_m), 1), cv2.LINE_AA, _SHIFT)


def stamp(mask: np.ndarray, ring: np.ndarray, texel_m: float) -> None:
    """Raise a mask in place to the coverage of one small ring, without bias and at most 0.2 texels too fat a side.

    `fill` is biased and makes everything 0.6 texels fatter a side, which matters for paint 3 texels wide.
    """
    pixels = ring / texel_m - 0.5
    low = np.maximum(np.floor(pixels.min(axis=0)).astype(int) - 1, 0)
    high = np.minimum(np.ceil(pixels.max(axis=0)).astype(int) + 2, mask.shape[::-1])
    if (high <= low).any():
        return
    fine = np.zeros(((high - low) * _SUBTEXELS)[::-1], np.uint8)
    shifted = (pixels - low + 0.5) * _SUBTEXELS - 0.5
    cv2.fillPoly(fine, [np.rint(shifted * (1 << _SHIFT)).astype(np.int32)], 255, cv2.LINE_AA, _SHIFT)
    part = mask[low[1] : high[1], low[0] : high[0]]
    np.maximum(part, cv2.resize(fine, tuple(high - low), interpolation=cv2.INTER_AREA), out=part)


def _texels(points: np.ndarray, texel_m: float) -> np.ndarray:
    """(P, 2) metres -> (P, 2) int32 places in a picture, in fixed point."""
    return np.rint((points / texel_m - 0.5) * (1 << _SHIFT)).astype(np.int32)
