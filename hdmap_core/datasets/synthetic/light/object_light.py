"""How much of the sun's, or at night of the street lamps', light reaches the things of a town."""

import numpy as np

from hdmap_core.datasets.synthetic.ground.wear import SHADE_TEXEL_M
from hdmap_core.datasets.synthetic.light.shading import Lighting
from hdmap_core.datasets.synthetic.things.faces import Placed
from hdmap_core.datasets.synthetic.town import Appearance

LAMPS_REACH_UP_M = 5.0
"""Walls are lit by the street lamps up to about this height."""
_WALL_M = 5.0
"""What is higher is a house or a tree, lit by the sun whatever lies before its foot."""


def light_reaching(look: Appearance, blocked: np.ndarray, placed: Placed, centres: np.ndarray) -> np.ndarray:
    """(N,) share 0..1 of the light at N objects that stand at `centres` (N, 2).

    `blocked`: light that does not reach the ground, as `wear.blocked_light` gives it.
    """
    if not look.shades_objects:
        return np.ones(len(centres))
    light = Lighting.of(look)
    # An object stands in its own shadow: what counts is the light on its sunny side.
    aside = 0.0 if light.lamps else (placed.radii[:, None] + 0.5) * light.to_sun[:2]
    column, row = np.rint((centres + aside) / SHADE_TEXEL_M - 0.5).astype(int).T
    inside = (row >= 0) & (row < blocked.shape[0]) & (column >= 0) & (column < blocked.shape[1])
    reach = np.full(len(centres), 0.0 if light.lamps else 1.0)
    reach[inside] = 1.0 - blocked[row[inside], column[inside]]
    if not light.lamps:
        reach[placed.heights > _WALL_M] = 1.0
    return reach
