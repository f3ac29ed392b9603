"""A town's streets with all that belongs to them, in either edition: network, asphalt, lanes and routes."""

from dataclasses import dataclass, field

import numpy as np

from hdmap_core.datasets.synthetic.streets import lanes, paint
from hdmap_core.datasets.synthetic.streets.junctions import (
    LayoutError,
    Span,
    Trims,
    Zones,
    arm_zones,
    junction_radii,
    trims,
)
from hdmap_core.datasets.synthetic.streets.medians import Pockets, draw_pockets, raised_medians, straight_medians
from hdmap_core.datasets.synthetic.streets.road_markings import dividers
from hdmap_core.datasets.synthetic.streets.roads import Network, generate_network
from hdmap_core.datasets.synthetic.streets.roadside import Roadside, draw_roadside, slip_islands
from hdmap_core.datasets.synthetic.streets.street_plan import generate_plan
from hdmap_core.datasets.synthetic.streets.surface import Surface, build_surface, check_junctions
from hdmap_core.datasets.synthetic.town import Crossing, Lane, Marking

FEWEST_ROUTES = 3
SPARE_M = 30.0
"""Drives of the second edition may end on a street that leaves town, this far before its end."""


@dataclass(frozen=True)
class Layout:
    """Streets of a town. The second edition alone fills the last two."""

    network: Network
    zones: Zones
    mid_crossings: dict[int, Span]
    surface: Surface
    lanes: tuple[Lane, ...]
    routes: tuple[np.ndarray, ...]
    pockets: Pockets | None = None
    beside: Roadside = field(default_factory=Roadside)


def first_layout(rng: np.random.Generator, size: tuple[float, float]) -> Layout:
    """A bent grid of streets.

    Raises:
        LayoutError: the draw is of no use.
    """
    network = generate_network(rng, size)
    radii = junction_radii(rng, network)
    trim = trims(network, radii)
    zones = arm_zones(rng, network, trim)
    mid_crossings = paint.draw_mid_crossings(rng, network, zones)
    islands = straight_medians(rng, network, zones, _widened(mid_crossings, 0.8))
    surface = build_surface(network, radii, trim, islands)
    town_lanes, routes = _lanes_and_routes(rng, network, trim, surface, 0.5, None)
    return Layout(network, zones, mid_crossings, surface, town_lanes, routes)


def second_layout(rng: np.random.Generator, size: tuple[float, float]) -> Layout:
    """Streets that grow, with driveways, bays, medians with turn pockets and slip lanes.

    Raises:
        LayoutError: the draw is of no use.
    """
    network = generate_plan(rng, size)
    is_major = [sum(network.roads[arm.road].profile.forward > 1 for arm in arms) >= 2 for arms in network.arms]
    has_slip = np.array(is_major) & (rng.random(len(is_major)) < 0.12)
    radii = np.where(
        has_slip, rng.uniform(15, 20, len(is_major)), np.clip(rng.normal(6.0, 1.8, len(is_major)), 3.5, 11)
    )
    trim = trims(network, radii)
    zones = arm_zones(rng, network, trim, [0.85 if major else 0.45 for major in is_major])
    mid_crossings = paint.draw_mid_crossings(rng, network, zones, 0.25)
    beside = draw_roadside(rng, network, zones, mid_crossings)
    pockets = draw_pockets(rng, network, zones)
    gaps = _widened(mid_crossings, 0.8)
    for k, spans in beside.gaps.items():
        gaps.setdefault(k, []).extend(spans)
    islands = raised_medians(rng, network, zones, gaps, pockets)
    for node in np.flatnonzero(has_slip).tolist():
        islands += slip_islands(network, node, float(radii[node]), trim)
    surface = build_surface(network, radii, trim, islands, beside.asphalt)
    check_junctions(network, trim, surface)
    town_lanes, routes = _lanes_and_routes(rng, network, trim, surface, 0.39, SPARE_M)
    return Layout(network, zones, mid_crossings, surface, town_lanes, routes, pockets, beside)


def _lanes_and_routes(
    rng: np.random.Generator, network: Network, trim: Trims, surface: Surface, roundness: float, spare: float | None
) -> tuple[tuple[Lane, ...], tuple[np.ndarray, ...]]:
    all_lanes, roads_of = lanes.build_lanes(network, trim, roundness)
    area = surface.drivable.buffer(-0.8)
    routes = lanes.draw_routes(rng, all_lanes, roads_of, area, spare)
    if len(routes) < FEWEST_ROUTES:
        raise LayoutError("too few ways through the town")
    return tuple(all_lanes), tuple(routes)


def draw_markings(rng: np.random.Generator, layout: Layout, crossings: list[Crossing]) -> list[Marking]:
    """Every divider of the town; `rng` is for the second edition alone."""
    network, zones = layout.network, layout.zones
    taken = _widened(layout.mid_crossings, 0.6)
    if layout.pockets is None:
        return paint.markings(network, zones, taken, crossings)
    for k, spans in layout.beside.openings.items():
        taken.setdefault(k, []).extend(spans)
    return dividers(rng, network, zones, taken, layout.pockets, crossings, layout.beside.markings)


def _widened(spans: dict[int, Span], by: float) -> dict[int, list[Span]]:
    """One span per road, longer by so many metres at either end."""
    return {k: [(begin - by, end + by)] for k, (begin, end) in spans.items()}
