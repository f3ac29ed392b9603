"""What a model should have said: class masks and polylines with all their equivalent point orders."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from hdmap_core.elements import MapClass, MapElement
from hdmap_core.geometry import BEVGrid, polyline, raster


@dataclass(frozen=True)
class Targets:
    """Targets of a batch.

    Attributes:
        masks: (B, K, 2Y, 2X) uint8, 1 on the class, at half the BEV grid's cell size; polygons are filled.
        labels: (B, G) int64 class indices, -1 where a frame has fewer than G elements.
        orders: (B, G, O, P, 2) float32 in [0, 1] over the grid: each element's equivalent point orders; open ones
            have two, repeated to fill O = 2 P.
    """

    masks: Tensor
    labels: Tensor
    orders: Tensor

    def to(self, device: torch.device | str) -> "Targets":
        """The targets on another device."""
        return replace(self, **{f.name: getattr(self, f.name).to(device) for f in fields(self)})


def build_targets(
    frames: Sequence[Sequence[MapElement]],
    *,
    grid: BEVGrid,
    mask_grid: BEVGrid,
    classes: Sequence[MapClass],
    num_points: int,
    line_width: float,
) -> Targets:
    """Targets of several frames; elements of classes that the model does not know are left out.

    Args:
        frames: ground truth, metres.
        grid: over whose ranges points are normalised.
        mask_grid: of the masks.
        classes: K, in the order of the model's outputs.
        num_points: P per element.
        line_width: of the drawn polylines, in metres.
    """
    known = [[element for element in elements if element.label in classes] for elements in frames]
    most = max([1, *(len(elements) for elements in known)])
    labels = torch.full((len(known), most), -1, dtype=torch.int64)
    orders = torch.zeros(len(known), most, 2 * num_points, num_points, 2)
    masks = np.zeros((len(known), len(classes), *mask_grid.shape), np.uint8)
    for b, elements in enumerate(known):
        for g, element in enumerate(elements):
            labels[b, g] = classes.index(element.label)
            orders[b, g] = torch.from_numpy(point_orders(element, grid, num_points))
        for k, label in enumerate(classes):
            masks[b, k] = class_mask([e for e in elements if e.label == label], mask_grid, line_width)
    return Targets(torch.from_numpy(masks), labels, orders)


def point_orders(element: MapElement, grid: BEVGrid, num_points: int) -> np.ndarray:
    """(2 P, P, 2) float32: all orders of an element's P points that mean the same shape.

    Open: both directions. Closed: both directions from every start (MapTR, section 3.2).
    """
    points = np.clip(grid.normalise(polyline.resample(element.points, num_points, element.closed)), 0, 1)
    if not element.closed:
        return np.tile(np.stack([points, points[::-1]]), (num_points, 1, 1)).astype(np.float32)
    start = (np.arange(num_points)[:, None] + np.arange(num_points)) % num_points
    return np.concatenate([points[start], points[::-1][start]]).astype(np.float32)


def class_mask(elements: Sequence[MapElement], grid: BEVGrid, line_width: float) -> np.ndarray:
    """(Y, X) uint8: open elements drawn as lines, closed ped crossings filled, other closed ones drawn as rings."""
    lines = [e.points for e in elements if not e.closed]
    rings = [e.points for e in elements if e.closed and e.label is not MapClass.PED_CROSSING]
    mask = raster.draw_lines(grid, lines, line_width) | raster.draw_lines(grid, rings, line_width, closed=True)
    for element in elements:
        if element.closed and element.label is MapClass.PED_CROSSING:
            mask |= raster.fill_polygon(grid, element.points)
    return mask
