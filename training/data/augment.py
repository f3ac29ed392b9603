"""Augmentation of ground pixels together with their ground truth."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from hdmap_core.elements import MapElement
from training.config import AugmentConfig


def augment(
    ground: np.ndarray, elements: Sequence[MapElement], config: AugmentConfig, random: np.random.Generator
) -> tuple[np.ndarray, list[MapElement]]:
    """A random variant of one keyframe; the grid must be symmetric about the ego origin.

    Args:
        ground: (4, Y, X) uint8 R, G, B, seen.
        elements: ground truth, metres.
        config: probabilities and strengths.
        random: where chance comes from.
    """
    sign = np.ones(2, np.float32)
    if random.random() < config.mirror:
        ground, sign = ground[:, ::-1], sign * (1, -1)
    if random.random() < config.turn:
        ground, sign = ground[:, ::-1, ::-1], -sign
    if random.random() < config.blind:
        ground = _blinded(ground, random)
    ground = _recoloured(ground, config.colour, random)
    return ground, [replace(element, points=element.points * sign.astype(np.float32)) for element in elements]


def _blinded(ground: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Hides a sector of 40 to 70 degrees, about a camera's."""
    rows, columns = np.indices(ground.shape[1:])
    angle = np.arctan2(rows - ground.shape[1] / 2, columns - ground.shape[2] / 2)
    middle, width = random.uniform(-np.pi, np.pi), np.radians(random.uniform(40, 70))
    hidden = np.abs((angle - middle + np.pi) % (2 * np.pi) - np.pi) < width / 2
    return np.where(hidden, np.uint8(0), ground)


def _recoloured(ground: np.ndarray, strength: float, random: np.random.Generator) -> np.ndarray:
    """Random gain, offset and gamma per colour channel, as one look-up table each."""
    gain = 1 + strength * random.uniform(-1, 1) + strength / 3 * random.uniform(-1, 1, 3)
    gamma = np.exp(strength * random.uniform(-1, 1))
    offset = 255 * strength / 3 * random.uniform(-1, 1)
    ramp = np.arange(256) / 255
    result = np.array(ground)
    for channel in range(3):
        table = np.clip(255 * gain[channel] * ramp**gamma + offset, 0, 255).astype(np.uint8)
        table[0] = 0  # unseen stays unseen
        result[channel] = table[ground[channel]]
    return result
