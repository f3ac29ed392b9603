"""Scores of map elements and of segmentation masks. Imports no models."""

from hdmap_core.metrics.chamfer_ap import PROTOCOLS, ChamferProtocol, ChamferScore, chamfer_ap
from hdmap_core.metrics.segmentation_iou import SegmentationIoU

__all__ = ["PROTOCOLS", "ChamferProtocol", "ChamferScore", "SegmentationIoU", "chamfer_ap"]
