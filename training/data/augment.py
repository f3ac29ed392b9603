"""Augmentation of a keyframe's inputs together with its ground truth.

The bird's-eye view is mirrored and turned by changing the ego frame: ground pixels are flipped, projections take the
change in, so the images themselves stay as they are.
"""

from dataclasses import replace

import numpy as np
import shapely
import torch
from torch import Tensor

from hdmap_core.model_io import ModelInput
from training.config import AugmentConfig
from training.data.keyframes import Keyframe


def augment(frame: Keyframe, config: AugmentConfig, random: np.random.Generator) -> Keyframe:
    """A random variant of one keyframe; the grid must be symmetric about the ego origin.

    Args:
        frame: left as it is.
        config: probabilities and strengths.
        random: where chance comes from.
    """
    sign = np.ones(2, np.float32)
    if random.random() < config.mirror:
        sign *= (1, -1)
    if random.random() < config.turn:
        sign = -sign
    blind = random.random() < config.blind
    inputs = replace(frame.inputs)
    if inputs.ground is not None:
        inputs.ground = _changed_ground(inputs.ground, sign, blind, config.colour, random)
    else:
        _change_images(inputs, sign, blind, config.colour, random)
    points = None if frame.points is None else frame.points * np.append(sign, [1] * (frame.points.shape[1] - 2))
    return replace(
        frame,
        inputs=inputs,
        elements=[replace(element, points=element.points * sign) for element in frame.elements],
        areas={layer: shapely.transform(area, lambda xy: xy * sign) for layer, area in frame.areas.items()},
        points=points,
    )


def _changed_ground(
    ground: Tensor, sign: np.ndarray, blind: bool, strength: float, random: np.random.Generator
) -> Tensor:
    pixels = ground[0].numpy()[:, :: int(sign[1]), :: int(sign[0])]
    if blind:
        pixels = _blinded(pixels, random)
    return torch.from_numpy(np.concatenate([_recoloured(pixels[:3], strength, random), pixels[3:]]))[None]


def _change_images(
    inputs: ModelInput, sign: np.ndarray, blind: bool, strength: float, random: np.random.Generator
) -> None:
    """In place: `blind` takes a camera away; each camera gets colours of its own."""
    assert inputs.images is not None and inputs.projection is not None and inputs.camera_mask is not None
    images = np.stack([_recoloured(image, strength, random) for image in inputs.images[0].numpy()])
    if blind:
        mask = inputs.camera_mask.clone()
        lost = int(random.integers(mask.shape[1]))
        mask[:, lost], images[lost] = False, 0
        inputs.camera_mask = mask
    inputs.images = torch.from_numpy(images)[None]
    inputs.projection = inputs.projection * torch.tensor([*sign, 1.0, 1.0])  # projection @ diag(sign)


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
