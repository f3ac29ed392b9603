import math

import numpy as np

from hdmap_core.metrics.segmentation_iou import SegmentationIoU


def test_sums_over_frames_before_dividing() -> None:
    iou = SegmentationIoU(["divider", "boundary", "never"])
    truth = np.zeros((3, 2, 4), bool)
    truth[0, 0] = True  # 4 cells
    prediction = np.zeros_like(truth)
    prediction[0, 0, :2] = True  # 2 of 4
    prediction[1, 1, 0] = True  # wrong
    iou.update(prediction, truth)
    iou.update(truth, truth)
    assert iou.per_class()["divider"] == (2 + 4) / (4 + 4)
    assert iou.per_class()["boundary"] == 0.0
    assert math.isnan(iou.per_class()["never"])
    assert iou.mean() == 0.375


def test_a_batch_is_the_sum_of_its_frames() -> None:
    generator = np.random.default_rng(0)
    prediction, truth = generator.random((2, 3, 2, 8, 8)) > 0.5
    whole, parts = SegmentationIoU(["a", "b"]), SegmentationIoU(["a", "b"])
    whole.update(prediction, truth)
    for one, other in zip(prediction, truth, strict=True):
        parts.update(one, other)
    assert whole.per_class() == parts.per_class()


def test_nothing_seen_is_not_a_number() -> None:
    assert math.isnan(SegmentationIoU(["a"]).mean())
