"""What stands beside and on the road: buildings, trees, poles, people, parked and moving vehicles, and the light."""

import colorsys

import numpy as np
import shapely
from shapely import MultiPolygon

from hdmap_core.datasets.synthetic.curve import directions, headings_at, left_of, points_at, total_length
from hdmap_core.datasets.synthetic.streets.junctions import Span, Zones, open_span
from hdmap_core.datasets.synthetic.streets.roads import Network, Road
from hdmap_core.datasets.synthetic.town import RGB, Appearance, Box, Crossing, Mover, VehicleKind

VEHICLES: tuple[tuple[VehicleKind, float, tuple[float, float, float]], ...] = (
    ("car", 0.82, (4.6, 1.85, 1.55)),
    ("truck", 0.11, (7.2, 2.4, 3.0)),
    ("bus", 0.07, (11.0, 2.6, 3.2)),
)
"""Kind, share, and length, width, height in metres."""
MOVER_HORIZON_S = 24.0
"""Movers stay on their routes and apart from each other for this long."""


def draw_appearance(rng: np.random.Generator, seed: int) -> Appearance:
    """Light, weather and materials of a town: from fresh dark asphalt under a clear sky to grey concrete in haze."""
    grey = float(rng.choice([rng.uniform(0.06, 0.14), rng.uniform(0.12, 0.24), rng.uniform(0.22, 0.36)]))
    warm = float(rng.normal(0, 0.05))
    strength = 0.0 if rng.random() < 0.25 else float(rng.uniform(0.3, 1.0))
    terrain = [(0.16, 0.24, 0.09), (0.24, 0.24, 0.12), (0.32, 0.27, 0.2), (0.3, 0.3, 0.29)][
        rng.choice(4, p=[0.45, 0.2, 0.2, 0.15])
    ]
    walkway = float(rng.uniform(0.22, 0.5))
    tint = rng.normal(0, 0.025, 3)
    kerb = float(rng.uniform(0.3, 0.6))
    blue = float(rng.uniform(0.1, 1.0)) * (0.3 + 0.7 * strength)
    return Appearance(
        seed=seed,
        sun_azimuth=float(rng.uniform(-np.pi, np.pi)),
        sun_elevation=float(np.deg2rad(rng.uniform(18, 75))),
        sun_strength=strength,
        exposure=float(rng.uniform(0.55, 1.2)),
        haze_per_m=float(rng.choice([0.0, rng.uniform(0.001, 0.004), rng.uniform(0.004, 0.012)], p=[0.35, 0.5, 0.15])),
        sky=(0.78 - 0.38 * blue, 0.8 - 0.2 * blue, 0.82 + 0.08 * blue),
        asphalt=clipped_colour(np.array([grey * (1 + warm), grey, grey * (1 - warm)])),
        walkway=clipped_colour(walkway + tint),
        terrain=clipped_colour(np.array(terrain) * rng.uniform(0.7, 1.4)),
        kerb=clipped_colour(kerb + 0.5 * tint),
        paint_wear=float(np.clip(rng.gamma(1.6, 0.13), 0.0, 0.6)),
    )


def clipped_colour(colour: np.ndarray) -> RGB:
    """A colour (3,) as reflectances that exist."""
    red, green, blue = (float(c) for c in np.clip(colour, 0.02, 0.95))
    return red, green, blue


def _paint(rng: np.random.Generator) -> RGB:
    """A random object colour; most cars are white, grey or black."""
    if rng.random() < 0.65:
        grey = float(rng.choice([rng.uniform(0.03, 0.1), rng.uniform(0.2, 0.5), rng.uniform(0.6, 0.85)]))
        return grey, grey, grey
    return colorsys.hsv_to_rgb(float(rng.random()), 0.9 * float(rng.uniform(0.5, 1)), float(rng.uniform(0.2, 0.7)))


def rectangles(centres: np.ndarray, yaws: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """(N,) shapely outlines on the ground: `centres` (N, 2), `yaws` (N,), `sizes` (N, 2 or more) along and across."""
    direction = directions(yaws)
    ahead, left = direction * sizes[:, :1] / 2, left_of(direction) * sizes[:, 1:2] / 2
    return shapely.polygons(np.stack([centres + ahead + left, centres - ahead + left,
                                      centres - ahead - left, centres + ahead - left], axis=1))  # fmt: skip


def _beside(
    road: Road, along: np.ndarray | float, side: int, distance: np.ndarray | float
) -> tuple[np.ndarray, np.ndarray]:
    """Points (..., 2) `distance` metres outside the kerb (side +1 left, -1 right), the road's headings (...) there."""
    heading = headings_at(road.line, along)
    reach = np.expand_dims(side * (road.profile.width / 2 + distance), -1)
    return points_at(road.line, along) + left_of(directions(heading)) * reach, heading


def _first_come(shapes: np.ndarray) -> np.ndarray:
    """(N,) bool: keep each shape that meets no kept one before it."""
    keep = np.ones(len(shapes), dtype=bool)
    later, earlier = shapely.STRtree(shapes).query(shapes, predicate="intersects")
    for a, b in sorted(zip(later.tolist(), earlier.tolist(), strict=True)):
        if b < a and keep[b]:
            keep[a] = False
    return keep


def draw_buildings(
    rng: np.random.Generator, network: Network, paved: MultiPolygon, size: tuple[float, float]
) -> list[Box]:
    """Rows of houses along the streets, set back from the walkways, and some inside the blocks."""
    density, tall = float(rng.uniform(0.45, 1.0)), float(rng.uniform(5, 24))
    rows: list[np.ndarray] = []
    for road in network.roads:
        length = total_length(road.line)
        setback = road.profile.walkway + float(rng.uniform(0.5, 7.0))
        for side in (-1, 1):
            along = float(rng.uniform(0, 15))
            while along < length:
                front, depth = rng.uniform(7, 26), rng.uniform(7, 16)
                middle = along + front / 2
                gap = setback + rng.exponential(1.0) + depth / 2
                if rng.random() < density:
                    centre, heading = _beside(road, middle, side, gap)
                    rows.append(np.array([*centre, heading, front, depth]))
                along += front + rng.uniform(0.3, 9)
    for _ in range(60):
        rows.append(np.array([*rng.uniform(6, np.array(size) - 6), rng.uniform(0, np.pi), *rng.uniform(8, 20, 2)]))
    table = np.stack(rows)
    shapes = rectangles(table[:, :2], table[:, 2], table[:, 3:5])
    shapely.prepare(paved)
    free = ~shapely.intersects(paved, shapely.buffer(shapes, 0.4, join_style="mitre"))
    table, shapes = table[free], shapes[free]
    table = table[_first_come(shapes)]
    boxes = []
    for x, y, yaw, front, depth in table.tolist():
        height = float(np.clip(rng.gamma(2.5, tall / 2.5), 3.0, 60.0))
        tone = np.array(colorsys.hsv_to_rgb(float(rng.uniform(0.02, 0.14)), float(rng.uniform(0, 0.4)), 1.0))
        boxes.append(
            Box((x, y), yaw, (front, depth, height), clipped_colour(tone * rng.uniform(0.18, 0.7)), "building")
        )
    return boxes


def draw_street_furniture(
    rng: np.random.Generator, network: Network, drivable: MultiPolygon, buildings: list[Box]
) -> list[Box]:
    """Trees, poles, fences and people beside the roads."""
    boxes: list[Box] = []
    leafy, spacing = float(rng.uniform(0, 0.9)), float(rng.uniform(8, 18))
    for road in network.roads:
        length = total_length(road.line)
        for side in (-1, 1):
            room = max(road.profile.walkway, 1.4)
            along = np.arange(rng.uniform(2, 10), length - 2, spacing)
            spots, _ = _beside(road, along, side, rng.uniform(0.8, room, len(along)))
            for spot in spots[rng.random(len(spots)) < leafy].tolist():
                crown = float(rng.uniform(1.4, 4.0))
                green = clipped_colour(np.array([0.1, 0.2, 0.06]) * rng.uniform(0.6, 1.6))
                boxes.append(Box((spot[0], spot[1]), 0.0, (crown, crown, float(rng.uniform(3.0, 8.0))), green, "tree"))
            posts = np.arange(rng.uniform(5, 25), length - 4, rng.uniform(22, 40))
            spots, _ = _beside(road, posts, side, 0.5)
            for spot in spots.tolist():
                tone = float(rng.uniform(0.1, 0.5))
                boxes.append(
                    Box((spot[0], spot[1]), 0.0, (0.18, 0.18, float(rng.uniform(3.5, 8.0))), (tone,) * 3, "pole")
                )
            walkers = rng.uniform(2, length - 2, rng.poisson(length / 45))
            spots, headings = _beside(road, walkers, side, rng.uniform(0.4, room, len(walkers)))
            boxes += [draw_person(rng, spot, float(yaw)) for spot, yaw in zip(spots, headings, strict=True)]
            if rng.random() < 0.15 and length > 30:
                begin = float(rng.uniform(5, length - 24))
                spots, headings = _beside(road, begin + 3.0 * np.arange(6), side, 0.35)
                boxes += [Box((float(x), float(y)), float(yaw), (3.0, 0.12, 1.0), (0.4, 0.4, 0.42), "barrier")
                          for (x, y), yaw in zip(spots, headings, strict=True)]  # fmt: skip
    if not boxes:
        return boxes
    # Reach of a box on the ground: trees overhang the road, so they stand by their trunks.
    ground = [0.2 if box.kind in ("tree", "pole", "person") else 1.5 for box in boxes]
    feet = shapely.points([box.centre for box in boxes])
    shapely.prepare(drivable)
    free = ~shapely.intersects(drivable, shapely.buffer(feet, 0.15))
    walls = shapely.STRtree(box_outlines(buildings))
    free[walls.query(shapely.buffer(feet, ground), predicate="intersects")[0]] = False
    return [box for box, ok in zip(boxes, free, strict=True) if ok]


def box_outlines(boxes: list[Box]) -> np.ndarray:
    """(N,) shapely outlines of boxes on the ground."""
    table = np.array([(*box.centre, box.yaw, *box.size[:2]) for box in boxes], dtype=np.float64).reshape(-1, 5)
    return rectangles(table[:, :2], table[:, 2], table[:, 3:5])


def draw_person(rng: np.random.Generator, spot: np.ndarray, yaw: float) -> Box:
    """Somebody of any height and in any colour at `spot` (2,)."""
    height = float(np.clip(rng.normal(1.7, 0.12), 1.1, 2.0))
    return Box((float(spot[0]), float(spot[1])), yaw, (0.45, 0.6, height), _paint(rng), "person")


def draw_walkers(rng: np.random.Generator, crossings: list[Crossing]) -> list[Box]:
    """People on some of the crossings."""
    people = []
    for crossing in crossings:
        for _ in range(int(rng.poisson(0.5))):
            u, v = rng.uniform(0.15, 0.85, 2)
            near, far = crossing.corners[0], crossing.corners[3]
            spot = near + u * (crossing.corners[1] - near) + v * (far - near)
            people.append(draw_person(rng, spot, float(np.arctan2(*(far - near)[::-1]))))
    return people


def _vehicle(rng: np.random.Generator) -> tuple[VehicleKind, tuple[float, float, float], RGB]:
    kind, _, size = VEHICLES[rng.choice(3, p=[share for _, share, _ in VEHICLES])]
    scaled = np.array(size) * rng.uniform(0.9, 1.12, 3)
    return kind, (float(scaled[0]), float(scaled[1]), float(scaled[2])), _paint(rng)


def draw_parked(rng: np.random.Generator, network: Network, zones: Zones, mid_crossings: dict[int, Span]) -> list[Box]:
    """Cars along the kerbs where the road has room for them."""
    boxes, fill = [], float(rng.uniform(0.25, 0.85))
    for k, road in enumerate(network.roads):
        blocked = mid_crossings.get(k, (1e9, 1e9))
        for side, room in ((-1, road.profile.parking_right), (1, road.profile.parking_left)):
            begin, end = open_span(network, zones, k)
            along, end = begin + 4, end - 4
            while room and along < end:
                kind, size, colour = _vehicle(rng)
                middle = along + size[0] / 2
                along += size[0] + float(rng.uniform(0.7, 2.0))
                meets = blocked[0] - size[0] < middle < blocked[1] + size[0]
                if kind == "bus" or along > end or meets or rng.random() > fill:
                    continue
                inward = -(size[1] / 2 + float(rng.uniform(0.15, 0.4)))
                (x, y), heading = _beside(road, middle, side, inward)
                yaw = (
                    float(heading) + float(rng.normal(0, 0.02)) + (np.pi if side > 0 and road.profile.backward else 0.0)
                )
                boxes.append(Box((float(x), float(y)), yaw, size, colour, kind))
    return boxes


def draw_movers(rng: np.random.Generator, routes: list[np.ndarray], count: int) -> list[Mover]:
    """Vehicles under way that never touch each other within `MOVER_HORIZON_S`."""
    movers: list[Mover] = []
    tracks: list[np.ndarray] = []
    times = np.arange(0.0, MOVER_HORIZON_S, 0.5)
    for _ in range(count * 3):
        route = routes[rng.integers(len(routes))]
        speed = float(rng.uniform(3.5, 10.0)) if rng.random() < 0.8 else 0.0
        slack = total_length(route) - speed * MOVER_HORIZON_S - 10
        if slack <= 10 or len(movers) >= count:
            continue
        start = float(rng.uniform(6, slack))
        track = points_at(route, start + speed * times)
        if all(np.min(np.hypot(*(track - other).T)) > 9.0 for other in tracks):
            kind, size, colour = _vehicle(rng)
            movers.append(Mover(route, start, speed, size, colour, kind))
            tracks.append(track)
    return movers
