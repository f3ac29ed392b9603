"""Traffic of the second edition: queues at junctions, vehicles on all lanes, and some around the ego.

Nobody drives through anybody: vehicles are rectangles, and no two of them ever meet.
"""

from dataclasses import replace

import numpy as np
import shapely

from hdmap_core.datasets.synthetic.curve import directions, headings_at, left_of, points_at, total_length
from hdmap_core.datasets.synthetic.things.scenery import MOVER_HORIZON_S, box_outlines
from hdmap_core.datasets.synthetic.town import RGB, Box, Lane, Mover, Town, VehicleKind

VEHICLES: tuple[tuple[VehicleKind, float, tuple[float, float, float]], ...] = (
    ("car", 0.6, (4.5, 1.84, 1.52)),
    ("van", 0.14, (5.2, 2.0, 2.1)),
    ("truck", 0.08, (7.4, 2.4, 3.1)),
    ("bus", 0.05, (11.0, 2.55, 3.2)),
    ("motorcycle", 0.08, (2.1, 0.8, 1.65)),
    ("bicycle", 0.05, (1.75, 0.6, 1.75)),
)
"""Kind, share, and length, width, height in metres."""
_PAINTS: tuple[RGB, ...] = (
    (0.75, 0.75, 0.74), (0.42, 0.43, 0.44), (0.14, 0.145, 0.15), (0.025, 0.025, 0.027), (0.02, 0.05, 0.18),
    (0.32, 0.02, 0.02), (0.05, 0.12, 0.1), (0.55, 0.34, 0.03), (0.22, 0.16, 0.1),
)  # fmt: skip
_PAINT_SHARES = (0.27, 0.2, 0.16, 0.16, 0.07, 0.06, 0.03, 0.03, 0.02)
EGO_REACH_M = (-1.6, 4.6)
"""Room along the ego's axis that others leave free, from the rear axle."""
EGO_HALF_WIDTH_M = 1.35
_TIMES = np.arange(0.0, MOVER_HORIZON_S, 0.5)
_GAP_M = 0.35
_WAY_M = 290.0


class _Tracks:
    """Where the vehicles of a town are at each instant, as rectangles."""

    def __init__(self, standing: list[Box]) -> None:
        self.rectangles: list[np.ndarray] = []
        self.middles: list[np.ndarray] = []
        self.standing = shapely.STRtree(box_outlines(standing)) if standing else None

    def take(self, mover: Mover) -> bool:
        """Whether a vehicle never meets those taken before; it is taken then."""
        outlines, middles = outlines_of(mover, _TIMES)
        if self.standing is not None and len(self.standing.query(outlines, predicate="intersects")[0]):
            return False
        reach = 0.5 * mover.size[0] + 7.0
        for rectangles, others in zip(self.rectangles, self.middles, strict=True):
            near = np.hypot(*(others - middles).T) < reach
            if near.any() and shapely.intersects(rectangles[near], outlines[near]).any():
                return False
        self.rectangles.append(outlines)
        self.middles.append(middles)
        return True


def outlines_of(mover: Mover, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rectangles (T,) of a vehicle with a little air around it, and its middles (T, 2), at `times` (T,)."""
    along = np.clip(mover.start + mover.speed * times, 0.0, total_length(mover.route))
    middles, yaws = points_at(mover.route, along), headings_at(mover.route, along, 1.3)
    direction = directions(yaws)
    ahead = direction * (0.5 * mover.size[0] + 2 * _GAP_M)
    left = left_of(direction) * (0.5 * mover.size[1] + 0.5 * _GAP_M)
    corners = np.stack([middles + ahead + left, middles - ahead + left, middles - ahead - left, middles + ahead - left])
    return shapely.polygons(np.swapaxes(corners, 0, 1)), middles


def with_traffic(town: Town, rng: np.random.Generator) -> Town:
    """The town with dense traffic in place of its movers, and two-wheelers and vans among what is parked."""
    parked = [_other_kind(box, rng) for box in town.boxes]
    standing = [box for box in parked if box.kind in ("car", "van", "truck", "bus", "cone", "barrier", "water_barrier")]
    tracks, movers = _Tracks(standing), []
    for mover in [*_queues(town, rng), *_running(town, rng)]:
        if tracks.take(mover):
            movers.append(mover)
    return replace(town, boxes=tuple(parked), movers=tuple(movers))


def around_ego(
    town: Town, rng: np.random.Generator, route: np.ndarray, distance: np.ndarray, times: np.ndarray
) -> Town:
    """The town with a few more vehicles that keep the ego company, and without what would be in its way.

    Args:
        town: with its own traffic.
        rng: who comes along.
        route: (P, 2) of the ego vehicle.
        distance: (T,) of the ego's rear axle along it, at `times`.
        times: (T,) town times in seconds.
    """
    at, ahead = points_at(route, distance), directions(headings_at(route, distance, 1.2))
    left = left_of(ahead) * EGO_HALF_WIDTH_M
    back, front = at + EGO_REACH_M[0] * ahead, at + EGO_REACH_M[1] * ahead
    ego = shapely.polygons(np.stack([front + left, back + left, back - left, front - left], axis=1))
    speed = float(distance[-1] - distance[0]) / max(float(times[-1] - times[0]), 1e-6)
    tracks = _Tracks([box for box in town.boxes if box.kind in ("car", "van", "truck", "bus", "cone", "water_barrier")])
    movers = []
    company = _company(town, rng, route, float(distance[0] - speed * times[0]), speed)
    for mover in [*town.movers, *company]:
        outlines, _ = outlines_of(mover, times)
        if not shapely.intersects(outlines, ego).any() and tracks.take(mover):
            movers.append(mover)
    swept = shapely.union_all(ego)
    shapely.prepare(swept)
    in_way = shapely.intersects(swept, box_outlines(list(town.boxes)))
    boxes = [
        box
        for box, hit in zip(town.boxes, in_way.tolist(), strict=True)
        if not hit or box.kind in ("building", "gantry", "tree", "pole")
    ]
    return replace(town, movers=tuple(movers), boxes=tuple(boxes))


def draw_vehicle(rng: np.random.Generator) -> tuple[VehicleKind, tuple[float, float, float], RGB]:
    """Kind, length, width, height and colour of any vehicle."""
    kind, _, size = VEHICLES[rng.choice(len(VEHICLES), p=[share for _, share, _ in VEHICLES])]
    length, width, height = (float(v) for v in np.array(size) * rng.uniform(0.92, 1.1, 3))
    return kind, (length, width, height), _paint(rng)


def _paint(rng: np.random.Generator) -> RGB:
    """A vehicle's colour: most are white, silver, grey or black."""
    red, green, blue = _PAINTS[rng.choice(len(_PAINTS), p=_PAINT_SHARES)]
    gain = float(rng.uniform(0.75, 1.25))
    return min(red * gain, 0.9), min(green * gain, 0.9), min(blue * gain, 0.9)


def _other_kind(box: Box, rng: np.random.Generator) -> Box:
    """A parked car may be a van or a motorcycle."""
    if box.kind != "car" or rng.random() > 0.25:
        return box
    if rng.random() < 0.65:
        return replace(box, kind="van", size=(box.size[0], box.size[1], float(rng.uniform(1.9, 2.3))))
    return replace(box, kind="motorcycle", size=(2.0, 0.8, 1.15))


def _queues(town: Town, rng: np.random.Generator) -> list[Mover]:
    """Vehicles that wait before junctions, nose to tail."""
    movers, share = [], float(rng.uniform(0.1, 0.55))
    for lane in town.lanes:
        room = total_length(lane.centerline)
        if lane.is_connector or not lane.outgoing or rng.random() > share:
            continue
        at = room - float(rng.uniform(1.0, 3.0))
        for _ in range(int(rng.integers(1, 6))):
            kind, size, colour = draw_vehicle(rng)
            at -= 0.5 * size[0]
            if at < 0.5 * size[0] + 1.0:
                break
            movers.append(Mover(lane.centerline, at, 0.0, size, colour, kind))
            at -= 0.5 * size[0] + float(rng.uniform(1.2, 3.0))
    return movers


def _running(town: Town, rng: np.random.Generator) -> list[Mover]:
    movers = []
    for _ in range(int(rng.integers(25, 90))):
        route = _way_through(town.lanes, rng)
        speed = float(rng.uniform(3.0, 11.0))
        slack = total_length(route) - speed * MOVER_HORIZON_S - 12.0
        if slack > 1.0:
            kind, size, colour = draw_vehicle(rng)
            movers.append(Mover(route, 6.0 + float(rng.uniform(0.0, slack)), speed, size, colour, kind))
    return movers


def _way_through(lanes: tuple[Lane, ...], rng: np.random.Generator) -> np.ndarray:
    """A path along lanes and connectors from anywhere, until it is long enough or there is no way on."""
    at = int(rng.integers(len(lanes)))
    parts = [lanes[at].centerline]
    while sum(map(total_length, parts)) < _WAY_M and lanes[at].outgoing:
        at = int(rng.choice(lanes[at].outgoing))
        parts.append(lanes[at].centerline)
    line = np.concatenate(parts)
    return line[np.r_[True, np.hypot(*np.diff(line, axis=0).T) > 1e-3]]


def _company(town: Town, rng: np.random.Generator, route: np.ndarray, start: float, speed: float) -> list[Mover]:
    """Vehicles before, behind and beside the ego, about as fast as it is on average."""
    wanted = []
    for share, low, high in ((0.65, 9.0, 24.0), (0.5, 28.0, 50.0), (0.6, -20.0, -9.0)):
        if rng.random() < share:
            wanted.append((route, float(rng.uniform(low, high))))
    for aside in (-3.5, 3.5):
        lane = _lane_beside(town, route, aside)
        if lane is not None:
            wanted += [(lane, float(rng.uniform(-18.0, 30.0))) for _ in range(int(rng.integers(0, 3)))]
    movers = []
    for line, gap in wanted:
        kind, size, colour = draw_vehicle(rng)
        pace = speed * float(rng.uniform(0.9, 1.1))
        at = start + gap
        if at > 2.0 and at + pace * MOVER_HORIZON_S < total_length(line) - 2.0:
            movers.append(Mover(line, at, pace, size, colour, kind))
    return movers


def _lane_beside(town: Town, route: np.ndarray, aside: float) -> np.ndarray | None:
    """The route shifted to the left by `aside` metres, if lanes of its direction run there most of the way."""
    along = np.arange(0.0, total_length(route), 2.0)
    heading = headings_at(route, along, 2.0)
    shifted = points_at(route, along) + aside * left_of(directions(heading))
    lines = [lane.centerline for lane in town.lanes]
    tree = shapely.STRtree([shapely.LineString(line) for line in lines])
    points, found = tree.query_nearest(shapely.points(shifted), max_distance=1.2, all_matches=False)
    agree = 0
    for point, number in zip(points.tolist(), found.tolist(), strict=True):
        line = lines[number]
        here = float(shapely.LineString(line).project(shapely.Point(shifted[point])))
        agree += bool(np.cos(headings_at(line, here, 1.0) - heading[point]) > 0.8)
    return shifted if agree > 0.7 * len(along) else None
