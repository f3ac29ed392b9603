"""The score of a validation during training: quick, on a few keyframes."""

import math

import numpy as np
import torch
from torch import nn

from hdmap_core.elements import MapElement
from hdmap_core.metrics.chamfer_ap import chamfer_ap
from hdmap_core.model_io import ModelInput
from hdmap_core.postprocess.decode import decode
from training.config import TrainConfig
from training.data.batches import dense_targets
from training.data.keyframes import Keyframe, Keyframes, complete
from training.data.masking import draw_hidden, masked_one_hot
from training.evaluation.raster_overlap import raster_overlap, total_iou

_MASKING_SEED = 2


@torch.inference_mode()
def quick_score(model: nn.Module, keyframes: Keyframes, config: TrainConfig) -> dict[str, float]:
    """Scores of evenly spread validation keyframes.

    Returns:
        `mAP`: Chamfer mAP (MapTR) of what is published, and the `AP_<class>` of every class; `mAP_<head>` of every
        vector or segmentation head; `mIoU` of the dense heads, and the `IoU_<class>` of every class that occurred.
        Dense heads know crossings by their two long edges, so these are their ground truth.
    """
    count = min(config.evaluate_frames, len(keyframes))
    indices = [index * len(keyframes) // count for index in range(count)]
    truth: dict[str, list[MapElement]] = {}
    ways = {"mAP": config.decode}
    if config.model.vectors is not None:
        ways["mAP_vectors"] = config.decode.only("vectors")
    if config.model.segmentation is not None:
        ways["mAP_masks"] = config.decode.only("masks")
    predictions: dict[str, dict[str, list[MapElement]]] = {name: {} for name in ways}
    device = next(model.parameters()).device
    classes, grid = config.model.classes, config.model.grid
    overlaps = []
    for index in indices:
        frame = keyframes[index]
        output = model(validation_inputs(frame, index, config).to(device))
        truth[frame.token] = frame.elements
        for name, way in ways.items():
            predictions[name][frame.token] = decode(output, way, classes=classes, grid=grid)
        if output.dense is not None:
            said = output.dense.semantic[0].argmax(dim=0).cpu().numpy()
            overlaps.append(raster_overlap(said, frame.elements, config.model))
    scored = {name: chamfer_ap(elements, truth, "maptr", classes) for name, elements in predictions.items()}
    scores = {name: score.mean_ap for name, score in scored.items()}
    scores |= {f"AP_{label.value}": score.mean_ap for label, score in scored["mAP"].classes.items()}
    if config.model.dense_heads is not None:
        iou = total_iou(overlaps, classes)
        scores["mIoU"] = iou.pop("mIoU")
        scores |= {f"IoU_{name}": value for name, value in iou.items() if not math.isnan(value)}
    return scores


def validation_inputs(frame: Keyframe, index: int, config: TrainConfig) -> ModelInput:
    """What a model sees of a validation keyframe; a refiner by itself: its map with parts hidden, always the same."""
    model = config.model
    if not model.is_refiner:
        return complete(frame, model)
    random = np.random.default_rng((_MASKING_SEED, index))
    hidden = draw_hidden(config.masking, model.classes, model.grid.shape, random)
    semantic = torch.from_numpy(true_raster(frame, config))[None]
    return ModelInput(semantic=masked_one_hot(semantic, torch.from_numpy(hidden)[None], len(model.classes)))


def true_raster(frame: Keyframe, config: TrainConfig) -> np.ndarray:
    """(Y, X) uint8 class indices of a keyframe's ground truth."""
    return dense_targets([frame.elements], config.model).semantic[0].numpy()
