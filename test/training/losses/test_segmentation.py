"""Losses of masks: least at the truth, safe when a class is nowhere."""

import numpy as np
import pytest
import torch

from hdmap_core.elements import MapClass, MapElement
from hdmap_core.geometry import BEVGrid
from training.data.targets import build_targets
from training.losses.segmentation import mask_losses

GRID = BEVGrid()
CLASSES = (MapClass.DIVIDER, MapClass.PED_CROSSING, MapClass.BOUNDARY)
DIVIDER = MapElement(MapClass.DIVIDER, np.array([[-20.0, 2], [-5, 3], [10, 1], [25, 2]]))
BOUNDARY = MapElement(MapClass.BOUNDARY, np.array([[-25.0, 8], [25, 9]]))
CROSSING = MapElement(MapClass.PED_CROSSING, np.array([[5.0, -6], [9, -6], [9, 6], [5, 6]]), closed=True)


def test_masks_zero_at_the_truth_and_worst_at_its_opposite() -> None:
    frames = [[DIVIDER, CROSSING], [BOUNDARY]]
    masks = build_targets(frames, grid=GRID, mask_grid=GRID, classes=CLASSES, num_points=6, line_width=0.45).masks
    truth = (masks.float() * 2 - 1) * 30
    right, wrong = mask_losses(truth, masks, 3.0), mask_losses(-truth, masks, 3.0)
    assert right["mask_bce"].item() == pytest.approx(0, abs=1e-6)
    assert right["mask_dice"].item() == pytest.approx(0, abs=1e-6)
    assert wrong["mask_bce"] > 20 and wrong["mask_dice"] > 0.99


def test_masks_of_an_empty_batch() -> None:
    masks = torch.zeros(2, 3, 4, 5, dtype=torch.uint8)
    logits = torch.full((2, 3, 4, 5), -30.0, requires_grad=True)
    found = mask_losses(logits, masks, 3.0)
    assert found["mask_dice"].item() == pytest.approx(0, abs=1e-6)
    (found["mask_bce"] + found["mask_dice"]).backward()
    assert logits.grad is not None and torch.isfinite(logits.grad).all()


def test_missing_cells_of_the_class_cost_more_than_false_ones() -> None:
    masks = torch.tensor([[[[1, 0]]]], dtype=torch.uint8)
    missed = mask_losses(torch.tensor([[[[-3.0, -30.0]]]]), masks, 3.0)["mask_bce"]
    false = mask_losses(torch.tensor([[[[30.0, 3.0]]]]), masks, 3.0)["mask_bce"]
    assert missed.item() == pytest.approx(3 * false.item(), rel=1e-3)
