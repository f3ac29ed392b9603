"""Drawing a whole town from one number."""

from dataclasses import replace

import numpy as np
import shapely
from shapely import MultiPolygon, Polygon
from shapely.geometry.base import BaseGeometry

from hdmap_core.datasets.synthetic import lanes, paint, scenery
from hdmap_core.datasets.synthetic.curve import points_at, total_length
from hdmap_core.datasets.synthetic.roads import Network, generate_network
from hdmap_core.datasets.synthetic.street_scene import furnished
from hdmap_core.datasets.synthetic.surface import (
    LayoutError,
    Surface,
    arm_zones,
    build_surface,
    junction_radii,
    median_islands,
    trims,
)
from hdmap_core.datasets.synthetic.terrain import draw_relief
from hdmap_core.datasets.synthetic.town import Box, Crossing, Lane, Marking, Mover, RoadSegment, Street, Town
from hdmap_core.datasets.synthetic.traffic import with_traffic

ROUTE_LENGTH_M = 290.0
MAX_ATTEMPTS = 60


def generate_town(
    seed: int, size: tuple[float, float] = (320.0, 320.0), drives_left: bool = False, edition: int = 1
) -> Town:
    """Draw a town; the same arguments always give the same town.

    Args:
        seed: any non-negative number.
        size: width and height in metres, at least 220 each.
        drives_left: mirror the town, so that traffic keeps left.
        edition: of the world, 1 or 2. Edition 1 stays as it is.

    Raises:
        ValueError: `size` is too small for a town.
    """
    if min(size) < 220:
        raise ValueError(f"a town needs at least 220 x 220 m, not {size[0]} x {size[1]}")
    for attempt in range(MAX_ATTEMPTS):
        rng = np.random.default_rng([seed, attempt])
        try:
            town = _draw(rng, seed, size, edition)
        except LayoutError:
            continue
        if edition > 1:
            town = furnished(town, np.random.default_rng([seed, attempt, 31]))
            town = with_traffic(town, np.random.default_rng([seed, attempt, 32]))
            town = replace(town, relief=draw_relief(np.random.default_rng([seed, attempt, 21]), town))
        return mirrored(town) if drives_left else town
    raise LayoutError(f"no usable street plan within {MAX_ATTEMPTS} attempts, seed {seed}, size {size}")


def _draw(rng: np.random.Generator, seed: int, size: tuple[float, float], edition: int) -> Town:
    network = generate_network(rng, size)
    radii = junction_radii(rng, network)
    trim = trims(network, radii)
    zones = arm_zones(rng, network, trim)
    mid_crossings = paint.draw_mid_crossings(rng, network, zones)
    islands = median_islands(rng, network, zones, mid_crossings)
    surface = build_surface(network, radii, trim, islands)
    all_lanes, roads_of = lanes.build_lanes(network, trim)
    routes = lanes.draw_routes(rng, all_lanes, roads_of, surface.drivable.buffer(-0.8), 8, ROUTE_LENGTH_M)
    if len(routes) < 3:
        raise LayoutError("too few ways through the town")
    walkways = _walkways(network, surface, size)
    paved = shapely.union_all([surface.outline, *walkways])
    buildings = scenery.draw_buildings(rng, network, paved, size)
    crossings = paint.crossings(rng, network, zones, mid_crossings)
    boxes = [
        *buildings,
        *scenery.draw_street_furniture(rng, network, surface.outline, buildings),
        *scenery.draw_parked(rng, network, zones, mid_crossings),
        *scenery.draw_walkers(rng, crossings),
    ]
    return Town(
        seed=seed,
        size=size,
        drives_left=False,
        drivable=surface.drivable,
        road_segments=surface.road_segments,
        lanes=tuple(all_lanes),
        markings=tuple(paint.markings(network, zones, mid_crossings, crossings)),
        crossings=tuple(crossings),
        stop_lines=tuple(paint.stop_lines(network, zones)),
        walkways=tuple(walkways),
        boxes=tuple(boxes),
        movers=tuple(scenery.draw_movers(rng, routes, int(rng.integers(8, 26)))),
        routes=tuple(routes),
        streets=tuple(
            Street(
                road.line[::4] if len(road.line) > 8 else road.line,
                road.profile.forward + road.profile.backward,
                not (road.profile.forward and road.profile.backward),
            )
            for road in network.roads
        ),
        appearance=scenery.draw_appearance(rng, seed),
        islands=surface.islands,
    )


def _walkways(network: Network, surface: Surface, size: tuple[float, float]) -> list[Polygon]:
    """Strips beside the roads, as wide as each road says, never on the asphalt."""
    bands = [
        shapely.buffer(shapely.LineString(road.line), road.profile.width / 2 + road.profile.walkway, quad_segs=3)
        for road in network.roads
        if road.profile.walkway > 0
    ]
    if not bands:
        return []
    # Corners of junctions get the walkway of the roads that meet there.
    area = shapely.union_all(bands).buffer(5.0, quad_segs=3).buffer(-5.0, quad_segs=3)
    area = shapely.intersection(area.difference(surface.outline), shapely.box(0.5, 0.5, size[0] - 0.5, size[1] - 0.5))
    parts = shapely.get_parts(shapely.set_precision(shapely.simplify(area, 0.02), 0.001))
    return [part for part in parts if isinstance(part, Polygon) and part.area > 1.0]


def mirrored(town: Town) -> Town:
    """The town seen in a mirror that stands north-south: left becomes right, traffic keeps to the other side."""
    width = town.size[0]

    def points(xy: np.ndarray) -> np.ndarray:
        return np.stack([width - xy[:, 0], xy[:, 1]], axis=-1)

    def shape(geometry: BaseGeometry) -> BaseGeometry:
        # 1 mm coordinates stay on the grid, so shared vertices stay shared.
        return shapely.normalize(shapely.transform(geometry, lambda xy: np.round(points(xy), 3)))

    return replace(
        town,
        drives_left=not town.drives_left,
        drivable=MultiPolygon(shapely.get_parts(shape(town.drivable))),
        road_segments=tuple(RoadSegment(shape(s.polygon), s.is_intersection) for s in town.road_segments),
        lanes=tuple(Lane(shape(k.polygon), points(k.centerline), k.is_connector, k.outgoing) for k in town.lanes),
        markings=tuple(Marking(points(m.line), m.kind, m.style, m.colour) for m in town.markings),
        crossings=tuple(Crossing(points(c.corners), c.style) for c in town.crossings),
        stop_lines=tuple(points(bar) for bar in town.stop_lines),
        walkways=tuple(shape(w) for w in town.walkways),
        boxes=tuple(replace(b, centre=(width - b.centre[0], b.centre[1]), yaw=np.pi - b.yaw) for b in town.boxes),
        movers=tuple(replace(m, route=points(m.route)) for m in town.movers),
        routes=tuple(points(r) for r in town.routes),
        streets=tuple(replace(s, line=points(s.line)) for s in town.streets),
        islands=tuple(shape(i) for i in town.islands),
        relief=town.relief.mirrored(),
    )


def movers_clear_of(town: Town, ego_track: np.ndarray, times: np.ndarray, clearance: float = 7.0) -> Town:
    """The town without the movers and loose boxes that the ego vehicle would run into.

    Args:
        town: as drawn.
        ego_track: (N, 2) positions of the ego vehicle.
        times: (N,) town times in seconds that they belong to.
        clearance: smallest allowed distance between a mover's middle and the ego in metres.
    """
    movers: list[Mover] = []
    for mover in town.movers:
        length = total_length(mover.route)
        track = points_at(mover.route, np.clip(mover.start + mover.speed * times, 0.0, length))
        if np.min(np.hypot(*(track - ego_track).T)) > clearance + mover.size[0] / 2:
            movers.append(mover)

    def is_clear(box: Box) -> bool:
        if box.kind == "building":
            return True
        gap = np.min(np.hypot(*(np.array(box.centre) - ego_track).T))
        return bool(gap > (2.6 if box.kind == "person" else 1.9) or box.kind in ("tree", "pole", "barrier"))

    return replace(town, movers=tuple(movers), boxes=tuple(box for box in town.boxes if is_clear(box)))
