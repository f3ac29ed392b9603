"""Photometric distortion and grid masks of images: drawn with the batch, applied on the device in one go.

Numbers are drawn where the batch is made, so that a batch depends on nothing but seed and step; a few bytes per image
travel with it, and the arithmetic over millions of pixels happens where the model runs.

Photometric distortion is that of MapTR and MapQR: brightness by up to 32 grey levels, contrast and saturation by 0.5
to 1.5, hue by up to 18 degrees, channels shuffled, each with probability 1/2, for each camera on its own.
Deliberate difference: hue turns colours about the grey axis and saturation scales their distance from it, so that all
five steps are one affine map of RGB, a single matrix product; the published code goes through HSV. Both keep grey grey.

The grid mask (Chen et al., 2020, as BEVFormer and MapQR use it) hides squares in a regular pattern. Deliberate
differences: each frame has a mask of its own, where published code draws one for the whole batch; hidden pixels get the
mean colour of ImageNet, which is zero after normalising up to rounding.
"""

from dataclasses import dataclass, fields
from itertools import permutations

import numpy as np
import torch
from torch import Tensor

from hdmap_core.model_io import TensorRecord
from training.config import AugmentConfig

BRIGHTNESS = 32.0
CONTRAST = SATURATION = (0.5, 1.5)
HUE_DEGREES = 18.0
MEAN_COLOUR = (124, 116, 104)
_ORDERS = tuple(permutations(range(3)))
# Columns: grey, and two chroma axes at right angles to it.
_AXES = np.array([[1, 1, 1], [2, -1, -1], [0, 1, -1]], np.float64).T
_AXES /= np.linalg.norm(_AXES, axis=0)


@dataclass
class Distortion(TensorRecord):
    """What to do to a batch of images. Not frozen: Lightning Fabric moves it.

    Attributes:
        colour: (B, N, 3, 3) float32: linear map of RGB; None where colours stay.
        offset: (B, N, 3) float32 grey levels, added after it.
        grid: (B, 4) int64 pixels: period, width of the bars that stay, first row, first column of the pattern; period 0
            where there is no mask. None where no frame has one.
    """

    colour: Tensor | None = None
    offset: Tensor | None = None
    grid: Tensor | None = None


def draw_distortion(config: AugmentConfig, cameras: int, height: int, random: np.random.Generator) -> Distortion | None:
    """The distortion of one frame, a batch of one; None where the config asks for none.

    Args:
        config: probabilities.
        cameras: N.
        height: H of the images, which bounds the period of a grid mask.
        random: where chance comes from.
    """
    result = Distortion()
    if config.photometric:
        pairs = [_colour(config.photometric, random) for _ in range(cameras)]
        matrices, offsets = (np.stack(column).astype(np.float32)[None] for column in zip(*pairs, strict=True))
        result.colour, result.offset = torch.from_numpy(matrices), torch.from_numpy(offsets)
    if config.grid_mask:
        period = int(random.integers(2, height))
        bar = min(max(int(period * config.grid_mask_ratio + 0.5), 1), period - 1)
        row, column = (int(value) for value in random.integers(0, period, 2))
        on = random.random() < config.grid_mask
        result.grid = torch.tensor([[period if on else 0, bar, row, column]])
    return result if config.photometric or config.grid_mask else None


def collate(frames: list[Distortion | None]) -> Distortion | None:
    """One batch of several; all of one config."""
    given = [frame for frame in frames if frame is not None]
    if not given:
        return None
    columns = {f.name: [getattr(frame, f.name) for frame in given] for f in fields(Distortion)}
    return Distortion(**{name: None if values[0] is None else torch.cat(values) for name, values in columns.items()})


def distort(images: Tensor, distortion: Distortion, present: Tensor | None = None) -> Tensor:
    """Distorted images; the argument is left as it is.

    Args:
        images: (B, N, 3, H, W) uint8, on the device of the distortion.
        distortion: of the same batch.
        present: (B, N) bool; missing cameras stay black.
    """
    result = images
    if distortion.colour is not None and distortion.offset is not None:
        batch, cameras, channels, height, width = images.shape
        pixels = images.reshape(batch * cameras, channels, -1).float()
        offset = distortion.offset.reshape(-1, channels, 1)
        changed = torch.baddbmm(offset, distortion.colour.reshape(-1, channels, channels), pixels)
        result = changed.round_().clamp_(0, 255).to(torch.uint8).reshape(batch, cameras, channels, height, width)
    if distortion.grid is not None:
        hidden = _hidden(distortion.grid, images.shape[-2:])[:, None, None]
        mean = torch.tensor(MEAN_COLOUR, dtype=torch.uint8, device=images.device).reshape(3, 1, 1)
        result = torch.where(hidden, mean, result)
    if result is not images and present is not None:
        result = result * present[:, :, None, None, None].to(torch.uint8)
    return result


def _hidden(grid: Tensor, size: torch.Size) -> Tensor:
    """(B, H, W) bool: the squares between the bars."""
    period, bar, row, column = grid[:, :, None].unbind(1)
    rows = (torch.arange(size[0], device=grid.device) - row).remainder(period.clamp(min=1)) >= bar
    columns = (torch.arange(size[1], device=grid.device) - column).remainder(period.clamp(min=1)) >= bar
    return rows[:, :, None] & columns[:, None, :] & (period > 0)[:, None]


def _colour(probability: float, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(3, 3) and (3,): all steps in one affine map of RGB, in the order of the published code."""
    chance = random.random(5) < probability / 2
    contrast_last = random.random() < 0.5
    brightness = random.uniform(-BRIGHTNESS, BRIGHTNESS)
    contrast, saturation = random.uniform(*CONTRAST), random.uniform(*SATURATION)
    angle = np.radians(random.uniform(-HUE_DEGREES, HUE_DEGREES))
    order = _ORDERS[int(random.integers(len(_ORDERS)))]
    matrix, offset = np.eye(3), np.zeros(3)
    if chance[0]:
        offset = offset + brightness
    if chance[1] and not contrast_last:
        matrix, offset = contrast * matrix, contrast * offset
    chroma = (saturation if chance[2] else 1.0) * _rotation(angle if chance[3] else 0.0)
    middle = _AXES @ np.block([[np.eye(1), np.zeros((1, 2))], [np.zeros((2, 1)), chroma]]) @ _AXES.T
    matrix, offset = middle @ matrix, middle @ offset
    if chance[1] and contrast_last:
        matrix, offset = contrast * matrix, contrast * offset
    if chance[4]:
        matrix, offset = matrix[list(order)], offset[list(order)]
    return matrix, offset


def _rotation(angle: float) -> np.ndarray:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
