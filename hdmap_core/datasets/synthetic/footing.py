"""How the things of a town stand on its relief: cars on all wheels, poles and people upright, houses on a plinth."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from hdmap_core.datasets.synthetic.faces import Footing, Mesh
from hdmap_core.datasets.synthetic.ground_wear import box_corners
from hdmap_core.datasets.synthetic.relief import Relief
from hdmap_core.datasets.synthetic.scene_objects import Placement
from hdmap_core.datasets.synthetic.town import Box

WHEELS_M = 1.3
"""Half of a wheelbase."""
_SUNK_M = 0.05
_UPRIGHT = ("tree", "pole", "person", "building")


def level_footing(count: int) -> Footing:
    """Of objects on the plane z = 0."""
    return Footing(np.zeros(count), np.zeros((count, 2)))


def ground_below(relief: Relief, centres: np.ndarray, leans: np.ndarray) -> Footing:
    """Height and slope of the ground below objects at `centres` (N, 2); those that do not lean (N,) stay upright."""
    slopes = np.where(leans[:, None], relief.slope(centres, WHEELS_M), 0.0)
    return Footing(relief.height(centres), slopes)


def box_footing(relief: Relief, boxes: Sequence[Box]) -> Footing:
    """What boxes stand on; a house on the highest ground below its corners."""
    if relief.is_flat:
        return level_footing(len(boxes))
    centres = np.array([box.centre for box in boxes]).reshape(-1, 2)
    below = ground_below(relief, centres, np.array([box.kind not in _UPRIGHT for box in boxes], dtype=bool))
    heights = below.heights.copy()
    for i, box in enumerate(boxes):
        if box.kind == "building":
            heights[i] = relief.height(box_corners(box)).max()
    return Footing(heights, below.slopes)


def let_down(placement: Placement, relief: Relief, floor: float) -> Placement:
    """A piece of wall whose foot reaches down from the house's floor to the ground."""
    mesh, centre, yaw = placement
    turn = np.array([[np.cos(yaw), np.sin(yaw)], [-np.sin(yaw), np.cos(yaw)]])
    faces = []
    for face in mesh.faces:
        corners = face.corners.copy()
        foot = corners[:, 2] == 0.0
        corners[foot, 2] = relief.height(corners[foot, :2] @ turn + np.asarray(centre)) - floor - _SUNK_M
        faces.append(replace(face, corners=corners))
    return Mesh(tuple(faces), mesh.is_card), centre, yaw
