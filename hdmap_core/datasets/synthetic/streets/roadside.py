"""What widens a road of the second edition on its sides: driveways, bus bays, lay-bys, turning circles, slip lanes.

As in nuScenes' maps a driveway belongs to the road as far as it was drawn, and ends there in a straight cut, though its
asphalt goes on; where only the kerb is dropped the outline runs past as if there were nothing.
"""

from dataclasses import dataclass, field

import numpy as np
import shapely
from shapely import LineString, Polygon

from hdmap_core.datasets.synthetic.curve import (
    cut,
    directions,
    headings_at,
    left_normals,
    left_of,
    points_at,
    resample,
    total_length,
)
from hdmap_core.datasets.synthetic.streets.junctions import Span, Trims, Zones, open_span
from hdmap_core.datasets.synthetic.streets.roads import Network, Road
from hdmap_core.datasets.synthetic.streets.surface import arm_area
from hdmap_core.datasets.synthetic.town import Decal, DecalMaterial, Marking

SLIP_LANE_M = 4.2


@dataclass
class Roadside:
    """Everything found beside the roads so far."""

    asphalt: list[Polygon] = field(default_factory=list)
    """Belongs to the drivable area."""
    flush: list[Polygon] = field(default_factory=list)
    openings: dict[int, list[Span]] = field(default_factory=dict)
    """Per road, in metres from its start, where dividers are interrupted."""
    gaps: dict[int, list[Span]] = field(default_factory=dict)
    """Likewise, where raised medians are."""
    no_parking: list[Polygon] = field(default_factory=list)
    markings: list[Marking] = field(default_factory=list)
    aprons: list[Decal] = field(default_factory=list)
    bays: list[tuple[int, int, Span, float]] = field(default_factory=list)
    """Road, side (1: left of its line), where the bay is at its full depth, and that depth."""


def draw_roadside(rng: np.random.Generator, network: Network, zones: Zones, mid_crossings: dict[int, Span]) -> Roadside:
    """Draw what lies beside every road."""
    found = Roadside()
    bands = [shapely.buffer(LineString(r.line), r.profile.width / 2, cap_style="flat") for r in network.roads]
    tree = shapely.STRtree([shapely.buffer(band, 5.0) for band in bands])
    busy = float(rng.uniform(0.6, 1.5))
    for k, road in enumerate(network.roads):
        begin, end = open_span(network, zones, k)
        free = (begin + 3.0, end - 3.0)
        for side in (-1, 1):
            if side == 1 and road.profile.backward == 0 and rng.random() < 0.3:
                continue
            at = free[0] + float(rng.exponential(22.0) / busy)
            while at < free[1]:
                length = _draw_one(rng, found, (k, road, side), at, free, mid_crossings.get(k), (tree, bands))
                at += length + 4.0 + float(rng.exponential(24.0) / busy)
    _end_streets(rng, found, network, bands)
    return found


def _draw_one(
    rng: np.random.Generator, found: Roadside, where: tuple[int, Road, int], at: float, free: Span,
    crossed: Span | None, others: tuple[shapely.STRtree, list[Polygon]],
) -> float:  # fmt: skip
    """Something beside a road from `at` metres on; how long it is, 0 where there is no room."""
    k, road, side = where
    parks = road.profile.parking_left if side > 0 else road.profile.parking_right
    kind = rng.choice(["driveway", "notch", "bay", "dropped"], p=[0.46, 0.14, 0.14, 0.26])
    if kind == "bay" and parks:
        kind = "driveway"
    is_bus = kind == "bay" and rng.random() < 0.55
    length = {
        "driveway": rng.uniform(4.5, 9.5), "notch": rng.uniform(3.5, 7.0), "dropped": rng.uniform(3.0, 5.5),
        "bay": rng.uniform(38, 58) if is_bus else rng.uniform(16, 42),
    }[str(kind)]  # fmt: skip
    end = at + float(length)
    radius = {"driveway": float(rng.uniform(2.0, 7.0)), "notch": 0.4}.get(str(kind), 0.0)
    if at - radius < free[0] or end + radius > free[1] or (crossed and at < crossed[1] + 4 and end > crossed[0] - 4):
        return 0.0
    if kind == "bay":
        depth = float(rng.uniform(2.7, 3.3) if is_bus else rng.uniform(2.0, 2.6))
        taper = float(rng.uniform(9, 14) if is_bus else rng.uniform(0.6, 5.0))
        shape, reach = _bay(road, side, (at, end), depth, taper), None
    else:
        depth = {"driveway": float(rng.uniform(5, 20)), "notch": float(rng.uniform(2.0, 5.5))}.get(str(kind), 4.0)
        skew = float(np.clip(rng.normal(0, 0.1), -0.3, 0.3)) if kind == "driveway" else 0.0
        shape, reach = _stub(road, side, (at, end), depth, radius, skew)
    tree, bands = others
    outside = shapely.difference(shape, shapely.buffer(bands[k], 0.3))
    near = [int(other) for other in tree.query(outside, predicate="intersects") if other != k]
    if near or any(shapely.distance(outside, area) < 3.0 for area in found.asphalt) or outside.geom_type != "Polygon":
        return 0.0
    found.no_parking.append(shapely.buffer(shape, 2.0))
    if kind == "bay":
        found.asphalt.append(shape)
        full = (at + taper, end - taper)
        found.bays.append((k, side, full, depth))
        if full[1] - full[0] > 8 and rng.random() < 0.7:
            line = edge_line(road, side, full, 0.0)
            found.markings.append(Marking(line, "lane_divider", "dashed", "white", 1.0, 1.0))
        return float(length)
    beyond = shapely.difference(reach, shapely.union_all([bands[k], shape]))
    if kind == "dropped":
        found.aprons.append(_apron(shapely.union(beyond, outside), "concrete", float(rng.uniform(0.7, 2.2))))
        found.flush.append(shapely.buffer(shape, 0.3))
        return float(length)
    found.asphalt.append(shape)
    if kind == "driveway":
        found.aprons.append(_apron(shapely.union(beyond, outside), "asphalt", float(rng.uniform(0.75, 1.3))))
        found.flush.append(shapely.buffer(beyond, 0.3))
        _interrupt(rng, found, where, (at, end))
        if length > 5.5 and depth > 9 and rng.random() < 0.6:
            found.markings.append(_middle_of(road, side, (at + end) / 2, depth, skew))
    return float(length)


def _interrupt(rng: np.random.Generator, found: Roadside, where: tuple[int, Road, int], span: Span) -> None:
    """Dividers often stop where cars turn in; a raised median seldom does."""
    k, road, _ = where
    room = float(rng.uniform(1.0, 4.0))
    opening = (span[0] - room, span[1] + room)
    if road.profile.median_kind == "island":
        if rng.random() > 0.2:
            return
        found.gaps.setdefault(k, []).append((opening[0] - 2, opening[1] + 2))
        opening = (opening[0] - 3, opening[1] + 3)
    if rng.random() < 0.55 or road.profile.median_kind == "island":
        found.openings.setdefault(k, []).append(opening)


def edge_line(road: Road, side: int, span: Span, inward: float) -> np.ndarray:
    """The line `inward` metres inside the kerb of a road (before anything widens it) between two places along it."""
    piece = resample(cut(road.line, *span), 2.0)
    return piece + left_normals(piece) * side * (road.profile.width / 2 - inward)


def _bay(road: Road, side: int, span: Span, depth: float, taper: float) -> Polygon:
    piece = resample(cut(road.line, *span), 1.0)
    along = np.linspace(0.0, span[1] - span[0], len(piece))
    out = depth * np.clip(np.minimum(along, along[-1] - along) / taper, 0.0, 1.0)
    half, normals = road.profile.width / 2, left_normals(piece) * side
    ring = np.concatenate([piece + normals * (half - 0.5), (piece + normals * (half + out)[:, None])[::-1]])
    return shapely.make_valid(shapely.buffer(Polygon(ring), 0))


def _stub(road: Road, side: int, span: Span, depth: float, radius: float, skew: float) -> tuple[Polygon, Polygon]:
    """A short way off the road with rounded corners, and a longer piece of the same way."""
    middle, width = (span[0] + span[1]) / 2, span[1] - span[0]
    at, ahead = _axis_of(road, side, middle, skew)
    across = left_of(ahead) * width / 2

    def way(begin: float, end: float) -> Polygon:
        return Polygon([at + ahead * begin - across, at + ahead * end - across,
                        at + ahead * end + across, at + ahead * begin + across])  # fmt: skip

    short = way(-1.5, depth)
    if radius > 0:
        reach = width / 2 + radius + 5.0
        length = total_length(road.line)
        local = LineString(cut(road.line, max(middle - reach, 0.0), min(middle + reach, length)))
        kerb = shapely.buffer(local, road.profile.width / 2, cap_style="flat", quad_segs=4)
        short = shapely.buffer(shapely.buffer(shapely.union(kerb, short), radius, quad_segs=5), -radius, quad_segs=5)
    return short, way(-0.5, depth + 9.0)


def _axis_of(road: Road, side: int, along: float, skew: float) -> tuple[np.ndarray, np.ndarray]:
    """Where a way leaves the kerb and the direction that it leaves in."""
    heading = float(headings_at(road.line, along, 1.0)) + side * np.pi / 2
    out = directions(heading)
    at = points_at(road.line, along) + out * road.profile.width / 2
    return at, directions(heading + skew)


def _middle_of(road: Road, side: int, along: float, depth: float, skew: float) -> Marking:
    at, ahead = _axis_of(road, side, along, skew)
    line = resample(at + np.outer([3.0, depth - 0.6], ahead), 2.0)
    return Marking(line, "road_divider", "dashed" if depth < 14 else "solid", "white", 2.0, 2.0)


def _apron(area: shapely.Geometry, material: DecalMaterial, gain: float) -> Decal:
    rings = tuple(np.array(part.exterior.coords) for part in shapely.get_parts(area) if part.geom_type == "Polygon")
    return Decal(rings, material, gain=gain)


def _end_streets(rng: np.random.Generator, found: Roadside, network: Network, bands: list[Polygon]) -> None:
    """Asphalt beyond the border of town, and turning circles where a street ends within it."""
    for node, arms in enumerate(network.arms):
        if len(arms) != 1:
            continue
        road, arm, spot = network.roads[arms[0].road], arms[0], network.nodes[node]
        others = [band for k, band in enumerate(bands) if k != arm.road]
        circle = shapely.Point(spot).buffer(max(road.profile.width / 2 + rng.uniform(1.0, 3.5), 7.0), quad_segs=6)
        ahead = -directions(arm.heading)
        if road.profile.width < 11 and rng.random() < 0.5 and all(circle.distance(band) > 6 for band in others):
            if all(circle.distance(area) > 3 for area in found.asphalt):
                found.asphalt.append(circle)
                found.no_parking.append(circle)
            continue
        way = shapely.buffer(LineString([spot - ahead, spot + ahead * 40.0]), road.profile.width / 2, cap_style="flat")
        if all(way.distance(band) > 5 for band in others):
            found.aprons.append(_apron(way, "asphalt", 1.0))
            found.flush.append(way)


def slip_islands(network: Network, node: int, radius: float, trim: Trims) -> list[Polygon]:
    """Triangular islands in the wide corners of a junction; cars that turn pass them on the side of the kerb."""
    pieces = [arm_area(network, arm, trim[arm.road, arm.at_start] + 3.0) for arm in network.arms[node]]
    straight = shapely.union_all(pieces)
    whole = shapely.buffer(shapely.buffer(straight, radius, quad_segs=8), -radius, quad_segs=8)
    corners = shapely.difference(shapely.buffer(whole, -SLIP_LANE_M), shapely.buffer(straight, 0.7))
    rounded = shapely.buffer(shapely.buffer(corners, -0.4), 0.4, quad_segs=3)
    return [part for part in shapely.get_parts(rounded) if part.geom_type == "Polygon" and part.area > 4.0]
