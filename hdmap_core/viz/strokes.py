"""What all pictures share: the classes' colours, lines with a dark rim, texts."""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from hdmap_core.elements import MapClass, MapElement

COLOURS: Mapping[MapClass, tuple[int, int, int]] = {
    MapClass.DIVIDER: (255, 168, 38),
    MapClass.PED_CROSSING: (64, 156, 255),
    MapClass.BOUNDARY: (60, 220, 120),
    MapClass.CENTERLINE: (190, 110, 255),
}
"""RGB per class, as MapTR's drawings have them."""
BACKGROUND = (18, 20, 26)
PANEL = (24, 26, 33)
GRID_LINE = (70, 74, 84)
TEXT = (225, 228, 235)
FAINT = (130, 136, 150)
TRUTH = (255, 255, 255)
MARGIN = 24
SHIFT = 4  # OpenCV draws with 1/16 pixel accuracy
_FARTHEST = 1 << 14  # pixels; beyond, OpenCV's numbers would overflow


def stroke(
    canvas: np.ndarray, line: np.ndarray, closed: bool, colour: tuple[int, int, int], width: int, halo: int = 2
) -> None:
    """A line of (P, 2) float pixels with a dark rim, in place."""
    points = [np.round(np.clip(line, -_FARTHEST, _FARTHEST) * (1 << SHIFT)).astype(np.int32)]
    if halo:
        cv2.polylines(canvas, points, closed, BACKGROUND, width + halo, cv2.LINE_AA, SHIFT)
    cv2.polylines(canvas, points, closed, colour, width, cv2.LINE_AA, SHIFT)


@lru_cache(maxsize=16)
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The font of all pictures, as high as this many pixels."""
    return ImageFont.load_default(size)


def write(
    canvas: np.ndarray,
    place: tuple[int, int],
    text: str,
    size: int,
    colour: tuple[int, int, int] = TEXT,
    anchor: str = "la",
    rim: int = 0,
) -> None:
    """Writes a line of text in place; only the part of the canvas where it stands is touched.

    Args:
        canvas: (H, W, 3) uint8 RGB.
        place: (x, y) pixels of the anchor.
        text: one line.
        size: height in pixels.
        colour: RGB.
        anchor: Pillow's: `la` upper left, `ra` upper right, `ma` upper middle, `mm` middle.
        rim: pixels of a dark rim around the letters.
    """
    (x, y), face, edge = _letters(text, size, anchor, rim)
    left, top = int(place[0]) + x, int(place[1]) + y
    inside = np.s_[max(0, -top) : canvas.shape[0] - top, max(0, -left) : canvas.shape[1] - left]
    part = canvas[max(0, top) : top + len(face), max(0, left) : left + face.shape[1]]
    if not part.size:
        return
    for share, shade in ((edge[inside], BACKGROUND), (face[inside], colour)):
        part[:] = part * (1 - share) + np.array(shade, np.float32) * share


@lru_cache(maxsize=256)
def _letters(text: str, size: int, anchor: str, rim: int) -> tuple[tuple[int, int], np.ndarray, np.ndarray]:
    """Where a text begins beside its anchor, and how much of each pixel its letters and their rim cover, (H, W, 1)."""
    left, top, right, bottom = font(size).getbbox(text, anchor=anchor, stroke_width=rim)
    x, y = math.floor(left) - 1, math.floor(top) - 1
    shares = []
    for width in (0, rim):
        mask = Image.new("L", (math.ceil(right) - x + 1, math.ceil(bottom) - y + 1))
        ImageDraw.Draw(mask).text((-x, -y), text, 255, font(size), anchor, stroke_width=width, stroke_fill=255)
        shares.append(np.asarray(mask, np.float32)[..., None] / 255)
    return (x, y), shares[0], shares[1] if rim else 0 * shares[1]


def legend(
    canvas: np.ndarray,
    corner: tuple[int, int],
    elements: Sequence[MapElement],
    has_truth: bool,
    facts: Sequence[str] = (),
    size: int = 24,
) -> None:
    """What the colours mean, with the number of elements of each class, and lines of text, in place.

    Args:
        canvas: (H, W, 3) uint8 RGB.
        corner: (x, y) pixels, the upper left.
        elements: those that are drawn.
        has_truth: whether ground truth is drawn too.
        facts: lines of text below.
        size: height of a letter in pixels.
    """
    x, y = corner
    step, swatch = round(1.67 * size), 2 * size
    entries = []
    for label in MapClass:
        count = sum(element.label is label for element in elements)
        if count or label is not MapClass.CENTERLINE:  # which few models have
            entries.append((f"{label.value.replace('_', ' ')}   {count}", COLOURS[label], 5))
    if has_truth:
        entries.append(("ground truth", TRUTH, 2))
    for text, colour, width in entries:
        middle = y + size * 2 // 3
        cv2.line(canvas, (x, middle), (x + swatch, middle), colour, width, cv2.LINE_AA)
        write(canvas, (x + swatch + size // 2, y), text, size)
        y += step
    y += size // 2
    for fact in facts:
        write(canvas, (x, y), fact, size * 5 // 6)
        y += size * 5 // 4
