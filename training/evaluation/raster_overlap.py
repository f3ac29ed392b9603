"""How far predicted rasters of dense heads and true ones overlap, frame by frame; summed, it is the mIoU."""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from rich.table import Table

from hdmap_core.elements import MapClass, MapElement
from hdmap_core.metrics.breakdown_report import number
from hdmap_core.metrics.segmentation_iou import SegmentationIoU
from hdmap_core.models import ModelConfig
from training.data.batches import dense_targets

Overlap = list[list[int]]
"""(2, K) cells of a frame: in the intersection and in the union of predicted and true raster, per class."""


def raster_overlap(raster: np.ndarray, truth: Sequence[MapElement], model: ModelConfig) -> Overlap:
    """The overlap of one frame.

    Args:
        raster: (Y, X) class indices that the model says, 0 is the background.
        truth: elements, metres in the ego frame; drawn as the dense heads are taught.
        model: of the prediction.
    """
    targets = dense_targets([truth], model)
    iou = SegmentationIoU([label.value for label in model.classes])
    iou.update(_one_hot(raster, len(model.classes)), _one_hot(targets.semantic[0].numpy(), len(model.classes)))
    return [iou.intersection.tolist(), iou.union.tolist()]


def _one_hot(raster: np.ndarray, num_classes: int) -> np.ndarray:
    """(Y, X) class indices -> (K, Y, X) bool without the background."""
    return raster[None] == np.arange(1, num_classes + 1)[:, None, None]


def total_iou(overlaps: Iterable[Overlap], classes: Sequence[MapClass]) -> dict[str, float]:
    """Class -> IoU over all frames, and `mIoU`, their mean (HDMapNet's); NaN for a class that never occurred."""
    iou = SegmentationIoU([label.value for label in classes])
    for intersection, union in overlaps:
        iou.intersection += np.array(intersection)
        iou.union += np.array(union)
    return {**iou.per_class(), "mIoU": iou.mean()}


def iou_json(found: Mapping[str, float]) -> dict[str, float | None]:
    """The same with null for NaN, which JSON has not."""
    return {name: None if math.isnan(value) else value for name, value in found.items()}


def iou_table(found: Mapping[str, float]) -> Table:
    """One column per class, and the mean."""
    table = Table(*(name.replace("_", " ") for name in found), title="IoU of the dense heads' rasters")
    table.add_row(*(number(value) for value in iou_json(found).values()))
    return table
