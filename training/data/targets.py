"""What a model should have said: class masks and polylines with all their equivalent point orders."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hdmap_core.elements import MapClass, MapElement
from hdmap_core.geometry import BEVGrid, raster
from hdmap_core.model_io import TensorRecord
from training.data.auxiliary_targets import AuxiliaryTargets
from training.data.dense_targets import DenseTargets
from training.data.point_orders import ClosedOrders, pack_orders, point_orders


@dataclass(frozen=True)
class Targets(TensorRecord):
    """Targets of a batch.

    Attributes:
        masks: (B, K, 2Y, 2X) uint8, 1 on the class, at half the BEV grid's cell size; polygons are filled. None for a
            model without a segmentation head.
        labels: (B, G) int64 class indices, -1 where a frame has fewer than G elements.
        orders: (B, R, P, 2) float32 in [0, 1] over the grid: the equivalent point orders of all elements of a frame,
            each element's first order first (`point_orders.pack_orders`).
        owners: (B, R) int64: which element of its frame a row of `orders` belongs to; -1 for padding.
        extent: (2,) float32: the metres (x, y) that 1 stands for in `orders`.
        auxiliary: of the heads that only training has; None for a model without.
        dense: of the dense heads; None for a model without.
    """

    masks: Tensor | None
    labels: Tensor
    orders: Tensor
    owners: Tensor
    extent: Tensor
    auxiliary: AuxiliaryTargets | None = None
    dense: DenseTargets | None = None


def build_targets(
    frames: Sequence[Sequence[MapElement]],
    *,
    grid: BEVGrid,
    mask_grid: BEVGrid | None,
    classes: Sequence[MapClass],
    num_points: int,
    line_width: float,
    closed_orders: ClosedOrders = "all",
) -> Targets:
    """Targets of several frames; elements of classes that the model does not know are left out.

    Args:
        frames: ground truth, metres.
        grid: over whose ranges points are normalised.
        mask_grid: of the masks; None for no masks.
        classes: K, in the order of the model's outputs.
        num_points: P per element.
        line_width: of the drawn polylines, in metres.
        closed_orders: which point orders closed elements have.
    """
    known = [[element for element in elements if element.label in classes] for elements in frames]
    most = max([1, *(len(elements) for elements in known)])
    labels = torch.full((len(known), most), -1, dtype=torch.int64)
    for b, elements in enumerate(known):
        for g, element in enumerate(elements):
            labels[b, g] = classes.index(element.label)
    orders, owners = pack_orders(
        [[point_orders(element, grid, num_points, closed_orders) for element in elements] for elements in known],
        num_points,
    )
    masks = None if mask_grid is None else torch.from_numpy(_masks(known, mask_grid, classes, line_width))
    return Targets(masks, labels, orders, owners, torch.tensor(grid.size, dtype=torch.float32))


def _masks(
    frames: Sequence[Sequence[MapElement]], grid: BEVGrid, classes: Sequence[MapClass], line_width: float
) -> np.ndarray:
    """(B, K, Y, X) uint8."""
    return np.stack(
        [[class_mask([e for e in frame if e.label == k], grid, line_width) for k in classes] for frame in frames]
    )


def class_mask(elements: Sequence[MapElement], grid: BEVGrid, line_width: float) -> np.ndarray:
    """(Y, X) uint8: open elements drawn as lines, closed ped crossings filled, other closed ones drawn as rings."""
    lines = [e.points for e in elements if not e.closed]
    rings = [e.points for e in elements if e.closed and e.label is not MapClass.PED_CROSSING]
    mask = raster.draw_lines(grid, lines, line_width) | raster.draw_lines(grid, rings, line_width, closed=True)
    for element in elements:
        if element.closed and element.label is MapClass.PED_CROSSING:
            mask |= raster.fill_polygon(grid, element.points)
    return mask
