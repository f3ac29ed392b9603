"""Augmentation of a keyframe's inputs together with its ground truth.

The bird's-eye view is turned, shifted and mirrored by changing the ego frame: ground pixels are moved, projections take
the change in, so the images themselves stay as they are. What changes the images' geometry goes into the projections as
well. Colours and grid masks of images are only drawn here and applied on the device (`training.data.distortion`).
"""

from dataclasses import replace

import cv2
import numpy as np
import shapely
import torch
from torch import Tensor

from hdmap_core.geometry import BEVGrid, se3
from hdmap_core.model_io import ModelInput
from training.config import AugmentConfig
from training.data.keyframes import Keyframe


def augment(
    frame: Keyframe, config: AugmentConfig, random: np.random.Generator, grid: BEVGrid | None = None
) -> Keyframe:
    """A random variant of one keyframe; for `mirror` and `turn` the grid must be symmetric about the ego origin.

    Args:
        frame: left as it is.
        config: probabilities and strengths.
        random: where chance comes from.
        grid: the model's; only `rotate` and `shift` of ground pixels need it.
    """
    sign = np.ones(2, np.float32)
    if random.random() < config.mirror:
        sign *= (1, -1)
    if random.random() < config.turn:
        sign = -sign
    blind = random.random() < config.blind
    if config.rotate or config.shift:
        frame = moved(frame, _motion(config, random), grid)
    inputs = replace(frame.inputs)
    if inputs.ground is not None:
        inputs.ground = _changed_ground(inputs.ground, sign, blind, config, random)
    if inputs.images is not None:
        _change_images(inputs, sign, blind, config, random)
    points = None if frame.points is None else frame.points * np.append(sign, np.ones(frame.points.shape[1] - 2, "f4"))
    sd_lines = None if frame.sd_lines is None else tuple(line * sign for line in frame.sd_lines)
    return replace(
        frame,
        inputs=inputs,
        elements=[replace(element, points=element.points * sign) for element in frame.elements],
        areas={layer: shapely.transform(area, lambda xy: xy * sign) for layer, area in frame.areas.items()},
        points=points,
        sd_lines=sd_lines,
        cut=None,
    )


def augment_seen(
    frame: Keyframe, config: AugmentConfig, random: np.random.Generator, grid: BEVGrid | None = None
) -> Keyframe:
    """A keyframe as a source of a distillation sees it: moved as the student's, its pixels left as they were.

    A source sees what the car saw, whatever the student is shown of it: cameras that are taken away from the student,
    and colours, zooms and masks of its images, are not the source's. Ground truth is not looked at, and left out.

    Args:
        frame: of the same instant as the student's.
        config: the student's.
        random: in the state in which the student's was: the motion is the same.
        grid: of the source.
    """
    still = config.model_copy(update=dict.fromkeys(("blind", "colour", "zoom"), 0.0))
    return augment(replace(frame, elements=[], areas={}, cut=lambda _: ([], {})), still, random, grid)


def moved(frame: Keyframe, ego_from_moved: np.ndarray, grid: BEVGrid | None) -> Keyframe:
    """The keyframe as seen from a frame beside the car's: its ground truth is cut anew from the whole map.

    Turning what was cut before would leave the corners of the grid without ground truth.

    Args:
        frame: left as it is.
        ego_from_moved: (4, 4), a flat motion.
        grid: the model's; only ground pixels need it. What was not seen is black in them.

    Raises:
        ValueError: if the keyframe has no map to cut from.
    """
    if frame.cut is None:
        raise ValueError(f"keyframe {frame.token} has no map; set augment.rotate and augment.shift to 0")
    elements, areas = frame.cut(ego_from_moved)
    inputs, points, sd_lines = replace(frame.inputs), frame.points, frame.sd_lines
    if inputs.projection is not None:
        motion = torch.from_numpy(ego_from_moved)
        inputs.projection = (inputs.projection.double() @ motion).to(inputs.projection.dtype)
    if inputs.ground is not None:
        assert grid is not None, "ground pixels cannot be moved without their grid"
        inputs.ground = torch.from_numpy(_moved_ground(inputs.ground[0].numpy(), ego_from_moved, grid))[None]
    if points is not None:
        points = points.copy()
        points[:, :3] = se3.transform_points(se3.inverse(ego_from_moved), points[:, :3].astype(np.float64))
    if sd_lines is not None:
        turn, shift = ego_from_moved[:2, :2], ego_from_moved[:2, 3]
        sd_lines = tuple(((line - shift) @ turn).astype(np.float32) for line in sd_lines)
    return replace(frame, inputs=inputs, elements=elements, areas=areas, points=points, sd_lines=sd_lines)


def _motion(config: AugmentConfig, random: np.random.Generator) -> np.ndarray:
    """(4, 4) ego_from_moved."""
    yaw = np.radians(random.uniform(-config.rotate, config.rotate))
    x, y = random.uniform(-config.shift, config.shift, 2)
    return se3.se3(se3.rotation_from_euler(0, 0, yaw), [x, y, 0.0])


def _moved_ground(ground: np.ndarray, ego_from_moved: np.ndarray, grid: BEVGrid) -> np.ndarray:
    """(4, 2Y, 2X) pixels looked up where they lay before, the nearest ones: unseen places must not bleed."""
    rows, columns = ground.shape[1:]
    cell = grid.size[0] / columns, grid.size[1] / rows
    ego_from_pixel = np.array(
        [[cell[0], 0, grid.x_range[0] + cell[0] / 2], [0, cell[1], grid.y_range[0] + cell[1] / 2], [0, 0, 1]]
    )
    flat = ego_from_moved[np.ix_([0, 1, 3], [0, 1, 3])]
    source_from_target = np.linalg.inv(ego_from_pixel) @ flat @ ego_from_pixel
    flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    layers = [cv2.warpAffine(layer, source_from_target[:2], (columns, rows), flags=flags) for layer in ground]
    return np.stack(layers)


def _changed_ground(
    ground: Tensor, sign: np.ndarray, blind: bool, config: AugmentConfig, random: np.random.Generator
) -> Tensor:
    pixels = ground[0].numpy()[:, :: int(sign[1]), :: int(sign[0])]
    if blind:
        pixels = _blinded(pixels, random)
    return torch.from_numpy(np.concatenate([_recoloured(pixels[:3], config.colour, random), pixels[3:]]))[None]


def _change_images(
    inputs: ModelInput, sign: np.ndarray, blind: bool, config: AugmentConfig, random: np.random.Generator
) -> None:
    """In place: `blind` takes a camera away; each camera gets colours, and a zoom, of its own."""
    assert inputs.images is not None and inputs.projection is not None and inputs.camera_mask is not None
    images = inputs.images[0].numpy()
    if config.colour:
        images = np.stack([_recoloured(image, config.colour, random) for image in images])
    if blind:
        images, mask = images.copy(), inputs.camera_mask.clone()
        lost = int(random.integers(mask.shape[1]))
        mask[:, lost], images[lost] = False, 0
        inputs.camera_mask = mask
    inputs.projection = inputs.projection * torch.tensor([*sign, 1.0, 1.0])  # projection @ diag(sign)
    if config.zoom:
        changes = [_zoom(images.shape[2:], config.zoom, random) for _ in images]
        images = np.stack([_warped(image, change) for image, change in zip(images, changes, strict=True)])
        pixels = torch.from_numpy(np.stack(changes))
        inputs.projection = (pixels @ inputs.projection.double()).to(inputs.projection.dtype)
    inputs.images = torch.from_numpy(np.ascontiguousarray(images))[None]


def _zoom(size: tuple[int, ...], strength: float, random: np.random.Generator) -> np.ndarray:
    """(3, 3) new pixels from old ones: resized by a random factor, then cropped or padded at a random place."""
    height, width = size
    scale = 1 + strength * random.uniform(-1, 1)
    left, top = random.uniform(0, 1, 2) * (width * (1 - scale), height * (1 - scale))
    # Edges of pixels keep their place, as in CameraRig.resized.
    return np.array([[scale, 0, left + (scale - 1) / 2], [0, scale, top + (scale - 1) / 2], [0, 0, 1]])


def _warped(image: np.ndarray, change: np.ndarray) -> np.ndarray:
    """(3, H, W) -> the same, black where the old image has nothing."""
    pixels = cv2.warpAffine(image.transpose(1, 2, 0), change[:2], image.shape[:0:-1], flags=cv2.INTER_LINEAR)
    return pixels.transpose(2, 0, 1)


def _blinded(ground: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Hides a sector of 40 to 70 degrees, about a camera's."""
    rows, columns = np.indices(ground.shape[1:])
    angle = np.arctan2(rows - ground.shape[1] / 2, columns - ground.shape[2] / 2)
    middle, width = random.uniform(-np.pi, np.pi), np.radians(random.uniform(40, 70))
    hidden = np.abs((angle - middle + np.pi) % (2 * np.pi) - np.pi) < width / 2
    return np.where(hidden, np.uint8(0), ground)


def _recoloured(image: np.ndarray, strength: float, random: np.random.Generator) -> np.ndarray:
    """Random gain, offset and gamma per colour channel of (3, H, W) uint8, as one look-up table each."""
    gain = 1 + strength * random.uniform(-1, 1) + strength / 3 * random.uniform(-1, 1, 3)
    gamma = np.exp(strength * random.uniform(-1, 1))
    offset = 255 * strength / 3 * random.uniform(-1, 1)
    ramp = np.arange(256) / 255
    result = np.empty(image.shape, np.uint8)
    for channel in range(3):
        table = np.clip(255 * gain[channel] * ramp**gamma + offset, 0, 255).astype(np.uint8)
        table[0] = 0  # unseen stays unseen
        result[channel] = table[image[channel]]
    return result
