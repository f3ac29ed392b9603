"""Solids that a lidar ray can hit in a synthetic town: upright cuboids, and ellipsoids for tree crowns."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hdmap_core.datasets.synthetic.ground.footing import box_footing, level_footing
from hdmap_core.datasets.synthetic.ground.relief import FLAT, Relief
from hdmap_core.datasets.synthetic.things.faces import Footing
from hdmap_core.datasets.synthetic.town import Box, Mover

_INTENSITY = {
    "building": 28.0, "car": 26.0, "truck": 34.0, "bus": 34.0, "tree": 14.0, "pole": 55.0, "person": 20.0,
    "barrier": 60.0, "van": 30.0, "motorcycle": 24.0, "bicycle": 22.0, "water_barrier": 50.0, "railing": 45.0,
    "cone": 70.0, "bollard": 50.0, "hedge": 14.0, "wall": 26.0, "sign": 110.0, "traffic_light": 40.0, "gantry": 60.0,
    "bus_stop": 30.0,
}  # fmt: skip

_CELLAR_M = 8.0


@dataclass(frozen=True)
class Slabs:
    """N cuboids. `offsets` (N, 2) shift a cuboid within its object's frame (the cabin of a car)."""

    centres: np.ndarray
    """(N, 2) metres, of still ones; for movers only the offset counts."""
    offsets: np.ndarray
    yaws: np.ndarray
    half_sizes: np.ndarray
    """(N, 2)."""
    spans: np.ndarray
    """(N, 2) lower and upper z."""
    intensities: np.ndarray
    source: np.ndarray
    """(N,) index of the box or mover a cuboid belongs to."""
    footing: Footing
    """What the cuboids stand on; still ones only, zero where the ground is flat."""

    @property
    def reach(self) -> np.ndarray:
        """(N,) radius of the footprints."""
        return np.hypot(self.half_sizes[:, 0], self.half_sizes[:, 1])

    def intersect(self, i: int, start: np.ndarray, rays: np.ndarray) -> np.ndarray:
        """Distance to the front of cuboid `i` along rays (C, R, 3) from (C, 1, 3), its frame; infinite if missed."""
        low = np.array([-self.half_sizes[i, 0], -self.half_sizes[i, 1], self.spans[i, 0]])
        high = np.array([self.half_sizes[i, 0], self.half_sizes[i, 1], self.spans[i, 1]])
        with np.errstate(divide="ignore", invalid="ignore"):
            a, b = (low - start) / rays, (high - start) / rays
        enter = np.fmin(a, b).max(axis=-1)
        leave = np.fmax(a, b).min(axis=-1)
        return np.where((enter <= leave) & (enter > 0.0), enter, np.inf)


@dataclass(frozen=True)
class Ellipsoids:
    """N upright ellipsoids of revolution."""

    centres: np.ndarray
    yaws: np.ndarray
    middles: np.ndarray
    """(N,) z of the centre."""
    radii: np.ndarray
    """(N, 2) horizontal and vertical."""
    intensities: np.ndarray
    footing: Footing

    @property
    def reach(self) -> np.ndarray:
        """(N,) radius of the footprints."""
        return self.radii[:, 0]

    def intersect(self, i: int, start: np.ndarray, rays: np.ndarray) -> np.ndarray:
        """Distance to ellipsoid `i` along rays (C, R, 3) from (C, 1, 3), its frame; infinite if missed."""
        scale = 1.0 / self.radii[i, [0, 0, 1]]
        p, d = (start - [0.0, 0.0, self.middles[i]]) * scale, rays * scale
        a, b, c = (d * d).sum(-1), (p * d).sum(-1), (p * p).sum(-1) - 1.0
        root = b * b - a * c
        hit = (-b - np.sqrt(np.maximum(root, 0.0))) / a
        return np.where((root > 0.0) & (hit > 0.0), hit, np.inf)


def turned(offset: np.ndarray, yaw: float) -> np.ndarray:
    """(2,) an offset in an object's frame, turned by `yaw` into the town's."""
    x, y = offset
    return np.array([x * np.cos(yaw) - y * np.sin(yaw), x * np.sin(yaw) + y * np.cos(yaw)])


def slabs_of(things: Sequence[Box | Mover], relief: Relief = FLAT) -> Slabs:
    """Cuboids of boxes or movers: a car is body and cabin, a tree only its trunk, everything else one cuboid."""
    rows = []
    for i, thing in enumerate(things):
        length, width, height = thing.size
        centre = thing.centre if isinstance(thing, Box) else (0.0, 0.0)
        yaw = thing.yaw if isinstance(thing, Box) else 0.0
        parts = [((0.0, 0.0), (length, width), (0.0, height))]
        if thing.kind == "car":
            belt = 0.58 * height
            parts = [
                ((0.0, 0.0), (length, width), (0.18, belt)),
                ((-0.07 * length, 0.0), (0.5 * length, 0.82 * width), (belt, height)),
            ]
        elif thing.kind == "tree":
            parts = [((0.0, 0.0), (0.28, 0.28), (0.0, 0.7 * height))]
        elif thing.kind in ("sign", "traffic_light"):
            parts = [((0.0, 0.0), (0.08, 0.08), (0.0, height)), ((0.0, 0.0), (0.08, width), (height - width, height))]
        elif thing.kind == "gantry":
            posts = [((0.0, y), (0.3, 0.3), (0.0, height)) for y in (-0.5 * width, 0.5 * width)]
            parts = [*posts, ((0.0, 0.0), (length, width), (height - 1.0, height))]
        for offset, size, span in parts:
            middle = centre + turned(np.array(offset), yaw)
            # Painted surfaces send back more the brighter they are.
            intensity = _INTENSITY[thing.kind] * (0.6 + 0.8 * float(np.mean(thing.colour)))
            rows.append((*middle, *offset, yaw, 0.5 * size[0], 0.5 * size[1], *span, intensity, i))
    table = np.array(rows, dtype=np.float64).reshape(-1, 11)
    source = table[:, 10].astype(int)
    below = box_footing(relief, [thing for thing in things if isinstance(thing, Box)])
    footing = below.of(source) if len(below.heights) else level_footing(len(table))
    spans = table[:, 7:9].copy()
    if not relief.is_flat:
        # Houses go on below their floor, down to the lowest ground around them.
        spans[[things[i].kind == "building" for i in source], 0] = -_CELLAR_M
    return Slabs(table[:, 0:2], table[:, 2:4], table[:, 4], table[:, 5:7], spans, table[:, 9], source, footing)


def ellipsoids_of(boxes: Sequence[Box], relief: Relief = FLAT) -> Ellipsoids:
    """The crowns of the trees among boxes, on `relief`."""
    rows = []
    for box in boxes:
        if box.kind == "tree":
            radius, height = 0.5 * max(box.size[:2]), box.size[2]
            crown_z = max(height - 1.15 * radius, 0.62 * height)
            rows.append((*box.centre, crown_z, 0.9 * radius, height - crown_z, _INTENSITY["tree"]))
    table = np.array(rows, dtype=np.float64).reshape(-1, 6)
    footing = box_footing(relief, [box for box in boxes if box.kind == "tree"])
    return Ellipsoids(table[:, 0:2], np.zeros(len(table)), table[:, 2], table[:, 3:5], table[:, 5], footing)
