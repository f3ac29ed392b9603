"""Arrows, letters and the like that are painted on lanes, as vertex rings in metres: (along the lane, to its left)."""

from itertools import pairwise

import numpy as np

from hdmap_core.datasets.synthetic.curve import directions, headings_at, left_of, points_at
from hdmap_core.datasets.synthetic.ground.shapes import ARROW_M

_GLYPHS = {
    "A": ("00 04 26 44 40", "03 43"),
    "B": ("00 06 36 45 44 33 03", "33 42 41 30 00"),
    "C": ("45 36 16 05 01 10 30 41",),
    "D": ("00 06 26 44 42 20 00",),
    "E": ("46 06 00 40", "03 33"),
    "G": ("45 36 16 05 01 10 30 41 43 23",),
    "H": ("00 06", "40 46", "03 43"),
    "I": ("20 26",),
    "K": ("00 06", "46 03 40"),
    "L": ("06 00 40",),
    "N": ("00 06 40 46",),
    "O": ("10 30 41 45 36 16 05 01 10",),
    "P": ("00 06 36 45 44 33 03",),
    "R": ("00 06 36 45 44 33 03", "23 40"),
    "S": ("01 10 30 41 42 33 13 04 05 16 36 45",),
    "T": ("06 46", "26 20"),
    "U": ("06 01 10 30 41 46",),
    "W": ("06 10 23 30 46",),
    "X": ("00 46", "06 40"),
    "Y": ("06 23 46", "23 20"),
    "3": ("06 46 23 33 42 41 30 10 01",),
    "4": ("30 36 02 42",),
    "5": ("46 06 03 33 42 41 30 00",),
    "0": ("10 30 41 45 36 16 05 01 10",),
}
"""Strokes of letters 4 wide and 6 high: points as two digits, to the right and up."""
_HOOK = np.array([[1.0, 0.0], [1.0, 0.1], [2.1, 0.62], [1.75, 0.62], [2.6, 1.05], [3.1, 0.62], [2.75, 0.62],
                  [1.5, 0.0]])  # fmt: skip
ARROWS = ("straight", "left", "right", "straight left", "straight right", "left right")


def arrow_rings(kind: str, length_m: float) -> list[np.ndarray]:
    """An arrow with one or two heads; `kind` names where they point."""
    rings = []
    if "straight" in kind:
        rings.append(np.array(ARROW_M))
    else:
        rings.append(np.array([[0.0, 0.09], [1.6, 0.09], [1.6, -0.09], [0.0, -0.09]]))
    for word, side in (("left", 1.0), ("right", -1.0)):
        if word in kind:
            rings.append(_HOOK * (1.0, side))
    return [ring * (length_m / 4.0, 1.0) for ring in rings]


def word_rings(
    word: str, height_m: float, width_m: float, stroke_m: float, is_mirrored: bool = False
) -> list[np.ndarray]:
    """A word to be read by whoever drives over it, `height_m` long on the road and `width_m` wide in all.

    `is_mirrored` writes it as in a mirror.
    """
    pitch = width_m / (len(word) - 0.25)
    scale = np.array([height_m / 6.0, pitch * 0.75 / 4.0])
    side = 1.0 if is_mirrored else -1.0
    rings = []
    for k, letter in enumerate(word):
        begin = -width_m / 2 + k * pitch
        for stroke in _GLYPHS[letter]:
            points = np.array([[int(point[1]), int(point[0])] for point in stroke.split()]) * scale
            points[:, 1] = side * (points[:, 1] + begin)
            rings += [bar(a, b, stroke_m) for a, b in pairwise(points)]
    return rings


def bar(start: np.ndarray, end: np.ndarray, width_m: float) -> np.ndarray:
    """A straight bar from point to point, (4, 2)."""
    ahead = (end - start) / max(float(np.hypot(*(end - start))), 1e-9)
    left = left_of(ahead) * width_m / 2
    return np.stack([start + left, end + left, end - left, start - left])


def on_line(rings: list[np.ndarray], line: np.ndarray, along: float) -> tuple[np.ndarray, ...]:
    """Rings with their origin `along` metres down a line, straight on in its direction there."""
    origin = points_at(line, along)
    ahead = directions(headings_at(line, along, 2.0))
    left = left_of(ahead)
    return tuple(origin + np.outer(ring[:, 0], ahead) + np.outer(ring[:, 1], left) for ring in rings)
