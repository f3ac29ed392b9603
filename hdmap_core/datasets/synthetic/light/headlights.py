"""What shines at night: street lamps, the lamps of vehicles, and the own low beam."""

from dataclasses import dataclass, replace
from functools import cache

import cv2
import numpy as np

from hdmap_core.datasets.synthetic.curve import directions, left_of
from hdmap_core.datasets.synthetic.ground.wear import lamp_heads
from hdmap_core.datasets.synthetic.sensors.rig import Camera
from hdmap_core.datasets.synthetic.town import RGB, Mover, Town

WHITE: RGB = (1.0, 0.97, 0.9)
RED: RGB = (1.0, 0.12, 0.06)
FARTHEST_M = 150.0


@dataclass(frozen=True)
class Lights:
    """Shining points: positions (N, 3) and radii (N,) in metres, colours (N, 3), directions (N, 2) or zero."""

    positions: np.ndarray
    radii: np.ndarray
    colours: np.ndarray
    directions: np.ndarray
    grounds: np.ndarray
    """(N,) height of the ground below."""

    def mirrored(self) -> "Lights":
        """The lights as wet ground mirrors them."""
        positions = self.positions.copy()
        positions[:, 2] = 2.0 * self.grounds - positions[:, 2]
        return replace(self, positions=positions)


def own_beam(camera: Camera, shape: tuple[int, int], step: int) -> np.ndarray:
    """How much brighter the own low beam makes what a camera sees: (rows, columns) factors on light.

    `shape` and `step` say which pixels: every `step`-th, from its half.
    """
    rows, columns = shape
    v, u = np.mgrid[0:rows, 0:columns] * float(step) + 0.5 * step
    pixels = np.stack([u, v, np.ones_like(u)], axis=-1)
    pose = camera.ego_from_camera
    rays = pixels @ np.linalg.inv(camera.intrinsics).T @ pose[:3, :3].T
    sinking = np.maximum(-rays[..., 2], 1e-6)
    # Where a ray does not reach the ground within 40 m, what it hits stands about 15 m away.
    depth = np.minimum(pose[2, 3] / sinking, 40.0)
    is_ground = pose[2, 3] / sinking < 40.0
    depth = np.where(is_ground, depth, 15.0)
    points = pose[:3, 3] + depth[..., None] * rays
    ahead, aside = points[..., 0] - 3.3, points[..., 1]
    distance = np.maximum(np.hypot(ahead, aside), 0.5)
    spread = np.exp(-((np.arctan2(aside, np.maximum(ahead, 1e-3)) / 0.42) ** 2)) * (ahead > 0.0)
    # The beam starts some metres ahead and is cut off a little below the horizon.
    beam = 3.4 * spread / (1.0 + (distance / 13.0) ** 2) * np.clip(distance / 5.0, 0.0, 1.0)
    height = points[..., 2] - 0.65
    return np.asarray(1.0 + beam * np.where(is_ground, 1.0, np.exp(-np.maximum(height, 0.0) / 0.8)))


def lights_at(town: Town, eye: np.ndarray, centres: np.ndarray, yaws: np.ndarray) -> Lights:
    """All lights of a town: lamps on their arms as the camera at `eye` (3,) sees them, vehicles at `centres` (M, 2)."""
    heads = lamp_heads(town)
    away = heads[:, :2] - eye[:2]
    away /= np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-6)
    heads[:, :2] += 1.45 * left_of(away)
    colour = np.broadcast_to(np.asarray(town.appearance.lamp) ** 0.5, heads.shape)
    parts = [(heads, np.full(len(heads), 0.16), colour, np.zeros((len(heads), 2)))]
    parts += [_car_lights(m, c, yaw) for m, c, yaw in zip(town.movers, centres, yaws.tolist(), strict=True)]
    positions, radii, colours, directions = (np.concatenate(column) for column in zip(*parts, strict=True))
    grounds = town.relief.height(positions[:, :2])
    positions[:, 2] += grounds
    return Lights(positions, radii, colours, directions, grounds)


def _car_lights(mover: Mover, centre: np.ndarray, yaw: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Positions, radii, colours and directions of a vehicle's lamps, heights above the ground."""
    length, width, height = mover.size
    ahead = directions(yaw)
    left = left_of(ahead)
    is_narrow = mover.kind in ("motorcycle", "bicycle")
    sides = (0.0,) if is_narrow else (-0.38 * width, 0.38 * width)
    level = min(0.45 * height, 0.75)
    rows = [(centre + end * 0.5 * length * ahead + side * left, end) for end in (1.0, -1.0) for side in sides]
    ends = np.array([end for _, end in rows])
    positions = np.array([(*spot, level) for spot, _ in rows])
    is_front = ends > 0
    return positions, np.where(is_front, 0.09, 0.06), np.where(is_front[:, None], WHITE, RED), ends[:, None] * ahead


@dataclass(frozen=True)
class Glow:
    """A light in a picture: where its middle is, in pixels, how large it glows, and how far away it is."""

    column: float
    row: float
    radius: int
    colour: RGB
    distance: float

    def draw(self, image: np.ndarray) -> None:
        """Add the light to an image (H, W, 3) uint8, in place."""
        height, width = image.shape[:2]
        left, top = round(self.column) - self.radius, round(self.row) - self.radius
        low = max(-left, 0), max(-top, 0)
        size = 2 * self.radius
        high = min(size, width - left), min(size, height - top)
        if high[0] <= low[0] or high[1] <= low[1]:
            return
        sprite = _sprite(self.colour, size)[low[1] : high[1], low[0] : high[0]]
        part = image[top + low[1] : top + high[1], left + low[0] : left + high[0]]
        cv2.add(part, sprite, dst=part)


@cache
def _sprite(colour: RGB, size: int) -> np.ndarray:
    v, u = np.mgrid[0:size, 0:size] - (size - 1) / 2.0
    away = np.hypot(u, v) / (0.5 * size)
    core = np.clip((0.24 - away) / 0.08, 0.0, 1.0)
    halo = 0.55 * np.clip(1.0 - away, 0.0, 1.0) ** 2.5
    light = halo[..., None] * colour + core[..., None]
    return np.clip(255.0 * light, 0.0, 255.0).astype(np.uint8)


def glows(lights: Lights, intrinsics: np.ndarray, pose: np.ndarray, size: tuple[int, int]) -> list[Glow]:
    """Lights as seen by a camera at `pose` (4, 4, town from camera) with images of `size` (H, W), in no order."""
    away = lights.positions - pose[:3, 3]
    camera = away @ pose[:3, :3]
    distance = np.hypot(away[:, 0], away[:, 1])
    towards = -(away[:, :2] * lights.directions).sum(axis=1) / np.maximum(distance, 1e-6)
    shines = (lights.directions == 0.0).all(axis=1) | (towards > 0.15)
    seen = np.flatnonzero((camera[:, 2] > 0.5) & (distance < FARTHEST_M) & shines)
    pixels = camera[seen] @ intrinsics.T
    pixels = pixels[:, :2] / pixels[:, 2:]
    reach = np.clip(4.2 * lights.radii[seen] * intrinsics[0, 0] / camera[seen, 2] + size[1] / 260.0, 3, size[1] / 8)
    # Even sizes only, so that few sprites serve all.
    reach = 2 ** (np.round(4 * np.log2(reach)) / 4)
    inside = ((pixels > -reach[:, None]) & (pixels < np.array(size[::-1]) + reach[:, None])).all(axis=1)
    found = []
    for i in np.flatnonzero(inside):
        (column, row), (red, green, blue) = pixels[i].tolist(), lights.colours[seen[i]].tolist()
        found.append(Glow(column, row, round(float(reach[i])), (red, green, blue), float(distance[seen[i]])))
    return found
