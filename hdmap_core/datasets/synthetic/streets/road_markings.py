"""Dividers of the second edition: in stretches, as they are painted and as nuScenes draws them.

A stretch ends at crossings, at junctions and where cars turn off; beside a turn pocket begins one more. Dividers are
the lines between lanes and between directions. Lines along kerbs, around bays and islands are none; they are decals.
"""

from dataclasses import dataclass

import numpy as np

from hdmap_core.datasets.synthetic.curve import cut, offset, resample
from hdmap_core.datasets.synthetic.streets.junctions import Span, Zones, free_spans, open_span
from hdmap_core.datasets.synthetic.streets.medians import Pockets, pocket_lines
from hdmap_core.datasets.synthetic.streets.paint import clear_of_crossings
from hdmap_core.datasets.synthetic.streets.roads import Network, Road
from hdmap_core.datasets.synthetic.town import Crossing, DividerKind, Marking, MarkingColour, MarkingStyle

DASHES_M = ((3.0, 4.5), (2.0, 4.0), (2.75, 8.25), (3.0, 9.0), (1.5, 1.5), (4.0, 2.0), (2.0, 2.0))
"""Dash and gap of broken lines in several countries."""
LEAST_M = 4.5


@dataclass(frozen=True)
class PaintHabits:
    """How a town paints its lines."""

    lane_dash: Span
    divider_dash: Span
    width_m: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "PaintHabits":
        """Any country's."""
        lane, divider = (DASHES_M[k] for k in rng.integers(len(DASHES_M), size=2))
        return cls(lane, divider, float(rng.uniform(0.1, 0.19)))


def dividers(
    rng: np.random.Generator, network: Network, zones: Zones, taken: dict[int, list[Span]],
    pockets: Pockets, painted: list[Crossing], others: list[Marking],
) -> list[Marking]:  # fmt: skip
    """Every divider of the town.

    Args:
        rng: draws the town's habits and where stretches begin.
        network: its roads.
        zones: where the open road begins.
        taken: per road, where lines are interrupted, in metres from its start.
        pockets: turn pockets.
        painted: crossings, which no divider touches.
        others: dividers beside the roads, in driveways and bays.
    """
    habits = PaintHabits.draw(rng)
    found = list(others)
    for k, road in enumerate(network.roads):
        if not road.profile.is_marked:
            continue
        for a, b in free_spans(open_span(network, zones, k), taken.get(k, []), LEAST_M):
            found += _stretch(rng, habits, road, a, b)
    for k, line in pocket_lines(network, pockets):
        style: MarkingStyle = "solid" if rng.random() < 0.5 else "dashed"
        if network.roads[k].profile.is_marked:
            found.append(_marking(habits, line, "lane_divider", style, "white"))
    return clear_of_crossings(found, painted)


def _stretch(rng: np.random.Generator, habits: PaintHabits, road: Road, a: float, b: float) -> list[Marking]:
    profile, found = road.profile, []
    for edges in (profile.forward_edges(), profile.backward_edges()):
        for edge in edges[1:-1]:
            # Lane lines begin and end where each was painted, not all in one row.
            begin, end = a + float(rng.exponential(1.2)), b - float(rng.exponential(1.2))
            if end - begin > LEAST_M:
                line = offset(resample(cut(road.line, begin, end), 2.0), float(edge))
                found.append(_marking(habits, line, "lane_divider", profile.lane_style, "white"))
    if not (profile.forward and profile.backward) or profile.median_kind == "island":
        return found
    inner = [profile.forward_edges()[-1], profile.backward_edges()[0]]
    style = profile.divider_style
    if profile.median_kind == "none":
        inner = inner[:1]
    elif style in ("dashed", "double_dashed", "solid_dashed"):
        style = "solid"
    piece = resample(cut(road.line, a, b), 2.0)
    found += [
        _marking(habits, offset(piece, float(edge)), "road_divider", style, profile.divider_colour) for edge in inner
    ]
    return found


def _marking(
    habits: PaintHabits, line: np.ndarray, kind: DividerKind, style: MarkingStyle, colour: MarkingColour
) -> Marking:
    dash, gap = habits.lane_dash if kind == "lane_divider" else habits.divider_dash
    return Marking(line, kind, style, colour, dash, gap, habits.width_m)
