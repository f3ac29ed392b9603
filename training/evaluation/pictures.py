"""Pictures of predictions for the TensorBoard."""

from contextlib import suppress

import numpy as np
import torch
from torch import nn

from hdmap_core.datasets.protocol import MapDataset
from hdmap_core.errors import DatasetError, ImageError
from hdmap_core.postprocess.decode import decode
from hdmap_core.viz import draw_bev, draw_cameras
from training.config import TrainConfig
from training.data.keyframes import KeyframeList
from training.evaluation.quick_score import validation_inputs

_MIN_SCORE = 0.3
_PIXELS_PER_METRE = 12
_TILE = (180, 320)  # (H, W) pixels of each camera


@torch.inference_mode()
def picture_predictions(
    model: nn.Module,
    keyframes: KeyframeList,
    config: TrainConfig,
    dataset: MapDataset | None = None,
    count: int = 4,
) -> dict[str, np.ndarray]:
    """Prediction in colour over ground truth in white, of evenly spread keyframes.

    Args:
        model: in evaluation mode.
        keyframes: of the validation.
        config: the recipe.
        dataset: that has their images; None: no pictures of cameras.
        count: at most so many keyframes.

    Returns:
        (H, W, 3) uint8 RGB: from above as `predictions/<number>`, in the camera images as `cameras/<number>`; the same
        frames each time.
    """
    count = min(count, len(keyframes))
    device = next(model.parameters()).device
    pictures = {}
    for number in range(count):
        index = number * len(keyframes) // count
        frame = keyframes[index]
        output = model(validation_inputs(frame, index, config).to(device))
        elements = decode(output, config.decode, classes=config.model.classes, grid=config.model.grid)
        sure = [element for element in elements if element.score >= _MIN_SCORE]
        pictures[f"predictions/{number}"] = draw_bev(None, sure, frame.elements, config.model.grid, _PIXELS_PER_METRE)
        if dataset is not None:
            with suppress(DatasetError, ImageError):  # what was prepared may outlive the images: a run goes on without
                observation = dataset.observation(frame.token, points=False, at_least=_TILE, roads=False, coarse=True)
                pictures[f"cameras/{number}"] = draw_cameras(observation, sure, frame.elements, _TILE)
    return pictures
