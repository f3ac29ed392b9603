"""The ground of a relief as one pinhole camera sees it.

The image is cut into upright slices, one every few pixels. In a slice the ground is a curve: its heights are taken at
distances that grow in proportion, and whatever lies lower in the picture than something nearer is hidden. So each row
of a slice has the nearest ground, with crests as sharp as a row. Between slices places are interpolated.

Kerbs are two such views (`Relief`): a ray that meets the upper sheet where that is raised sees it; else it goes on to
the road; and if it comes down where the upper sheet is raised it has met the kerb's face.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hdmap_core.datasets.synthetic.ground.relief import Relief

FAR_M = 500.0
NEAREST_M = 0.5
KERBS_FADE_M = (25.0, 50.0)
"""Between these distances kerbs sink into the road; further away they would be a pixel or two high."""
NUM_SLICES = 100
_DISTANCES = np.geomspace(NEAREST_M, FAR_M, 112)
_MOST_UPRIGHT = 0.8
"""How upright the image's columns must stand in the world: cameras may be tilted by 37 degrees."""


@dataclass(frozen=True)
class Sheet:
    """One sheet of ground as a camera sees it: tables over rows of the image and slices."""

    depth: np.ndarray
    """(rows, slices) float32 metres along the optical axis; `FAR_M` and more where no ground is seen."""
    places: np.ndarray
    """(rows, slices, 2) float32 town coordinates."""


@dataclass(frozen=True)
class ReliefView:
    """Geometry between one camera's pixels and a relief. Slice j is the pixel column `step * (j - 1) + (step - 1) / 2`,
    so that tables grow to pixels as images do; the first and the last slice lie outside the image.
    """

    relief: Relief
    intrinsics: np.ndarray
    town_from_camera: np.ndarray
    image_size: tuple[int, int]

    @staticmethod
    def can_see(town_from_camera: np.ndarray) -> bool:
        """Whether a camera looks about level; others have no upright slices."""
        return bool(town_from_camera[2, 1] < -_MOST_UPRIGHT)

    @cached_property
    def step(self) -> int:
        """Pixels from slice to slice."""
        return max(1, round(self.image_size[1] / NUM_SLICES))

    @cached_property
    def columns(self) -> np.ndarray:
        """(slices,) pixel column of each slice."""
        count = math.ceil(self.image_size[1] / self.step) + 2
        return self.step * (np.arange(count) - 1.0) + 0.5 * (self.step - 1)

    @cached_property
    def rays(self) -> np.ndarray:
        """(3, 3): directions in the town of pixels (u, v, 1), as long as they are deep."""
        return np.asarray(self.town_from_camera[:3, :3] @ np.linalg.inv(self.intrinsics))

    @cached_property
    def _profiles(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows (2, K, slices) of both sheets' ground at each distance, and their inverse depths."""
        eye, axes = self.town_from_camera[:3, 3], self.town_from_camera[:3, :3]
        up = self.rays[:, 1] / self.rays[2, 1]
        ahead = np.outer(self.columns, self.rays[:, 0]) + self.rays[:, 2]
        ahead -= ahead[:, 2:] * up
        ahead /= np.linalg.norm(ahead, axis=1, keepdims=True)
        along = _DISTANCES[:, None]
        start = eye[:2] + along[..., None] * ahead[:, :2]
        climb = self.relief.smooth(eye[:2]) - eye[2]
        share = np.clip((KERBS_FADE_M[1] - along) / (KERBS_FADE_M[1] - KERBS_FADE_M[0]), 0.0, 1.0)
        climbs = np.full((2, *start.shape[:2]), climb)
        for _ in range(2):
            # Slices of a tilted camera lean, so where they meet the ground depends on how high it is.
            at = start + climbs[0][..., None] * up[:2]
            low, high = self.relief.sheets(at[..., 0], at[..., 1])
            climbs = np.stack([low, low + (high - low) * share]) - eye[2]
        depth = along * (ahead @ axes[:, 2]) + climbs * float(up @ axes[:, 2])
        down = along * (ahead @ axes[:, 1]) + climbs * float(up @ axes[:, 1])
        inverse = 1.0 / np.maximum(depth, 1e-2)
        rows = self.intrinsics[1, 1] * down * inverse + self.intrinsics[1, 2]
        return rows.astype(np.float32), inverse.astype(np.float32)

    @cached_property
    def skylines(self) -> np.ndarray:
        """(K, slices): how high up the image ground reaches that is no further away than each distance."""
        return np.minimum.accumulate(self._profiles[0][1], axis=0)

    @cached_property
    def top(self) -> np.ndarray:
        """(slices,) row at which the ground ends and the sky begins."""
        return self.skylines[-1]

    def hidden_below(self, places: np.ndarray, heights: np.ndarray, clearance: np.ndarray) -> np.ndarray:
        """Row below which nearer ground hides what stands at `places` (N, 2), `heights` (N,) high; infinite where it
        is seen down to its foot. Ground counts that is nearer by at least `clearance` (N,) metres. Shape (N,).
        """
        axes = self.town_from_camera[:3, :3]
        away = np.concatenate([places, heights[:, None]], axis=1) - self.town_from_camera[:3, 3]
        depth = np.maximum(away @ axes[:, 2], 0.1)
        column = self.intrinsics[0, 0] * (away @ axes[:, 0]) / depth + self.intrinsics[0, 2]
        foot = self.intrinsics[1, 1] * (away @ axes[:, 1]) / depth + self.intrinsics[1, 2]
        slices = np.clip((column - self.columns[0]) / self.step, 0, len(self.columns) - 1).round().astype(int)
        last = np.searchsorted(_DISTANCES, np.hypot(away[:, 0], away[:, 1]) - clearance) - 1
        rows = np.where(last >= 0, self.skylines[np.maximum(last, 0), slices], np.inf)
        return np.where(rows < foot - 1.0, rows, np.inf)

    @property
    def top_drop(self) -> float:
        """How far the lowest ray that meets no ground sinks per metre of depth."""
        pixels = np.stack([self.columns, self.top + 1.0, np.ones_like(self.top)])
        return float((-self.rays[2] @ pixels).max())

    @cached_property
    def first_row(self) -> int:
        """Row from which on there is ground in some slice."""
        return int(np.clip(math.floor(self.top.min()) - 1, 0, self.image_size[0]))

    def sheet(self, is_upper: bool) -> Sheet:
        """What is seen of a sheet, from `first_row` on downwards."""
        row, inverse = (table[int(is_upper)] for table in self._profiles)
        count = self.image_size[0] - self.first_row
        row = row - np.float32(self.first_row)
        highest = np.minimum.accumulate(row, axis=0)
        is_seen = np.ones(row.shape, dtype=bool)
        is_seen[1:] = row[1:] < highest[:-1]
        # Of each row the nearest stretch of ground: the first whose far end is at or above it.
        ends = np.clip(np.ceil(highest), 0, count).astype(np.int64)
        stretch, slices = np.nonzero(is_seen)
        nearest = np.full((count + 1, row.shape[1]), len(_DISTANCES), np.int64)
        nearest[ends[stretch, slices][::-1], slices[::-1]] = stretch[::-1]
        nearest = np.minimum.accumulate(nearest[:count], axis=0)
        # Along a stretch inverse depth is linear in the row, as on any plane.
        gain = np.zeros_like(row)
        np.divide(np.diff(inverse, axis=0), np.diff(row, axis=0), out=gain[1:], where=is_seen[1:])
        gain[0] = gain[1]
        offset = inverse - row * gain
        flat = np.minimum(nearest, len(_DISTANCES) - 1) * row.shape[1] + np.arange(row.shape[1])
        found = offset.ravel()[flat] + gain.ravel()[flat] * np.arange(count, dtype=np.float32)[:, None]
        found = np.where(nearest < len(_DISTANCES), np.maximum(found, 0.5 / FAR_M), 0.5 / FAR_M)
        depth = np.asarray(1.0 / found, np.float32)
        eye, rays = self.town_from_camera[:2, 3].astype(np.float32), self.rays.astype(np.float32)
        columns = self.columns.astype(np.float32)
        v = np.arange(count, dtype=np.float32)[:, None] + np.float32(self.first_row)
        places = np.empty((*depth.shape, 2), np.float32)
        for i in (0, 1):
            places[..., i] = eye[i] + depth * (rays[i, 0] * columns + (rays[i, 1] * v + rays[i, 2]))
        return Sheet(depth, places)
