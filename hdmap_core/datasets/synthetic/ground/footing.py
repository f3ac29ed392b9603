"""How the things of a town stand on its relief: cars on all wheels, poles and people upright, houses on a plinth."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from hdmap_core.datasets.synthetic.ground.relief import Relief
from hdmap_core.datasets.synthetic.ground.wear import box_corners
from hdmap_core.datasets.synthetic.things.faces import Footing, Placed
from hdmap_core.datasets.synthetic.town import Box

WHEELS_M = 1.3
"""Half of a wheelbase."""
_SUNK_M = 0.05
_UPRIGHT = ("tree", "pole", "person", "building")


def level_footing(count: int) -> Footing:
    """Of objects on the plane z = 0."""
    return Footing(np.zeros(count), np.zeros((count, 2)))


def ground_below(relief: Relief, centres: np.ndarray, leans: np.ndarray | bool = True) -> Footing:
    """Height and slope of the ground below objects at `centres` (N, 2); those that do not lean (N,) stay upright."""
    slopes = np.where(np.reshape(leans, (-1, 1)), relief.slope(centres, WHEELS_M), 0.0)
    return Footing(relief.height(centres), slopes)


def box_footing(relief: Relief, boxes: Sequence[Box]) -> Footing:
    """What boxes stand on; a house on the highest ground below its corners."""
    if relief.is_flat:
        return level_footing(len(boxes))
    centres = np.array([box.centre for box in boxes]).reshape(-1, 2)
    below = ground_below(relief, centres, np.array([box.kind not in _UPRIGHT for box in boxes], dtype=bool))
    heights = below.heights.copy()
    houses = [i for i, box in enumerate(boxes) if box.kind == "building"]
    if houses:
        heights[houses] = relief.height(np.stack([box_corners(boxes[i]) for i in houses])).max(axis=1)
    return Footing(heights, below.slopes)


def let_down(placed: Placed, relief: Relief, floors: np.ndarray, is_house: np.ndarray) -> Placed:
    """Walls whose feet reach down to the ground: of objects that are houses (N,), with floors at `floors` (N,)."""
    faces, at = np.nonzero(is_house[placed.owner, None] & (placed.corners[..., 2] == 0.0))
    owner, local = placed.owner[faces], placed.corners[faces, at, :2]
    cos, sin = np.cos(placed.yaws[owner]), np.sin(placed.yaws[owner])
    turned = np.stack([local[:, 0] * cos - local[:, 1] * sin, local[:, 0] * sin + local[:, 1] * cos], axis=1)
    corners = placed.corners.copy()
    corners[faces, at, 2] = relief.height(turned + placed.centres[owner]) - floors[owner] - _SUNK_M
    return replace(placed, corners=corners)
