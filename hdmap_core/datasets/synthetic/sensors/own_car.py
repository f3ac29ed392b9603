"""The body of the ego vehicle, as its own cameras see it.

A smooth closed body stands for the car. Each camera sees the part of it that its pinhole says; since the body does not
move against the camera, that part is drawn once per camera and laid over every picture.
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np

from hdmap_core.datasets.synthetic.light.shading import Lighting, encode
from hdmap_core.datasets.synthetic.sensors.rig import Camera, Rig
from hdmap_core.datasets.synthetic.town import RGB

SILL_M = 0.25
"""Height of the body's lower edge."""
GLASS = (0.02, 0.025, 0.03)
NIGHT_REACH = 0.12
"""Share of a street lamp's light that the body gets on average."""
_MIRROR_M = (0.12, 0.24, 0.16)
_BLUR_PX = 2.2
"""The body stands too close to be sharp; standard deviation in an image 1600 wide."""
_STATIONS, _SLICES = 64, 40
_NEAR_M = 0.05
_SHIFT = 4
_ROUNDING = 3.2
"""Exponent of the body's cross-section: 2 is an ellipse, more is boxier."""


@dataclass(frozen=True)
class OwnCar:
    """A smooth car body in the ego frame (x forward, y left, z up, on the ground below the rear axle); metres."""

    front_m: float
    """From the rear axle to the front end."""
    rear_m: float
    """From the rear axle to the rear end."""
    width_m: float
    roof_m: float
    """Height of the roof: below every camera that stands on it."""
    roof_end_m: float
    """x of the roof's rear edge, a spoiler's lip."""
    lip_m: float
    """Height of that edge."""
    bonnet_m: float
    """Height of the bonnet's rear edge."""
    boot_m: float
    """Height of the boot, or of the foot of the rear window."""
    colour: RGB
    gloss: float
    """0 matt .. 1 mirrors the sky."""

    def top(self, x: np.ndarray) -> np.ndarray:
        """Height of the body above the middle line at x (N,)."""
        outline = np.array(
            [
                (-self.rear_m, 0.55 * self.boot_m),
                (-self.rear_m + 0.04, 0.9 * self.boot_m),
                (min(-self.rear_m + 0.14, self.roof_end_m - 0.04), self.boot_m),
                (self.roof_end_m - 0.02, 0.96 * self.lip_m),
                (self.roof_end_m, self.lip_m),
                (self.roof_end_m + 1.1, self.roof_m),
                (self.front_m - 1.75, 0.98 * self.roof_m),
                (self.front_m - 1.05, self.bonnet_m),
                (self.front_m - 0.1, 0.8 * self.bonnet_m),
                (self.front_m, 0.5 * self.bonnet_m),
            ]
        )
        return np.interp(x, outline[:, 0], outline[:, 1])

    def half_width(self, x: np.ndarray) -> np.ndarray:
        """Half of the width at x (N,): a rounded rectangle in plan."""
        middle, reach = 0.5 * (self.front_m - self.rear_m), 0.5 * (self.front_m + self.rear_m)
        along = np.clip(np.abs(x - middle) / reach, 0.0, 1.0)
        return 0.5 * self.width_m * (1.0 - along**7) ** (1.0 / 3.0)

    def height_at(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Height of the body above (x, y); 0 beside it."""
        across = np.abs(y) / np.maximum(self.half_width(x), 1e-6)
        inside = (across < 1.0) & (x > -self.rear_m) & (x < self.front_m)
        rounded = (1.0 - np.minimum(across, 1.0) ** _ROUNDING) ** (1.0 / _ROUNDING)
        return np.where(inside, SILL_M + (self.top(x) - SILL_M) * rounded, 0.0)


def draw_own_car(rng: np.random.Generator, rig: Rig) -> OwnCar:
    """A hatchback or estate under the cameras of a rig, about as big as nuScenes' cars are."""
    rear = float(rng.uniform(0.6, 0.95))
    shade = float(rng.choice([rng.uniform(0.5, 0.75), rng.uniform(0.15, 0.45), rng.uniform(0.02, 0.08)]))
    tint = rng.normal(0.0, 0.03, 3)
    red, green, blue = (float(c) for c in np.clip(shade * (1.0 + tint), 0.01, 0.9))
    car = OwnCar(
        front_m=float(rng.uniform(3.2, 3.7)),
        rear_m=rear,
        width_m=float(rng.uniform(1.7, 1.86)),
        roof_m=1.48,
        roof_end_m=float(rng.uniform(-0.95, -0.65)) * rear,
        lip_m=1.48 * float(rng.uniform(0.855, 0.905)),
        bonnet_m=float(rng.uniform(0.9, 1.05)),
        boot_m=float(rng.uniform(0.9, 1.15)),
        colour=(red, green, blue),
        gloss=float(rng.uniform(0.4, 1.0)),
    )
    return fitted_below(car, rig, float(rng.uniform(0.04, 0.09)))


def fitted_below(car: OwnCar, rig: Rig, gap_m: float) -> OwnCar:
    """The car scaled in height so that every camera stands `gap_m` or more above it, and one does exactly that."""
    eyes = np.array([camera.ego_from_camera[:3, 3] for camera in rig.cameras.values()])
    height = car.height_at(eyes[:, 0], eyes[:, 1])
    over = height > 0.0
    if not over.any():
        return car
    scale = float(np.min((eyes[over, 2] - gap_m) / height[over]))
    # A camera in a bumper stands in the body whatever its height; such a body is not seen from within.
    scale = float(np.clip(scale, 0.5, 2.5))
    heights = {name: getattr(car, name) * scale for name in ("roof_m", "lip_m", "bonnet_m", "boot_m")}
    return replace(car, **heights)


@dataclass(frozen=True)
class BodyView:
    """What one camera sees of the car: a part of the picture and what to lay over it."""

    top: int
    left: int
    paint: np.ndarray
    """(h, w, 3) uint8: the body's own colour, times its coverage."""
    kept: np.ndarray
    """(h, w, 3) uint8: how much of the picture stays, 255 = all."""
    mirrored: np.ndarray
    """(h, w, 3) uint8: how strongly the body mirrors what stands beyond it."""

    def draw(self, image: np.ndarray) -> None:
        """Lay the body over an image (H, W, 3) uint8, in place."""
        height, width = self.paint.shape[:2]
        part = image[self.top : self.top + height, self.left : self.left + width]
        # The paint mirrors the scene upside down; how far up a ray goes matters little on a curved body.
        beyond = image[max(self.top - 5 * height, 0) : max(self.top - height, 1), self.left : self.left + width]
        seen = cv2.resize(beyond[::8, ::8], (max(width // 24, 1), 8), interpolation=cv2.INTER_AREA)
        seen = cv2.resize(seen[::-1], (width, height), interpolation=cv2.INTER_CUBIC)
        cv2.multiply(part, self.kept, dst=part, scale=1.0 / 255.0)
        cv2.add(part, self.paint, dst=part)
        cv2.add(part, cv2.multiply(seen, self.mirrored, scale=1.0 / 255.0), dst=part)


def body_view(
    car: OwnCar, camera: Camera, light: Lighting, sky: np.ndarray, gain: np.ndarray | float = 1.0
) -> BodyView | None:
    """The car as one camera sees it, or None where the camera sees nothing of it.

    Args:
        car: in the ego frame.
        camera: whose picture it is.
        light: that falls on it.
        sky: (3,) linear radiance of the sky, which the paint mirrors.
        gain: exposure, as a factor on linear light, of all or each channel.
    """
    height, width = camera.image_size
    pose = camera.ego_from_camera
    faces, colours = _faces(car)
    in_camera = (faces - pose[:3, 3]) @ pose[:3, :3]
    normals = np.cross(faces[:, 1] - faces[:, 0], faces[:, 3] - faces[:, 0])
    normals += np.cross(faces[:, 2] - faces[:, 1], faces[:, 0] - faces[:, 1])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    middles = faces.mean(axis=1)
    sight = middles - pose[:3, 3]
    distance = np.linalg.norm(sight, axis=1)
    sight /= distance[:, None]
    facing = -(sight * normals).sum(axis=1)
    seen = (facing > 0.0) & (in_camera[..., 2] > _NEAR_M).all(axis=1)
    if not seen.any():
        return None
    pixels = in_camera[seen] @ camera.intrinsics.T
    pixels = np.clip(pixels[..., :2] / pixels[..., 2:], -20_000.0, 20_000.0)
    low, high = pixels.min(axis=1), pixels.max(axis=1)
    inside = (high > 0.0).all(axis=1) & (low < (width, height)).all(axis=1)
    if not inside.any():
        return None
    chosen = np.flatnonzero(seen)[inside]
    pixels, order = pixels[inside], np.argsort(-distance[chosen])
    sigma = _BLUR_PX * width / 1600.0
    margin = int(np.ceil(3 * sigma)) + 1
    left, top = np.maximum(np.floor(pixels.min(axis=(0, 1))).astype(int) - margin, 0)
    right, bottom = np.minimum(np.ceil(pixels.max(axis=(0, 1))).astype(int) + margin, (width, height))
    if right - left < 4 or bottom - top < 4:
        return None

    fresnel = car.gloss * (0.04 + 0.96 * (1.0 - np.clip(facing[chosen], 0.0, 1.0)) ** 5)
    upward = (sight + 2.0 * facing[:, None] * normals)[chosen, 2]
    mirror = np.where(upward > 0.0, 1.0, 0.25)[:, None] * sky
    reach = NIGHT_REACH if light.lamps else 1.0
    linear = (
        colours[chosen] * light.irradiance(normals[chosen], reach)[:, None] * light.tint
        + 0.6 * fresnel[:, None] * mirror
    )
    shades = encode(linear * gain).astype(np.float64)
    layers = np.zeros((3, bottom - top, right - left, 3), np.uint8)
    scaled = np.rint((pixels - (left, top)) * (1 << _SHIFT)).astype(np.int32)
    for i in order:
        values = shades[i].tolist(), (255.0,) * 3, (min(110.0 * float(fresnel[i]) + 6.0, 255.0),) * 3
        for layer, value in zip(layers, values, strict=True):
            cv2.fillConvexPoly(layer, scaled[i], value, cv2.LINE_AA, _SHIFT)
    # Beyond the picture's edge the body goes on, so that the blur must not darken it there.
    paint, cover, mirrored = (
        cv2.GaussianBlur(layer, (0, 0), max(sigma, 0.3), borderType=cv2.BORDER_REPLICATE) for layer in layers
    )
    return BodyView(int(top), int(left), paint, 255 - cover, mirrored)


def _faces(car: OwnCar) -> tuple[np.ndarray, np.ndarray]:
    """Quads (F, 4, 3), counter-clockwise seen from outside, and their linear colours (F, 3)."""
    bend = 0.5 * (1.0 - np.cos(np.linspace(0.0, np.pi, _STATIONS)))
    even = np.linspace(0.0, 1.0, _STATIONS)
    x = -car.rear_m + (car.front_m + car.rear_m) * np.sort(np.concatenate([bend, even]))
    x = np.unique(np.clip(x, -car.rear_m + 1e-3, car.front_m - 1e-3))
    turn = np.linspace(0.0, np.pi, _SLICES + 1)
    across = np.sign(np.cos(turn)) * np.abs(np.cos(turn)) ** (2.0 / _ROUNDING)
    up = np.sin(turn) ** (2.0 / _ROUNDING)
    y = car.half_width(x)[:, None] * across
    z = SILL_M + (car.top(x) - SILL_M)[:, None] * up
    grid = np.stack([np.broadcast_to(x[:, None], y.shape), y, z], axis=-1)
    quads = np.stack([grid[:-1, :-1], grid[1:, :-1], grid[1:, 1:], grid[:-1, 1:]], axis=2).reshape(-1, 4, 3)
    middle = quads.mean(axis=1)
    slope = np.abs(np.gradient(car.top(x), x))[:-1].repeat(_SLICES)
    is_glass = (middle[:, 2] > 1.03 * max(car.bonnet_m, car.boot_m)) & (middle[:, 2] < 0.95 * car.lip_m) & (slope > 0.4)
    colours = np.where(is_glass[:, None], GLASS, car.colour)
    boxes = [_mirror(car, side) for side in (-1.0, 1.0)]
    return np.concatenate([quads, *boxes]), np.concatenate([colours, np.tile(np.asarray(car.colour) * 0.6, (12, 1))])


def _mirror(car: OwnCar, side: float) -> np.ndarray:
    """A wing mirror as a cuboid: quads (6, 4, 3), counter-clockwise seen from outside."""
    centre = np.array([car.front_m - 1.25, side * (0.5 * car.width_m + 0.1), 1.02 * car.bonnet_m])
    signs = np.array([[-1, -1, -1], [1, -1, -1], [1, 1, -1], [-1, 1, -1],
                      [-1, -1, 1], [1, -1, 1], [1, 1, 1], [-1, 1, 1]], np.float64)  # fmt: skip
    corners = centre + 0.5 * signs * _MIRROR_M
    sides = ((0, 3, 2, 1), (4, 5, 6, 7), (0, 1, 5, 4), (1, 2, 6, 5), (2, 3, 7, 6), (3, 0, 4, 7))
    return np.stack([corners[list(side)] for side in sides])
