"""Intersection over union of segmentation masks, accumulated over a split as HDMapNet does."""

from collections.abc import Sequence

import numpy as np


class SegmentationIoU:
    """Sums intersections and unions of K classes frame by frame; a cell may belong to several classes.

    Attributes:
        intersection, union: (K,) int64 cells so far.

    >>> iou = SegmentationIoU(["divider"])
    >>> iou.update(np.array([[[True, True, False]]]), np.array([[[False, True, True]]]))
    >>> round(iou.per_class()["divider"], 3)
    0.333
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.intersection = np.zeros(len(self.names), np.int64)
        self.union = np.zeros(len(self.names), np.int64)

    def update(self, prediction: np.ndarray, truth: np.ndarray) -> None:
        """Adds masks (..., K, Y, X) of bool."""
        axes = tuple(axis for axis in range(prediction.ndim) if axis != prediction.ndim - 3)
        self.intersection += np.sum(prediction & truth, axis=axes)
        self.union += np.sum(prediction | truth, axis=axes)

    def per_class(self) -> dict[str, float]:
        """Class name -> IoU in 0..1; NaN for a class that neither side ever had."""
        with np.errstate(invalid="ignore"):
            values = self.intersection / self.union.astype(np.float64)
        return dict(zip(self.names, values.tolist(), strict=True))

    def mean(self) -> float:
        """The mIoU over the classes that occurred; NaN if none did."""
        values = np.array(list(self.per_class().values()))
        return float(values[~np.isnan(values)].mean()) if (~np.isnan(values)).any() else float("nan")
