"""What stands along the streets of the second edition, besides what the first has: railings, barriers, hedges, walls,
bollards, signs, signals, gantries, bus stops, works on the road, and more people. None of it is a line of the map.
"""

from dataclasses import replace

import numpy as np
import shapely

from hdmap_core.datasets.synthetic.curve import directions, headings_at, left_of, points_at, total_length
from hdmap_core.datasets.synthetic.ground.shapes import rings_of
from hdmap_core.datasets.synthetic.things.face_parts import PALE
from hdmap_core.datasets.synthetic.things.scenery import box_outlines, clipped_colour, draw_person
from hdmap_core.datasets.synthetic.things.street_meshes import ORANGE, STEEL
from hdmap_core.datasets.synthetic.town import RGB, Box, BoxKind, Paving, Town

_HEDGE: RGB = (0.06, 0.12, 0.035)
_BRICK: RGB = (0.3, 0.14, 0.1)
_RUNS: tuple[tuple[BoxKind, float, float, float, float], ...] = (
    # kind, share, distance from the kerb, spacing, length of a run
    ("railing", 0.26, 0.35, 2.4, 30.0),
    ("hedge", 0.2, 1.6, 1.9, 25.0),
    ("wall", 0.14, 3.4, 2.9, 22.0),
    ("bollard", 0.14, 0.5, 1.8, 14.0),
    ("barrier", 0.1, 0.4, 3.0, 24.0),
    ("water_barrier", 0.1, 0.3, 2.05, 20.0),
)


def furnished(town: Town, rng: np.random.Generator) -> Town:
    """The town with its streets furnished as the second edition has them, and paved."""
    paving = Paving(
        resurfaced=float(rng.choice([0.0, rng.uniform(0.3, 1.2), rng.uniform(1.2, 2.6)], p=[0.15, 0.5, 0.35])),
        contrast=float(rng.uniform(0.2, 1.0)),
        walkway=("slabs", "pavers", "brick")[rng.choice(3, p=[0.45, 0.35, 0.2])],
        grass_edge_m=float(rng.choice([0.0, rng.uniform(0.08, 0.3)])),
    )
    added = [
        *_along_kerbs(town, rng),
        *_on_islands(town, rng),
        *_signals(town, rng),
        *_gantries(town, rng),
        *_bus_stops(town, rng),
        *_people(town, rng),
    ]
    works = _works(town, rng)
    boxes = (*town.boxes, *_beside_others(town, added, works))
    return replace(town, boxes=boxes, appearance=replace(town.appearance, paving=paving))


def _beside_others(town: Town, added: list[Box], works: list[Box]) -> list[Box]:
    """Those of the new things that stand neither on the road (unless they belong there) nor in houses or each other."""
    road = town.drivable.buffer(0.1)
    ways = shapely.union_all([*(shapely.Polygon(c.corners).buffer(1.0) for c in town.crossings), *town.flush])
    shapely.prepare(road)
    shapely.prepare(ways)
    outlines = box_outlines([*added, *works])
    overhead = np.array([box.kind == "gantry" for box in added] + [True] * len(works), dtype=bool)
    free = overhead | ~shapely.intersects(road, outlines)
    free &= overhead | ~shapely.intersects(ways, outlines)
    # Roads go on beyond the town's edge.
    free &= shapely.covers(shapely.box(4.0, 4.0, town.size[0] - 4.0, town.size[1] - 4.0), outlines)
    houses = [box for box in town.boxes if box.kind in ("building", "tree", "pole")]
    taken = box_outlines([replace(h, size=(0.4, 0.4, 3.0)) if h.kind != "building" else h for h in houses])
    if len(taken):
        hits = shapely.STRtree(taken).query(outlines, predicate="intersects")[0]
        free[[i for i in np.unique(hits) if not overhead[i]]] = False
    later, earlier = shapely.STRtree(outlines).query(shapely.buffer(outlines, -0.05), predicate="intersects")
    for a, b in sorted(zip(later.tolist(), earlier.tolist(), strict=True)):
        if b < a and free[b] and not overhead[a]:
            free[a] = False
    return [box for box, ok in zip([*added, *works], free, strict=True) if ok]


def _kerbs(town: Town) -> list[tuple[np.ndarray, float]]:
    """Outlines of the asphalt with the side, +1 left or -1 right, that is no road."""
    found = []
    for ring in rings_of(town.drivable):
        if total_length(ring) < 25.0:
            continue
        inside, _ = _beside_kerb(ring, 1.0, 0.5 * total_length(ring), 0.3)
        found.append((ring, -1.0 if town.drivable.covers(shapely.Point(inside)) else 1.0))
    return found


def _beside_kerb(ring: np.ndarray, side: float, along: np.ndarray | float, gap: float) -> tuple[np.ndarray, np.ndarray]:
    """Points (..., 2) `gap` metres beside places (...) along a kerb, and the kerb's headings (...) there."""
    heading = headings_at(ring, along, 0.7)
    return points_at(ring, along) + side * gap * left_of(directions(heading)), heading


def _along_kerbs(town: Town, rng: np.random.Generator) -> list[Box]:
    boxes: list[Box] = []
    furnished_share = float(rng.uniform(0.15, 0.75))
    shares = np.array([share for _, share, *_ in _RUNS])
    for ring, side in _kerbs(town):
        along, length = float(rng.uniform(0, 10)), total_length(ring)
        while along < length - 5.0:
            kind, _, gap, spacing, typical = _RUNS[rng.choice(len(_RUNS), p=shares / shares.sum())]
            run = min(typical * float(rng.uniform(0.4, 2.0)), length - along)
            if rng.random() < furnished_share:
                spots, headings = _beside_kerb(ring, side, np.arange(along, along + run, spacing), gap)
                boxes += _run(kind, spacing, spots, headings, rng)
            along += run + float(rng.uniform(2.0, 12.0))
        signs = np.arange(rng.uniform(5, 30), length - 4, rng.uniform(25, 70))
        spots, headings = _beside_kerb(ring, side, signs, 0.7)
        for (x, y), heading in zip(spots.tolist(), headings.tolist(), strict=True):
            yaw = heading + (np.pi if rng.random() < 0.5 else 0.0)
            size = (0.1, float(rng.uniform(0.5, 1.3)), float(rng.uniform(2.0, 3.3)))
            boxes.append(Box((x, y), yaw, size, ((0.6, 0.03, 0.03), PALE)[rng.integers(2)], "sign"))
    return boxes


def _run(kind: BoxKind, spacing: float, spots: np.ndarray, headings: np.ndarray, rng: np.random.Generator) -> list[Box]:
    """A row of like things."""
    tint, height = float(rng.uniform(0.6, 1.5)), float(rng.uniform(0.85, 1.2))
    striped = rng.random() < 0.7
    sizes = {
        "railing": (spacing, 0.06, 1.05 * height), "hedge": (spacing + 0.1, 0.9, 1.1 * height**2),
        "wall": (spacing + 0.1, 0.25, 1.3 * height**3), "bollard": (0.14, 0.14, 0.95 * height),
        "barrier": (spacing, 0.45, 0.85), "water_barrier": (2.0, 0.5, 0.95), "cone": (0.35, 0.35, 0.75),
    }  # fmt: skip
    colours = {
        "railing": (STEEL, (0.02, 0.1, 0.05), (0.6, 0.6, 0.58))[rng.integers(3)], "hedge": _HEDGE,
        "wall": (_BRICK, (0.45, 0.43, 0.4))[rng.integers(2)], "bollard": (0.05, 0.05, 0.05),
        "barrier": (0.42, 0.41, 0.39), "water_barrier": ORANGE, "cone": ORANGE,
    }  # fmt: skip
    boxes = []
    for i, ((x, y), heading) in enumerate(zip(spots.tolist(), headings.tolist(), strict=True)):
        colour = (
            clipped_colour(np.asarray(colours[kind]) * tint) if kind not in ("water_barrier", "cone") else colours[kind]
        )
        if kind == "water_barrier":
            colour = PALE if striped and i % 2 else (0.6, 0.07, 0.03)
            heading += float(rng.normal(0.0, 0.04))
        boxes.append(Box((x, y), heading, sizes[kind], colour, kind))
    return boxes


def _on_islands(town: Town, rng: np.random.Generator) -> list[Box]:
    boxes: list[Box] = []
    for island in town.islands:
        if rng.random() > 0.55:
            continue
        kind: BoxKind = ("water_barrier", "barrier", "railing", "hedge")[rng.integers(4)]
        corners = np.asarray(island.minimum_rotated_rectangle.exterior.coords)[:4]
        if np.linalg.norm(corners[1] - corners[0]) < np.linalg.norm(corners[2] - corners[1]):
            corners = np.roll(corners, -1, axis=0)
        axis = np.stack([(corners[0] + corners[3]) / 2, (corners[1] + corners[2]) / 2])
        spacing = 2.05 if kind == "water_barrier" else 2.5
        along = np.arange(1.5, total_length(axis) - 1.5, spacing)
        if not len(along):
            continue
        run = _run(kind, spacing, points_at(axis, along), headings_at(axis, along), rng)
        boxes += [box for box in run if island.covers(box_outlines([box])[0])]
    return boxes


def _signals(town: Town, rng: np.random.Generator) -> list[Box]:
    """Traffic lights beside stop lines, facing those who wait."""
    boxes = []
    lit_share = float(rng.uniform(0.2, 0.9))
    lanes = [lane.centerline for lane in town.lanes if not lane.is_connector]
    for bar in town.stop_lines:
        if not lanes or rng.random() > lit_share:
            continue
        middle = np.asarray(bar).mean(axis=0)
        ends = shapely.distance(shapely.points(middle), shapely.linestrings([lane[-2:] for lane in lanes]))
        lane = lanes[int(np.argmin(ends))]
        heading = float(np.arctan2(*(lane[-1] - lane[-2])[::-1]))
        kerb = town.drivable.boundary
        foot = kerb.interpolate(kerb.project(shapely.Point(middle)))
        outward = np.array([foot.x, foot.y]) - middle
        outward /= max(float(np.linalg.norm(outward)), 1e-6)
        x, y = (np.array([foot.x, foot.y]) + 0.6 * outward).tolist()
        boxes.append(Box((x, y), heading + np.pi, (0.2, 0.36, float(rng.uniform(3.0, 4.5))), STEEL, "traffic_light"))
    return boxes


def _gantries(town: Town, rng: np.random.Generator) -> list[Box]:
    boxes = []
    lanes = [lane.centerline for lane in town.lanes if not lane.is_connector and total_length(lane.centerline) > 30]
    for _ in range(int(rng.choice([0, 1, 2], p=[0.5, 0.35, 0.15]))):
        line = lanes[rng.integers(len(lanes))]
        at = rng.uniform(0.3, 0.7) * total_length(line)
        spot, heading = points_at(line, at), float(headings_at(line, at))
        left = left_of(directions(heading))
        across = shapely.LineString([spot - 25 * left, spot + 25 * left]).intersection(town.drivable)
        pieces = [p for p in shapely.get_parts(across) if p.distance(shapely.Point(spot)) < 0.1]
        if not pieces or pieces[0].length > 28.0:
            continue
        ends = np.asarray(pieces[0].coords)
        x, y = ends.mean(axis=0).tolist()
        yaw = heading + (np.pi if rng.random() < 0.7 else 0.0)
        boxes.append(Box((x, y), yaw, (0.5, pieces[0].length + 1.6, float(rng.uniform(5.8, 7.0))), STEEL, "gantry"))
    return boxes


def _bus_stops(town: Town, rng: np.random.Generator) -> list[Box]:
    boxes = []
    for ring, side in _kerbs(town):
        for _ in range(rng.poisson(total_length(ring) / 350.0)):
            (x, y), heading = _beside_kerb(ring, side, rng.uniform(2.0, total_length(ring) - 2.0), 1.9)
            yaw = float(heading) + (0.0 if side > 0 else np.pi)
            colour = clipped_colour(rng.uniform(0.1, 0.7, 3))
            size = (float(rng.uniform(3.0, 5.0)), 1.5, 2.5)
            boxes.append(Box((float(x), float(y)), yaw, size, colour, "bus_stop"))
    return boxes


def _people(town: Town, rng: np.random.Generator) -> list[Box]:
    boxes = []
    for ring, side in _kerbs(town):
        for _ in range(rng.poisson(total_length(ring) / float(rng.uniform(20.0, 90.0)))):
            at = float(rng.uniform(0.0, total_length(ring)))
            for _ in range(int(rng.choice([1, 2, 4], p=[0.6, 0.3, 0.1]))):
                along = at + rng.normal(0.0, 1.0)
                spot, heading = _beside_kerb(ring, side, along, float(rng.uniform(0.5, 2.6)))
                boxes.append(draw_person(rng, spot, float(heading)))
    return boxes


def _works(town: Town, rng: np.random.Generator) -> list[Box]:
    """Works on the road: barriers or cones around a piece of a lane that nobody's route uses."""
    boxes: list[Box] = []
    ways = shapely.multilinestrings([shapely.linestrings(route) for route in town.routes])
    lanes = [lane.centerline for lane in town.lanes if not lane.is_connector and total_length(lane.centerline) > 25]
    for _ in range(int(rng.choice([0, 1, 2, 3], p=[0.3, 0.35, 0.2, 0.15]))):
        line = lanes[rng.integers(len(lanes))]
        length = float(min(rng.uniform(8.0, 28.0), total_length(line) - 6.0))
        start = float(rng.uniform(2.0, total_length(line) - length - 2.0))
        kind: BoxKind = ("cone", "water_barrier", "barrier")[rng.integers(3)]
        spacing = {"cone": float(rng.uniform(1.5, 3.0)), "water_barrier": 2.05, "barrier": 3.05}[kind]
        along = np.arange(start, start + length, spacing)
        heading = headings_at(line, along)
        left = left_of(directions(heading))
        spots = points_at(line, along)
        run = _run(kind, spacing, spots + rng.choice([-1.4, 1.4]) * left, heading, rng)
        boxes += [box for box in run if ways.distance(shapely.Point(box.centre)) > 1.6]
        if run and ways.distance(shapely.Point(spots[len(spots) // 2])) > 1.6:
            boxes.append(replace(draw_person(rng, spots[len(spots) // 2], 0.0), colour=ORANGE))
    return boxes
