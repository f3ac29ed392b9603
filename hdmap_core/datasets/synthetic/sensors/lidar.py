"""A turning 32-beam lidar in a synthetic town.

Copies the shape of a nuScenes LIDAR_TOP sweep: lidar frame x right, y forward, z up; the turn starts at the vehicle's
left and goes clockwise seen from above; the ring index runs fastest, ring 0 looks lowest; points are given in the
lidar frame at the end of the turn (motion-corrected); a beam without return leaves a point near the sensor.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hdmap_core.datasets.synthetic.ground.footing import ground_below
from hdmap_core.datasets.synthetic.ground.picture import REFLECTIVITY_TEXEL_M, TERRAIN_INTENSITY, bake_reflectivity
from hdmap_core.datasets.synthetic.ground.relief_rays import relief_ranges
from hdmap_core.datasets.synthetic.sensors.cameras import mover_poses
from hdmap_core.datasets.synthetic.sensors.lidar_shapes import Ellipsoids, Slabs, ellipsoids_of, slabs_of, turned
from hdmap_core.datasets.synthetic.town import Town

NUM_RINGS = 32
NUM_COLUMNS = 1084
LOWEST_RAD, HIGHEST_RAD = math.radians(-30.6), math.radians(10.7)
TURN_S = 0.05
FARTHEST_M = 100.0
RANGE_NOISE_M = 0.015
_KNOTS = 17


@dataclass
class _Turn:
    """C columns of R beams, and the nearest that each has met so far."""

    origins: np.ndarray
    """(C, 3) metres, town frame."""
    rays: np.ndarray
    """(C, R, 3) unit vectors."""
    ranges: np.ndarray
    """(C, R) metres, infinite where nothing is met."""
    intensities: np.ndarray

    @cached_property
    def bearings(self) -> np.ndarray:
        """(C,) radians, of the middle beams."""
        return np.arctan2(self.rays[:, NUM_RINGS // 2, 1], self.rays[:, NUM_RINGS // 2, 0])


class TownLidar:
    """Casts sweeps in one town. Holds what does not change: reflectivity of the ground, shapes that stand still."""

    def __init__(self, town: Town) -> None:
        self.town = town
        self.reflectivity = bake_reflectivity(town)
        self.still = slabs_of(town.boxes, town.relief)
        self.crowns = ellipsoids_of(town.boxes, town.relief)
        self.moving = slabs_of(town.movers)

    def cast_sweep(
        self,
        town_from_ego: Callable[[float], np.ndarray],
        ego_from_lidar: np.ndarray,
        time_s: float,
        seed: int,
    ) -> np.ndarray:
        """One turn.

        Args:
            town_from_ego: pose (4, 4) of the vehicle at a time in seconds; asked within 50 ms before `time_s`.
            ego_from_lidar: (4, 4) mounting; lidar frame x right, y forward, z up.
            time_s: end of the turn.
            seed: of range noise and lost echoes. Equal inputs give equal bytes.

        Returns:
            (34688, 5) float32: x, y, z [m, lidar frame at `time_s`], intensity 0..255 (whole numbers), ring 0..31.
        """
        rng = np.random.default_rng([seed, self.town.seed])
        share = (np.arange(NUM_COLUMNS) + 1.0) / NUM_COLUMNS
        column_s = time_s - TURN_S * (1.0 - share)
        town_from_lidar = _poses(town_from_ego, ego_from_lidar, time_s, share)
        rays = np.einsum("cij,crj->cri", town_from_lidar[:, :3, :3], _beam_directions())
        origins = town_from_lidar[:, :3, 3]

        turn = _Turn(origins, rays, *self._ground_hits(origins, rays))
        self._box_hits(turn, column_s, time_s)
        ranges, intensities = turn.ranges, turn.intensities

        # Weak echoes get lost: on dark ground at a flat angle long before the nominal range, anything now and then.
        fades = np.clip((ranges - 30.0) / 70.0, 0.0, 1.0) * np.where(intensities < 40.0, 0.8, 0.2)
        lost = rng.random(ranges.shape) < 0.004 + fades
        missing = ~np.isfinite(ranges) | (ranges > FARTHEST_M) | lost
        ranges = np.where(missing, 0.0, ranges + rng.normal(0.0, RANGE_NOISE_M, ranges.shape))
        intensities = np.where(missing, 0.0, intensities * rng.uniform(0.75, 1.25, ranges.shape))

        points = origins[:, None] + rays * ranges[..., None]
        lidar_from_town = np.linalg.inv(town_from_ego(time_s) @ ego_from_lidar)
        points = points.reshape(-1, 3) @ lidar_from_town[:3, :3].T + lidar_from_town[:3, 3]
        sweep = np.empty((NUM_COLUMNS * NUM_RINGS, 5), np.float32)
        sweep[:, :3] = points
        sweep[:, 3] = np.clip(np.rint(intensities), 0, 255).ravel()
        sweep[:, 4] = np.tile(np.arange(NUM_RINGS), NUM_COLUMNS)
        return sweep

    def _ground_hits(self, origins: np.ndarray, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Ranges (C, R), infinite where no ground is met, and intensities (C, R) of the ground."""
        if self.town.relief.is_flat:
            sinks = rays[..., 2] < -1e-4
            ranges = np.where(sinks, -origins[:, None, 2] / np.where(sinks, rays[..., 2], -1.0), np.inf)
        else:
            ranges = relief_ranges(self.town.relief, origins, rays, FARTHEST_M)
        reach = np.where(ranges < 2.0 * FARTHEST_M, ranges, 0.0)
        column = np.floor((origins[:, None, 0] + rays[..., 0] * reach) / REFLECTIVITY_TEXEL_M).astype(int)
        row = np.floor((origins[:, None, 1] + rays[..., 1] * reach) / REFLECTIVITY_TEXEL_M).astype(int)
        height, width = self.reflectivity.shape
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        intensities = np.full(ranges.shape, float(TERRAIN_INTENSITY))
        intensities[inside] = self.reflectivity[row[inside], column[inside]]
        return ranges, intensities

    def _box_hits(self, turn: _Turn, column_s: np.ndarray, time_s: float) -> None:
        """Shorten ranges in place where something stands in the way of columns fired at `column_s` (C,)."""
        eye = turn.origins[-1, :2]
        still = np.zeros((NUM_COLUMNS, 2))
        for shapes in (self.still, self.crowns):
            for i in _near(shapes, shapes.centres, eye):
                track, yaw, footing = shapes.centres[i] + still, shapes.yaws[i], shapes.footing
                ground = footing.heights[i], footing.slopes[i]
                _cast_at(turn, shapes, i, track, yaw, ground)
        if not self.town.movers:
            return
        middles, yaws = mover_poses(self.town.movers, time_s)
        before, _ = mover_poses(self.town.movers, time_s - TURN_S)
        of = self.moving.source
        footing = ground_below(self.town.relief, middles).of(of)
        for i in _near(self.moving, middles[of], eye):
            back = (time_s - column_s)[:, None] / TURN_S
            shift = turned(self.moving.offsets[i], yaws[of[i]])
            track = middles[of[i]] + shift + back * (before[of[i]] - middles[of[i]])
            ground = footing.heights[i], footing.slopes[i]
            _cast_at(turn, self.moving, i, track, yaws[of[i]], ground)


def _near(shapes: Slabs | Ellipsoids, centres: np.ndarray, eye: np.ndarray) -> np.ndarray:
    """Indices of shapes at `centres` (N, 2) with any part within reach of the beams from `eye` (2,)."""
    return np.flatnonzero(np.hypot(*(centres - eye).T) - shapes.reach < FARTHEST_M)


def _cast_at(
    turn: _Turn, shapes: Slabs | Ellipsoids, i: int, track: np.ndarray, yaw: float, ground: tuple[float, np.ndarray]
) -> None:
    """Cast the columns that point at shape `i`, whose middle is at `track` (C, 2) on ground of that
    height and slope (2,), and keep the nearer hits.
    """
    away = track[-1] - turn.origins[-1, :2]
    distance, reach = math.hypot(*away), shapes.reach[i] + 1.0
    if distance > reach:
        half = math.asin(reach / distance) + 0.02
        aside = np.abs((turn.bearings - math.atan2(away[1], away[0]) + math.pi) % (2.0 * math.pi) - math.pi)
        columns = np.flatnonzero(aside < half)
    else:
        columns = np.arange(NUM_COLUMNS)
    cos, sin = math.cos(yaw), math.sin(yaw)
    into = np.array([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]])
    start = turn.origins[columns].copy()
    start[:, :2] -= track[columns]
    start[:, 2] -= ground[0]
    if ground[1].any():
        # A thing that leans with its ground is upright in a world that is sheared against it.
        into = into @ np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [*-ground[1], 1.0]])
    hit = shapes.intersect(i, (start @ into.T)[:, None], turn.rays[columns] @ into.T)
    nearer = hit < turn.ranges[columns]
    turn.ranges[columns] = np.where(nearer, hit, turn.ranges[columns])
    turn.intensities[columns] = np.where(nearer, shapes.intensities[i], turn.intensities[columns])


def _beam_directions() -> np.ndarray:
    """Unit vectors (columns, rings, 3) in the lidar frame, first column to the left (-x), then clockwise."""
    azimuth = math.pi - 2.0 * math.pi * (np.arange(NUM_COLUMNS) + 0.5) / NUM_COLUMNS
    elevation = np.linspace(LOWEST_RAD, HIGHEST_RAD, NUM_RINGS)
    flat, up = np.cos(elevation), np.sin(elevation)
    return np.stack(
        [
            np.outer(np.cos(azimuth), flat),
            np.outer(np.sin(azimuth), flat),
            np.broadcast_to(up, (NUM_COLUMNS, NUM_RINGS)),
        ],
        axis=-1,
    )


def _poses(
    town_from_ego: Callable[[float], np.ndarray], ego_from_lidar: np.ndarray, time_s: float, share: np.ndarray
) -> np.ndarray:
    """Pose of the lidar when each column fires, (C, 4, 4): exact every 3 ms, linear between (error below 1e-5)."""
    knots = np.linspace(0.0, 1.0, _KNOTS)
    poses = np.stack([town_from_ego(time_s - TURN_S * (1.0 - k)) @ ego_from_lidar for k in knots])
    at = share * (_KNOTS - 1)
    low = np.clip(np.floor(at).astype(int), 0, _KNOTS - 2)
    weight = (at - low)[:, None, None]
    return poses[low] * (1.0 - weight) + poses[low + 1] * weight
