"""Observation -> ModelInput: the same function in training, evaluation, bag replay and node."""

import numpy as np
import torch

from hdmap_core.geometry import BEVGrid
from hdmap_core.geometry.ground_view import ground_view
from hdmap_core.model_io import ModelInput
from hdmap_core.observation import Observation


def ground_grid(grid: BEVGrid) -> BEVGrid:
    """The grid of the ground pixels: the same region in cells of half the size."""
    return BEVGrid(grid.x_range, grid.y_range, grid.resolution / 2)


def ground_pixels(observation: Observation, grid: BEVGrid) -> np.ndarray:
    """(4, 2Y, 2X) uint8 ground pixels of an observation for a model with this BEV grid."""
    view = ground_view(observation.images, observation.rig, ground_grid(grid))
    return np.ascontiguousarray(view.transpose(2, 0, 1))


def preprocess(observation: Observation, grid: BEVGrid) -> ModelInput:
    """A batch of one."""
    return ModelInput(ground=torch.from_numpy(ground_pixels(observation, grid))[None])
