"""What a camera sees of a synthetic town: ground, sky, then every face from the back to the front.

Pinhole without distortion, optical frame x right, y down, z forward. Pixel (u, v) = (column, row) has its centre at
integer coordinates: u = fx * x / z + cx, as `cv2.projectPoints` has it.
"""

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from hdmap_core.datasets.synthetic.ground.footing import box_footing, ground_below, let_down
from hdmap_core.datasets.synthetic.ground.picture import bake_ground
from hdmap_core.datasets.synthetic.ground.relief_ground import ReliefGround
from hdmap_core.datasets.synthetic.ground.relief_view import ReliefView
from hdmap_core.datasets.synthetic.ground.view import FAR_M, GroundPlane, add_haze, draw_ground
from hdmap_core.datasets.synthetic.ground.wet_ground import bake_puddles, draw_mirror_image, mirrored_faces
from hdmap_core.datasets.synthetic.light.headlights import Glow, Lights, glows, lights_at
from hdmap_core.datasets.synthetic.light.mover_light import draw_beams, draw_shadows, over_ground
from hdmap_core.datasets.synthetic.light.object_light import LAMPS_REACH_UP_M, light_reaching
from hdmap_core.datasets.synthetic.light.shading import Lighting, encode
from hdmap_core.datasets.synthetic.light.sky import bake_sky, draw_sky, haze_colour
from hdmap_core.datasets.synthetic.sensors.optics import Developer
from hdmap_core.datasets.synthetic.sensors.sensor_noise import SensorNoise
from hdmap_core.datasets.synthetic.things.faces import Footing, Placed
from hdmap_core.datasets.synthetic.things.street_meshes import placements_of
from hdmap_core.datasets.synthetic.things.vehicle_meshes import vehicle_mesh
from hdmap_core.datasets.synthetic.town import Mover, Town
from hdmap_core.errors import CalibrationError

NEAR_M = 0.15
FARTHEST_OBJECT_M = 220.0
DETAIL_PIXELS_PER_M = 14.0
"""Details (lamps, frames, seams) are left out where a metre spans fewer pixels."""
GLOW_BEFORE_M = 0.3
"""Lamps are drawn as if this much nearer than they are, over what carries them."""
_CLEARANCE_M = 1.0
_SHIFT = 4


class _Shot(NamedTuple):
    """What is to be drawn: a pinhole, and how it sees the ground of a relief."""

    intrinsics: np.ndarray
    pose: np.ndarray
    """(4, 4) town from camera."""
    image_size: tuple[int, int]
    view: ReliefView | None


@dataclass(frozen=True)
class _Seen:
    """K faces as a camera sees them."""

    pixels: list[np.ndarray]
    """Polygons (P, 2) int32 in 1/16 pixels."""
    mirrored: list[np.ndarray | None]
    """The same in wet ground; None for what is too small to matter there."""
    colours: np.ndarray
    """(K, 3) 0..255."""
    distance: np.ndarray
    ranks: np.ndarray


class TownRenderer:
    """Draws one town. Holds what is the same in every frame: ground texture, sky, faces of what stands still."""

    def __init__(self, town: Town, texel_m: float | None = None) -> None:
        self.town = town
        self.ground = bake_ground(town, texel_m)
        self.light = Lighting.of(town.appearance)
        self.relief_ground = None if town.relief.is_flat else ReliefGround(self.ground, town.relief, self.light)
        self.sky = bake_sky(town.appearance)
        self.haze = haze_colour(town.appearance)
        self.still, self.still_footing = _place_boxes(town)
        self.reach = light_reaching(town.appearance, self.ground.blocked, self.still, self.still.centres)
        self.puddles = bake_puddles(town) if town.appearance.weather.wetness else None
        self.moving = Placed.of([(vehicle_mesh(m), (0.0, 0.0), 0.0) for m in town.movers])
        self.noise = SensorNoise(town.appearance.seed)

    def render(
        self,
        intrinsics: np.ndarray,
        town_from_camera: np.ndarray,
        image_size: tuple[int, int],
        time_s: float,
        developer: Developer | None = None,
        speed: float = 0.0,
    ) -> np.ndarray:
        """One frame.

        Args:
            intrinsics: (3, 3) pinhole matrix.
            town_from_camera: (4, 4) pose of the optical frame.
            image_size: (H, W) pixels.
            time_s: when; moves the movers and picks the sensor noise.
            developer: what develops the picture; None for a perfect camera with a little noise.
            speed: of the vehicle that carries the camera, m/s.

        Returns:
            (H, W, 3) uint8 RGB. Equal inputs give equal bytes.

        Raises:
            CalibrationError: if the matrices are not a pinhole camera.
        """
        intrinsics = np.asarray(intrinsics, dtype=np.float64)
        pose = np.asarray(town_from_camera, dtype=np.float64)
        if intrinsics.shape != (3, 3) or min(intrinsics[0, 0], intrinsics[1, 1]) <= 0.0 or pose.shape != (4, 4):
            raise CalibrationError(
                f"render: intrinsics {intrinsics.shape} and pose {pose.shape} must be (3, 3) with positive focal "
                "lengths and (4, 4)"
            )
        height, width = image_size
        image = np.empty((height, width, 3), np.uint8)
        cv2.rectangle(image, (0, 0), (width, height), self.haze.tolist(), cv2.FILLED)
        rays = pose[:3, :3] @ np.linalg.inv(intrinsics)
        view = None
        if self.relief_ground is not None and ReliefView.can_see(pose):
            view = ReliefView(self.town.relief, intrinsics, pose, image_size)
            self._draw_sky(image, rays, view.top_drop)
            self.relief_ground.draw(image, view, self.town.appearance.haze_per_m, self.haze)
        else:
            # Of a relief, a camera that looks up or down steeply sees the level plane below it.
            below = pose.copy()
            below[2, 3] -= self.town.relief.height(pose[:2, 3])
            plane = GroundPlane.seen_by(intrinsics, below)
            self._draw_sky(image, rays, max(plane.height, 0.0) / FAR_M)
            draw_ground(image, self.ground, plane)
            add_haze(image, plane, self.town.appearance.haze_per_m, self.haze)
        centres, yaws = mover_poses(self.town.movers, time_s)
        lights = None
        if self.town.appearance.weather.time_of_day != "day":
            lights = lights_at(self.town, pose[:3, 3], centres, yaws)
        if self.light.lamps:
            draw_beams(image, intrinsics, pose, self.town, centres, yaws)
        elif self.town.appearance.shades_objects:
            draw_shadows(image, intrinsics, pose, self.town, centres, yaws, self.light)
        self._draw_objects(image, _Shot(intrinsics, pose, image_size, view), (centres, yaws), lights)
        if developer is None:
            self.noise.add(image, time_s)
        else:
            developer.develop(image, pose[:3, :3], intrinsics, speed, time_s)
        return image

    def _draw_sky(self, image: np.ndarray, rays: np.ndarray, limit: float) -> None:
        """At half the resolution, since the sky is smooth; rows above the ground only."""
        height, width = (image.shape[0] + 1) // 2, (image.shape[1] + 1) // 2
        half = rays @ np.array([[2.0, 0.0, 0.5], [0.0, 2.0, 0.5], [0.0, 0.0, 1.0]])
        sky = np.empty((height, width, 3), np.uint8)
        cv2.rectangle(sky, (0, 0), (width, height), self.haze.tolist(), cv2.FILLED)
        rows = min(draw_sky(sky, self.sky, half, limit) + 1, height)
        if rows > 1:
            view = cv2.resize(sky[:rows], (2 * width, 2 * rows), interpolation=cv2.INTER_LINEAR)
            kept = min(2 * rows - 2, image.shape[0]) if rows < height else image.shape[0]
            image[:kept] = view[:kept, : image.shape[1]]

    def _draw_objects(
        self, image: np.ndarray, shot: _Shot, movers: tuple[np.ndarray, np.ndarray], lights: Lights | None
    ) -> None:
        """Everything that stands or shines; `movers`: their centres (N, 2) and yaws (N,)."""
        still, footing = self.still, self.still_footing
        intrinsics, pose, size, _ = shot
        parts = [self._project(shot, still, still.centres, still.yaws, footing, self.reach)]
        if self.town.movers:
            if footing is not None:
                footing = ground_below(self.town.relief, movers[0])
            reach = light_reaching(self.town.appearance, self.ground.blocked, self.moving, movers[0])
            parts.append(self._project(shot, self.moving, *movers, footing, reach))
        pixels = [p for part in parts for p in part.pixels]
        colours = np.concatenate([part.colours for part in parts]).tolist()
        distance = np.concatenate([part.distance for part in parts])
        ranks = np.concatenate([part.ranks for part in parts])
        shining: list[Glow] = []
        if lights is not None:
            shining = glows(lights, intrinsics, pose, size)
            distance = np.concatenate([distance, [glow.distance - GLOW_BEFORE_M for glow in shining]])
            ranks = np.concatenate([ranks, np.full(len(shining), 1000)])
        order = np.lexsort((ranks, -distance))
        if self.puddles is not None:
            mirrored = [m for part in parts for m in part.mirrored]
            drawn = (i for i in order.tolist() if i < len(pixels))
            faces = [(polygon, colours[i]) for i in drawn if (polygon := mirrored[i]) is not None]
            below = glows(lights.mirrored(), intrinsics, pose, size) if lights is not None else []
            level = over_ground(pose, self.town.relief, pose[:2, 3])
            draw_mirror_image(image, self.puddles, intrinsics, level, self.sky, faces, below)
        for i in order.tolist():
            if i < len(pixels):
                cv2.fillConvexPoly(image, pixels[i], colours[i], cv2.LINE_AA, _SHIFT)
            else:
                shining[i - len(pixels)].draw(image)

    def _project(
        self,
        shot: _Shot,
        placed: Placed,
        centres: np.ndarray,
        yaws: np.ndarray,
        footing: Footing | None,
        reach: np.ndarray,
    ) -> _Seen:
        """Visible faces of objects at `centres` (N, 2), to which the share `reach` (N,) of the light comes."""
        intrinsics, pose, (height, width), view = shot
        eye, axes = pose[:3, 3], pose[:3, :3]
        away = centres - eye[:2]
        distance = np.hypot(away[:, 0], away[:, 1])
        forward, right = away @ axes[:2, 2], away @ axes[:2, 0]
        tan_left = intrinsics[0, 2] / intrinsics[0, 0]
        tan_right = (width - intrinsics[0, 2]) / intrinsics[0, 0]
        slack = 1.8 * placed.radii + 1.5
        # Generous by the slack, so that a few degrees of pitch and roll do not matter; exact culling is per face.
        seen = (forward > -slack) & (right > -tan_left * forward - slack) & (right < tan_right * forward + slack)
        if abs(axes[2, 2]) > 0.35 or abs(axes[2, 0]) > 0.35:
            seen = np.ones(len(centres), dtype=bool)
        seen &= distance < FARTHEST_OBJECT_M
        # Nothing is drawn of a thing that the camera is in, or whose skin it touches.
        cos, sin = np.cos(yaws), np.sin(yaws)
        local = np.stack([away[:, 0] * cos + away[:, 1] * sin, away[:, 1] * cos - away[:, 0] * sin], axis=1)
        tops = placed.heights if footing is None else placed.heights + footing.heights
        seen &= (np.abs(local) > placed.half_sizes + 0.2).any(axis=1) | (eye[2] > tops)
        faces = np.flatnonzero(seen[placed.owner])
        is_fine = intrinsics[1, 1] / np.maximum(distance, 0.1) > DETAIL_PIXELS_PER_M
        faces = faces[~placed.is_detail[faces] | is_fine[placed.owner[faces]]]

        facing = np.where(placed.is_card, np.arctan2(-away[:, 1], -away[:, 0]) + np.pi, yaws)
        first, normals = placed.in_world(faces, centres, facing, footing, count=1)
        front = ((eye - first[:, 0]) * normals).sum(axis=1) > 0.0
        front |= placed.is_card[placed.owner[faces]]
        faces, normals = faces[front], normals[front]
        corners, _ = placed.in_world(faces, centres, facing, footing)
        camera = (corners - eye) @ axes
        ahead = camera[..., 2] > NEAR_M
        some = ahead.any(axis=1)
        faces, normals, camera, ahead = faces[some], normals[some], camera[some], ahead[some]
        whole = ahead.all(axis=1)
        depth = np.maximum(camera[..., 2], NEAR_M)
        u = intrinsics[0, 0] * camera[..., 0] / depth + intrinsics[0, 1] * camera[..., 1] / depth + intrinsics[0, 2]
        v = intrinsics[1, 1] * camera[..., 1] / depth + intrinsics[1, 2]
        inside = (u.max(1) > -1) & (u.min(1) < width) & (v.max(1) > -1) & (v.min(1) < height)
        keep = inside | ~whole
        faces, normals, camera, whole = faces[keep], normals[keep], camera[keep], whole[keep]
        scaled = np.rint(np.stack([u[keep], v[keep]], axis=-1) * (1 << _SHIFT)).astype(np.int32)
        counts = placed.num_corners[faces].tolist()
        pixels = [polygon[:n] for polygon, n in zip(scaled, counts, strict=True)]
        for i in np.flatnonzero(~whole):
            pixels[i] = _clipped(camera[i, : counts[i]], intrinsics)

        owner = placed.owner[faces]
        if view is not None and footing is not None and len(faces):
            kept = _hide_behind_ground(pixels, owner, centres, footing, placed.radii, view)
            pixels, faces, normals, owner = [pixels[i] for i in kept], faces[kept], normals[kept], owner[kept]
            camera = camera[kept]
        height_m = eye[2] + camera @ axes[2]
        if footing is not None:
            height_m = height_m - footing.heights[owner, None]
        share = reach[owner]
        if self.light.lamps:
            share = share * np.exp(-np.maximum(height_m[:, 0] - LAMPS_REACH_UP_M, 0.0) / LAMPS_REACH_UP_M)
        lit = self.light.irradiance(normals, share)[:, None] * self.light.tint
        glow = placed.glow[faces][:, None]
        colours = encode(placed.colours[faces] * (lit * (1.0 - glow) + glow)).astype(np.float64)
        left_over = np.exp(-self.town.appearance.haze_per_m * distance[owner])[:, None]
        colours = colours * left_over + self.haze * (1.0 - left_over)
        mirrored: list[np.ndarray | None] = [None] * len(pixels)
        if self.puddles is not None:
            below = camera - 2.0 * height_m[..., None] * axes[2]
            mirrored = mirrored_faces(below, placed.num_corners[faces], intrinsics)
        return _Seen(pixels, mirrored, colours, distance[owner], placed.ranks[faces])


def mover_poses(movers: tuple[Mover, ...], time_s: float) -> tuple[np.ndarray, np.ndarray]:
    """Where movers are: centres (N, 2) and yaws (N,). A mover past either end of its route waits there."""
    centres, yaws = np.empty((len(movers), 2)), np.empty(len(movers))
    for i, mover in enumerate(movers):
        along = mover.along
        at = min(max(mover.start + mover.speed * time_s, 0.0), along[-1])
        stops = [at, max(at - 1.3, 0.0), min(at + 1.3, along[-1])]
        (x, back_x, front_x), (y, back_y, front_y) = (np.interp(stops, along, mover.route[:, k]) for k in (0, 1))
        centres[i] = x, y
        yaws[i] = np.arctan2(front_y - back_y, front_x - back_x)
    return centres, yaws


def _place_boxes(town: Town) -> tuple[Placed, Footing | None]:
    """The faces of what stands still, and what it stands on unless the ground is flat."""
    after_dark = town.appearance.weather.time_of_day != "day"
    placements = [(i, placed) for i, box in enumerate(town.boxes) for placed in placements_of(box, i, after_dark)]
    still = Placed.of([placement for _, placement in placements])
    if town.relief.is_flat:
        return still, None
    owners = np.array([i for i, _ in placements], dtype=int)
    below = box_footing(town.relief, town.boxes).of(owners)
    is_house = np.array([box.kind == "building" for box in town.boxes], dtype=bool)[owners]
    return let_down(still, town.relief, below.heights, is_house), below


def _hide_behind_ground(
    pixels: list[np.ndarray],
    owner: np.ndarray,
    centres: np.ndarray,
    footing: Footing,
    radii: np.ndarray,
    view: ReliefView,
) -> np.ndarray:
    """Cut, in place, what a crest in front hides off the polygons of faces; indices (K,) of those still to be seen."""
    objects, at = np.unique(owner, return_inverse=True)
    limits = view.hidden_below(centres[objects], footing.heights[objects], radii[objects] + _CLEARANCE_M)[at]
    kept = np.ones(len(pixels), dtype=bool)
    for i in np.flatnonzero(np.isfinite(limits)):
        limit = round(float(limits[i]) * (1 << _SHIFT))
        rows = pixels[i][:, 1].tolist()
        if max(rows) > limit:
            kept[i] = min(rows) < limit
            pixels[i] = _cut_below(pixels[i], limit) if kept[i] else pixels[i]
    return np.flatnonzero(kept)


def _cut_below(polygon: np.ndarray, limit: int) -> np.ndarray:
    """A polygon (P, 2) of pixels without what lies below a row: (Q, 2) int32."""
    found = []
    for a, b in zip(polygon.tolist(), np.roll(polygon, -1, axis=0).tolist(), strict=True):
        if a[1] <= limit:
            found.append(a)
        if (a[1] <= limit) != (b[1] <= limit):
            found.append([round(a[0] + (b[0] - a[0]) * (limit - a[1]) / (b[1] - a[1])), limit])
    return np.array(found, dtype=np.int32)


def _clipped(corners: np.ndarray, intrinsics: np.ndarray) -> np.ndarray:
    """A polygon (P, 3) in the camera frame, cut at the near plane, as pixels in 1/16: (Q, 2) int32."""
    kept = []
    for a, b in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if a[2] >= NEAR_M:
            kept.append(a)
        if (a[2] >= NEAR_M) != (b[2] >= NEAR_M):
            kept.append(a + (b - a) * (NEAR_M - a[2]) / (b[2] - a[2]))
    points = np.asarray(kept) @ intrinsics.T
    # Limits keep the rasteriser's fixed-point numbers small; they lie far outside any image.
    pixels = np.clip(points[:, :2] / points[:, 2:], -60000.0, 60000.0)
    return np.rint(pixels * (1 << _SHIFT)).astype(np.int32)
