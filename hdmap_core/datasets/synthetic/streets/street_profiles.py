"""Cross-sections of the second edition's streets, by their rank."""

from dataclasses import replace
from typing import Literal

import numpy as np

from hdmap_core.datasets.synthetic.streets.roads import Profile
from hdmap_core.datasets.synthetic.town import MarkingColour, MarkingStyle

Rank = Literal["main", "collector", "local"]
DIVIDER_PAINTS: tuple[tuple[MarkingStyle, MarkingColour, float], ...] = (
    ("double_solid", "yellow", 0.34),
    ("solid", "yellow", 0.08),
    ("dashed", "white", 0.22),
    ("double_solid", "white", 0.1),
    ("solid", "white", 0.1),
    ("dashed", "yellow", 0.06),
    ("double_dashed", "yellow", 0.03),
    ("double_dashed", "white", 0.03),
    ("solid_dashed", "yellow", 0.04),
)
"""Style, colour and share of the lines between opposite directions."""
LANES: dict[Rank, tuple[tuple[tuple[int, int], float], ...]] = {
    "main": (((2, 2), 0.24), ((3, 3), 0.44), ((3, 2), 0.16), ((2, 3), 0.16)),
    "collector": (((1, 1), 0.08), ((2, 2), 0.64), ((2, 1), 0.14), ((1, 2), 0.14)),
    "local": (((1, 1), 0.66), ((2, 1), 0.14), ((1, 0), 0.03), ((2, 0), 0.17)),
}
"""Lanes ahead and back, and how often."""


def draw_street_profile(rng: np.random.Generator, rank: Rank) -> Profile:
    """A cross-section; raised medians are common on main streets, and some are wide enough for a turn pocket."""
    kinds = LANES[rank]
    forward, backward = kinds[rng.choice(len(kinds), p=[share for _, share in kinds])][0]
    styles = DIVIDER_PAINTS[rng.choice(len(DIVIDER_PAINTS), p=[share for *_, share in DIVIDER_PAINTS])]
    lane_style: MarkingStyle = "solid" if rng.random() < 0.12 else "dashed"
    median, kind = 0.0, "none"
    raised = {"main": 0.92, "collector": 0.75, "local": 0.08}[rank]
    if backward and rng.random() < raised:
        # From a kerb on either side to a verge that a turning lane can be cut out of.
        width = [rng.uniform(1.3, 2.4), rng.uniform(2.4, 4.2), rng.uniform(4.6, 6.2)][rng.choice(3, p=[0.4, 0.2, 0.4])]
        median, kind = float(width), "island"
    elif backward and rank != "local" and rng.random() < 0.3:
        median, kind = float(rng.uniform(0.8, 2.6)), "painted"
    width = float(np.clip(rng.normal(3.25, 0.3), 2.6, 4.0))
    parking = [2.2 if rng.random() < (0.3 if rank == "local" else 0.06) else 0.0 for _ in range(2)]
    walkway = float(rng.choice([0.0, 1.5, 2.2, 3.2, 5.0], p=[0.12, 0.26, 0.3, 0.2, 0.12]))
    is_marked = rank != "local" or rng.random() < 0.85
    return Profile(forward, backward, width, median, kind, styles[0], styles[1], lane_style, is_marked,
                   parking[0], parking[1], float(rng.uniform(0.1, 0.75)), walkway)  # fmt: skip


def varied(rng: np.random.Generator, profile: Profile) -> Profile:
    """The next stretch of the same street: now and then a lane more or less, parking on another side."""
    forward, backward = profile.forward, profile.backward
    if rng.random() < 0.3 and profile.forward + profile.backward > 2:
        change = int(rng.choice([-1, 1]))
        if rng.random() < 0.5:
            forward = int(np.clip(forward + change, 1, 4))
        elif backward:
            backward = int(np.clip(backward + change, 1, 4))
    parking = (profile.parking_right, profile.parking_left)
    if rng.random() < 0.3:
        parking = (2.2 - parking[0], parking[1]) if rng.random() < 0.5 else (parking[0], 2.2 - parking[1])
    lane_width = float(np.clip(profile.lane_width + rng.normal(0, 0.06), 2.7, 4.0))
    return replace(profile, forward=forward, backward=backward, lane_width=lane_width,
                   parking_right=parking[0], parking_left=parking[1])  # fmt: skip
