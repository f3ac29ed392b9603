"""Drawing a whole town from one number."""

from dataclasses import replace

import numpy as np
import shapely
from shapely import MultiPolygon, Polygon
from shapely.geometry.base import BaseGeometry

from hdmap_core.datasets.synthetic.curve import points_at, total_length
from hdmap_core.datasets.synthetic.ground.terrain import draw_relief
from hdmap_core.datasets.synthetic.presets import TOWN_SIZE_M
from hdmap_core.datasets.synthetic.streets import paint
from hdmap_core.datasets.synthetic.streets.junctions import LayoutError
from hdmap_core.datasets.synthetic.streets.kerb_lines import draw_kerb_lines
from hdmap_core.datasets.synthetic.streets.kerb_styles import draw_kerb_paint
from hdmap_core.datasets.synthetic.streets.layout import draw_markings, first_layout, second_layout
from hdmap_core.datasets.synthetic.streets.road_repairs import draw_repairs
from hdmap_core.datasets.synthetic.streets.road_symbols import draw_symbols
from hdmap_core.datasets.synthetic.streets.roads import Network
from hdmap_core.datasets.synthetic.streets.roadside import Roadside
from hdmap_core.datasets.synthetic.streets.surface import Surface
from hdmap_core.datasets.synthetic.things import scenery
from hdmap_core.datasets.synthetic.things.street_scene import furnished
from hdmap_core.datasets.synthetic.things.traffic import with_traffic
from hdmap_core.datasets.synthetic.town import Box, Decal, KerbPaint, Lane, Mover, RoadSegment, Street, Town

MAX_ATTEMPTS = 60
SIZE = (TOWN_SIZE_M, TOWN_SIZE_M)
CLEARANCE_M = 7.0
"""Least distance between the front of a mover and the ego vehicle."""


def generate_town(seed: int, drives_left: bool = False, edition: int = 1) -> Town:
    """Draw a town; the same arguments always give the same town.

    Args:
        seed: any non-negative number.
        drives_left: mirror the town, so that traffic keeps left.
        edition: of the world, 1 or 2. Edition 1 stays as it is.

    Raises:
        LayoutError: none of 60 draws is of use.
    """
    for attempt in range(MAX_ATTEMPTS):
        try:
            town = _draw(seed, attempt, edition, drives_left)
        except LayoutError:
            continue
        if edition > 1:
            town = furnished(town, np.random.default_rng([seed, attempt, 31]))
            town = with_traffic(town, np.random.default_rng([seed, attempt, 32]))
            town = replace(town, relief=draw_relief(np.random.default_rng([seed, attempt, 21]), town))
        return mirrored(town) if drives_left else town
    raise LayoutError(f"no usable street plan within {MAX_ATTEMPTS} attempts, seed {seed}")


def _draw(seed: int, attempt: int, edition: int, drives_left: bool) -> Town:
    """A town for driving on the right; `drives_left`: it will be mirrored, and words are to be read after that."""
    rng = np.random.default_rng([seed, attempt])
    # The second edition draws its streets by generators of their own, so that neither shifts the other's numbers.
    streets_rng, paint_rng = (np.random.default_rng([seed, attempt, k]) for k in (11, 12))
    layout = first_layout(rng, SIZE) if edition == 1 else second_layout(streets_rng, SIZE)
    network, zones, mid_crossings, surface = layout.network, layout.zones, layout.mid_crossings, layout.surface
    walkways = _walkways(network, surface)
    paved = shapely.union_all([surface.outline, *walkways, *layout.beside.flush])
    buildings = scenery.draw_buildings(rng, network, paved, SIZE)
    crossings = paint.crossings(rng if edition == 1 else paint_rng, network, zones, mid_crossings)
    if edition == 2:
        crossings = paint.with_stripes_of_their_own(paint_rng, crossings)
    boxes = [
        *buildings,
        *scenery.draw_street_furniture(rng, network, surface.outline, buildings),
        *scenery.draw_parked(rng, network, zones, mid_crossings),
        *scenery.draw_walkers(rng, crossings),
    ]
    markings = draw_markings(paint_rng, layout, crossings)
    decals: list[Decal] = []
    kerb_paint: list[KerbPaint] = []
    if edition == 2:
        decals_rng = np.random.default_rng([seed, attempt, 13])
        decals = [
            *layout.beside.aprons,
            *draw_repairs(decals_rng, layout, markings, crossings),
            *draw_kerb_lines(decals_rng, layout, crossings),
            *draw_symbols(decals_rng, layout, drives_left),
        ]
        kerb_paint = draw_kerb_paint(np.random.default_rng([seed, attempt, 14]), surface.drivable, surface.islands)
    return Town(
        seed=seed,
        size=SIZE,
        drivable=surface.drivable,
        road_segments=surface.road_segments,
        lanes=layout.lanes,
        markings=tuple(markings),
        crossings=tuple(crossings),
        stop_lines=tuple(paint.stop_lines(network, zones)),
        walkways=tuple(walkways),
        boxes=tuple(_out_of_the_way(boxes, layout.beside)),
        movers=tuple(scenery.draw_movers(rng, list(layout.routes), int(rng.integers(8, 26)))),
        routes=layout.routes,
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
        decals=tuple(decals),
        kerb_paint=tuple(kerb_paint),
        flush=tuple(layout.beside.flush),
    )


def _out_of_the_way(boxes: list[Box], beside: Roadside) -> list[Box]:
    """Boxes without those that would stand in driveways and bays; houses never do."""
    ways = [*beside.no_parking, *beside.flush]
    if not ways:
        return boxes
    places = shapely.points([box.centre for box in boxes])
    blocked = np.zeros(len(boxes), dtype=bool)
    blocked[shapely.STRtree(places).query(ways, predicate="intersects")[1]] = True
    return [box for box, is_blocked in zip(boxes, blocked, strict=True) if box.kind == "building" or not is_blocked]


def _walkways(network: Network, surface: Surface) -> list[Polygon]:
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
    area = shapely.intersection(area.difference(surface.outline), shapely.box(0.5, 0.5, SIZE[0] - 0.5, SIZE[1] - 0.5))
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
        drivable=MultiPolygon(shapely.get_parts(shape(town.drivable))),
        road_segments=tuple(RoadSegment(shape(s.polygon), s.is_intersection) for s in town.road_segments),
        lanes=tuple(Lane(shape(k.polygon), points(k.centerline), k.is_connector, k.outgoing) for k in town.lanes),
        # The right of a line is seen on its left in the mirror, unless it runs the other way.
        markings=tuple(
            replace(m, line=points(m.line)[:: -1 if m.style == "solid_dashed" else 1]) for m in town.markings
        ),
        crossings=tuple(replace(c, corners=points(c.corners)) for c in town.crossings),
        stop_lines=tuple(points(bar) for bar in town.stop_lines),
        walkways=tuple(shape(w) for w in town.walkways),
        boxes=tuple(replace(b, centre=(width - b.centre[0], b.centre[1]), yaw=np.pi - b.yaw) for b in town.boxes),
        movers=tuple(replace(m, route=points(m.route)) for m in town.movers),
        routes=tuple(points(r) for r in town.routes),
        streets=tuple(replace(s, line=points(s.line)) for s in town.streets),
        islands=tuple(shape(i) for i in town.islands),
        relief=town.relief.mirrored(),
        decals=tuple(replace(d, rings=tuple(points(ring) for ring in d.rings)) for d in town.decals),
        kerb_paint=tuple(replace(k, line=points(k.line)) for k in town.kerb_paint),
        flush=tuple(shape(area) for area in town.flush),
    )


def movers_clear_of(town: Town, ego_track: np.ndarray, times: np.ndarray) -> Town:
    """The town without the movers and loose boxes that the ego vehicle would run into.

    Args:
        town: as drawn.
        ego_track: (N, 2) positions of the ego vehicle.
        times: (N,) town times in seconds that they belong to.
    """
    movers: list[Mover] = []
    for mover in town.movers:
        length = total_length(mover.route)
        track = points_at(mover.route, np.clip(mover.start + mover.speed * times, 0.0, length))
        if np.min(np.hypot(*(track - ego_track).T)) > CLEARANCE_M + mover.size[0] / 2:
            movers.append(mover)

    def is_clear(box: Box) -> bool:
        if box.kind == "building":
            return True
        gap = np.min(np.hypot(*(np.array(box.centre) - ego_track).T))
        return bool(gap > (2.6 if box.kind == "person" else 1.9) or box.kind in ("tree", "pole", "barrier"))

    return replace(town, movers=tuple(movers), boxes=tuple(box for box in town.boxes if is_clear(box)))
