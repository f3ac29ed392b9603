"""Drawing the heights of a town: hills, roads that are laid into them with a crossfall, and kerbs.

Hills are a few waves over the whole town, so streets meet at the same height. Along a street the ground follows the
hill below its middle line; across it falls to one side or both, whatever the hill does. Grades are mostly below 4 %, in
one town of ten up to 9.5 %; crests and dips are as round as those of streets for 30 to 50 km/h.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import shapely
from scipy.spatial import cKDTree
from shapely import Polygon

from hdmap_core.datasets.synthetic.curve import left_normals, lengths_along, resample
from hdmap_core.datasets.synthetic.ground.brush import fill
from hdmap_core.datasets.synthetic.ground.relief import Relief
from hdmap_core.datasets.synthetic.ground.shapes import rings_of
from hdmap_core.datasets.synthetic.town import Town

CELL_M = 0.5
RAISED_TEXEL_M = 0.1
STEEPNESS = ((0.15, 0.004, 0.010), (0.45, 0.012, 0.035), (0.30, 0.035, 0.060), (0.10, 0.060, 0.095))
"""Share of towns, and between which limits their steepest grade is drawn."""
TIGHTEST_RADIUS_M = 280.0
"""Of crests and dips along a street."""
KERBS_M = (0.02, 0.06, 0.10, 0.12, 0.15, 0.18)
ISLAND_KERBS_M = (0.08, 0.12, 0.15, 0.18)
DROPPED_M = 0.015
_JUNCTION_M = 24.0
_SHOULDER_M = 1.0
_BLEND_M = 5.0
_LAND_WEIGHT = 0.04


@dataclass(frozen=True)
class _Street:
    """A street as the ground is laid below it: points every half metre (P, 2), and the height of the hill there."""

    line: np.ndarray
    heights: np.ndarray
    half_width: float
    crown: float
    tilt: float
    kerb_m: float

    def near(self, points: np.ndarray, land: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of points (N, 2) on hills as high as `land` (N,): indices (K,) of those near the street, their distance from
        its kerb (negative: on it) and their height on the road, were it as wide.
        """
        reach = self.half_width + _SHOULDER_M + _BLEND_M
        close = np.flatnonzero(((points > self.line.min(0) - reach) & (points < self.line.max(0) + reach)).all(axis=1))
        distance, at = cKDTree(self.line).query(points[close], distance_upper_bound=reach)
        found = np.isfinite(distance)
        close, distance, at = close[found], distance[found], at[found]
        away = points[close] - self.line[at]
        normals = left_normals(self.line)[at]
        along = np.clip(away[:, 0] * normals[:, 1] - away[:, 1] * normals[:, 0], -CELL_M, CELL_M)
        aside = (away * normals).sum(axis=1)
        grades = np.gradient(self.heights) / np.gradient(lengths_along(self.line))
        inner = np.clip(aside, -self.half_width, self.half_width)
        fall = self.tilt * inner - self.crown * (np.sqrt(inner**2 + 0.5) - math.sqrt(0.5))
        # Walkways fall towards the road.
        rise = 0.015 * np.maximum(np.abs(aside) - self.half_width, 0.0)
        laid = self.heights[at] + grades[at] * along + fall + rise
        # Where streets meet none is laid across another: the ground is the hill's.
        share = _smoothstep(CELL_M * np.minimum(at, len(self.line) - 1 - at) / _JUNCTION_M)
        return close, distance - self.half_width, land[close] + share * (laid - land[close])


def draw_relief(rng: np.random.Generator, town: Town) -> Relief:
    """Draw heights for a town that is finished otherwise: only its streets, outlines and crossings count."""
    columns, rows = (math.ceil(edge / CELL_M) + 1 for edge in town.size)
    x, y = np.linspace(0.0, town.size[0], columns), np.linspace(0.0, town.size[1], rows)
    points = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    outline = shapely.union_all([town.drivable, *town.islands])
    lines = [resample(street.line, CELL_M) for street in town.streets]
    hills = _draw_hills(rng, lines)
    streets = [_draw_street(rng, line, hills(line), outline) for line in lines]

    land = hills(points)
    total, weights = _LAND_WEIGHT * land, np.full(len(points), _LAND_WEIGHT)
    usual = float(rng.choice(KERBS_M[2:]))
    nearest, lift = np.full(len(points), np.inf), np.full(len(points), usual)
    for street in streets:
        close, beyond_kerb, height = street.near(points, land)
        weight = 1.0 - _smoothstep((beyond_kerb - _SHOULDER_M) / _BLEND_M)
        total[close] += weight * height
        weights[close] += weight
        is_nearer = beyond_kerb < nearest[close]
        nearest[close] = np.where(is_nearer, beyond_kerb, nearest[close])
        lift[close[is_nearer]] = street.kerb_m
    shape = (rows, columns)
    base = (total / weights).reshape(shape).astype(np.float32)
    # Roads keep their crown; land is rounded where it meets them.
    soft = _smoothstep((nearest - 1.0) / 4.0).reshape(shape).astype(np.float32)
    base = _blur(base, 0.8) * (1.0 - soft) + _blur(base, 3.0) * soft + _draw_unevenness(rng, points).reshape(shape)
    return Relief(
        town.size,
        base.astype(np.float32),
        _finish_kerbs(rng, town, lift.reshape(shape).astype(np.float32)),
        raised_mask(town),
    )


def _draw_hills(rng: np.random.Generator, lines: list[np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """The hills as a function from points (N, 2) to heights (N,), as steep and as round as the streets' lines allow."""
    count = 7
    lengths = rng.uniform(120.0, 600.0, count)
    directions = rng.uniform(0.0, 2.0 * np.pi, count)
    rates = 2.0 * np.pi / lengths * np.stack([np.cos(directions), np.sin(directions)])
    phases, slopes = rng.uniform(0.0, 2.0 * np.pi, count), rng.uniform(0.3, 1.0, count) * lengths / 600.0
    _, low, high = STEEPNESS[rng.choice(len(STEEPNESS), p=[share for share, _, _ in STEEPNESS])]
    wanted = float(rng.uniform(low, high))

    def waves(points: np.ndarray) -> np.ndarray:
        """(N, 2) to (N,)."""
        return np.sin(points @ rates + phases) @ (slopes * lengths / (2.0 * np.pi))

    grades, bends = [0.0], [0.0]
    for line in lines:
        even = resample(line, 2.0)
        if len(even) > 4:
            step = float(np.mean(np.diff(lengths_along(even))))
            grade = np.gradient(waves(even), step)
            grades.append(float(np.abs(grade).max()))
            bends.append(float(np.abs(np.gradient(grade, step)[1:-1]).max()))
    scale = min(wanted / max(max(grades), 1e-6), 1.0 / (TIGHTEST_RADIUS_M * max(max(bends), 1e-9)))
    return lambda points: scale * waves(points)


def _draw_street(rng: np.random.Generator, line: np.ndarray, heights: np.ndarray, outline: shapely.Geometry) -> _Street:
    middle = line[len(line) // 5 : max(4 * len(line) // 5, len(line) // 5 + 1)]
    half_width = float(np.clip(np.median(shapely.distance(shapely.points(middle), outline.boundary)), 2.0, 20.0))
    fall = float(rng.uniform(0.01, 0.028))
    is_one_sided = rng.random() < 0.3
    tilt = fall * float(rng.choice([-1.0, 1.0])) if is_one_sided else 0.0
    return _Street(line, heights, half_width, 0.0 if is_one_sided else fall, tilt, float(rng.choice(KERBS_M)))


def _draw_unevenness(rng: np.random.Generator, points: np.ndarray) -> np.ndarray:
    """Settled ground: waves of 7 to 25 m and at most 1 cm, which only a car's springs notice."""
    height = np.zeros(len(points))
    for length in rng.uniform(7.0, 25.0, 5):
        direction, phase = rng.uniform(0.0, 2.0 * np.pi, 2)
        rate = 2.0 * np.pi / length * np.array([np.cos(direction), np.sin(direction)])
        height += float(rng.uniform(0.0, 2e-4)) * length * np.sin(points @ rate + phase)
    return height


def _finish_kerbs(rng: np.random.Generator, town: Town, lift: np.ndarray) -> np.ndarray:
    """Heights of kerbs with the islands' own, gentle from one street to the next, dropped where people cross
    and at driveways.
    """
    rows, columns = lift.shape
    scale = np.array([columns - 1, rows - 1]) / town.size

    def paint(canvas: np.ndarray, shape: shapely.Geometry, value: float) -> None:
        for ring in rings_of(shape)[:1]:
            cv2.fillPoly(canvas, [np.rint(ring * scale).astype(np.int32)], value)

    for island in town.islands:
        paint(lift, island.buffer(1.0), float(rng.choice(ISLAND_KERBS_M)))
    lift = _blur(lift, 1.0)
    dropped = np.zeros_like(lift)
    for crossing in town.crossings:
        if rng.random() < 0.9:
            ends = crossing.corners - crossing.corners.mean(axis=0)
            walk = crossing.corners[3] - crossing.corners[0]
            longer = ends + np.sign(ends @ walk)[:, None] * 1.5 * walk / np.linalg.norm(walk)
            paint(dropped, Polygon(crossing.corners.mean(axis=0) + longer), 1.0)
    for area in town.flush:
        paint(dropped, area, 1.0)
    dropped = _blur(dropped, 0.6)
    return lift * (1.0 - dropped) + np.minimum(lift, DROPPED_M) * dropped


def raised_mask(town: Town) -> np.ndarray:
    """What is no road, as `Relief.raised` has it: (rows, columns) uint8."""
    columns, rows = (math.ceil(edge / RAISED_TEXEL_M) for edge in town.size)
    mask = np.full((rows, columns), 255, np.uint8)
    texel = town.size[0] / columns
    for part in shapely.get_parts(town.drivable.buffer(-0.6 * texel)):
        fill(mask, rings_of(part), 0, texel)
    return mask


def _smoothstep(t: np.ndarray) -> np.ndarray:
    t = np.clip(t, 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def _blur(grid: np.ndarray, sigma_m: float) -> np.ndarray:
    return np.asarray(cv2.GaussianBlur(grid, (0, 0), sigma_m / CELL_M, borderType=cv2.BORDER_REPLICATE))
