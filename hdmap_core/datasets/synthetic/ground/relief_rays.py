"""Where rays of a lidar meet a relief."""

import numpy as np

from hdmap_core.datasets.synthetic.ground.relief import Relief

_STEPS = 64
_NEAREST_M = 1.0
_ROUNDS = 3
_EDGE_ROUNDS = 7


def relief_ranges(relief: Relief, origins: np.ndarray, rays: np.ndarray, farthest: float) -> np.ndarray:
    """Distance to the ground, kerbs and their faces included.

    Args:
        relief: not flat.
        origins: (C, 3) metres, town frame.
        rays: (C, R, 3) unit vectors.
        farthest: in metres; ground beyond is not looked for.

    Returns:
        (C, R) metres, infinite where no ground is met.
    """
    found = _first_below(relief, origins, rays, farthest)
    shape = rays.shape[:2]
    start, ways = np.broadcast_to(origins[:, None], rays.shape).reshape(-1, 3), rays.reshape(-1, 3)
    road, top = found.reshape(2, -1)

    def is_raised_at(ranges: np.ndarray, of: np.ndarray) -> np.ndarray:
        return relief.is_raised(start[of, :2] + ways[of, :2] * ranges[:, None])

    on_top = np.isfinite(top)
    on_top[on_top] = is_raised_at(top[on_top], on_top)
    ranges = np.where(on_top, top, road)
    # Went on below what is raised, and came down behind its edge: the kerb's face lies between.
    behind = ~on_top & np.isfinite(road) & np.isfinite(top)
    behind[behind] = is_raised_at(road[behind], behind)
    before, after = top[behind], road[behind]
    for _ in range(_EDGE_ROUNDS):
        middle = 0.5 * (before + after)
        raised = is_raised_at(middle, behind)
        before, after = np.where(raised, before, middle), np.where(raised, middle, after)
    ranges[behind] = after
    return np.asarray(ranges.reshape(shape))


def _first_below(relief: Relief, origins: np.ndarray, rays: np.ndarray, farthest: float) -> np.ndarray:
    """(2, C, R) distances at which rays come below the lower and the upper sheet for the first time, else infinite."""
    # The rays of a column go almost the same way over the ground, so they share its profile.
    over_ground = np.hypot(rays[..., 0], rays[..., 1])
    middle = rays[:, rays.shape[1] // 2, :2] / over_ground[:, rays.shape[1] // 2, None]
    distances = np.geomspace(_NEAREST_M, farthest, _STEPS)
    points = origins[:, None, :2] + middle[:, None] * distances[:, None]
    rises = (np.stack(relief.sheets(points[..., 0], points[..., 1])) - origins[:, None, 2]) / distances
    highest = np.maximum.accumulate(rises, axis=-1).astype(np.float32)
    rise = (rays[..., 2] / over_ground).astype(np.float32)
    ranges = np.full((2, *rays.shape[:2]), np.inf)
    for sheet in (0, 1):
        behind = highest[sheet, :, None] >= rise[..., None]
        is_met = behind[..., -1]
        far = np.maximum(behind.argmax(axis=-1)[is_met], 1)
        start = np.broadcast_to(origins[:, None], rays.shape)[is_met]
        ways = rays[is_met]
        a, b = distances[far - 1] / over_ground[is_met], distances[far] / over_ground[is_met]
        over, under = (_above(relief, sheet, start + ways * end[:, None]) for end in (a, b))
        for _ in range(_ROUNDS):
            # Regula falsi; the profile may be off by a hair, so the ends need not be on different sides.
            drop = over - under
            at = a + (b - a) * np.clip(over / np.where(drop > 1e-9, drop, 1e-9), -0.2, 1.2)
            rest = _above(relief, sheet, start + ways * at[:, None])
            a, over = np.where(rest > 0.0, at, a), np.where(rest > 0.0, rest, over)
            b, under = np.where(rest > 0.0, b, at), np.where(rest > 0.0, under, rest)
        ranges[sheet][is_met] = at
    return ranges


def _above(relief: Relief, sheet: int, points: np.ndarray) -> np.ndarray:
    """(N,) how far points (N, 3) are above a sheet; negative: below it."""
    x, y, z = points.T
    return np.asarray(z - relief.sheets(x, y)[sheet])
