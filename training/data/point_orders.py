"""Equivalent point orders: every way of listing an element's points that means the same shape (MapTR, section 3.2)."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from hdmap_core.elements import MapClass, MapElement
from hdmap_core.geometry import BEVGrid, polyline

ClosedOrders = Literal["all", "published"]


def point_orders(
    element: MapElement, grid: BEVGrid, num_points: int, closed_orders: ClosedOrders = "all"
) -> np.ndarray:
    """(O, P, 2) float32 in [0, 1] over the grid: the orders of P points, evenly spaced by arc length; order 0 is the
    element's own.

    Open: both directions, O = 2; a centerline's direction has a meaning, O = 1. Points beyond the grid are moved onto
    its border. Closed, by `closed_orders`:

    - `all`: P distinct points, from each of them in both directions (MapTR, section 3.2), O = 2 P; O = P for a
      centerline.
    - `published`: what the released code of MapTRv2 and MapQR does. The P-th point repeats the first; one order per
      vertex of the ring, sampled anew from there; one direction only, after turning the ring clockwise as seen from
      above (a centerline is not turned); of more than P - 1 vertices a fixed random choice. Deliberate difference:
      the released maps turn holes the other way; an element does not know that it is one.

    Args:
        element: metres, ego frame.
        grid: over whose ranges points are normalised.
        num_points: P.
        closed_orders: which orders a closed element has.
    """
    directed = element.label is MapClass.CENTERLINE
    if element.closed and closed_orders == "published":
        orders = _from_each_vertex(element.points if directed else _clockwise(element.points), num_points)
    else:
        points = polyline.resample(element.points, num_points, element.closed)
        orders = points[None] if directed else np.stack([points, points[::-1]])
        if element.closed:
            rolled = (np.arange(num_points)[:, None] + np.arange(num_points)) % num_points
            orders = orders[:, rolled].reshape(-1, num_points, 2)
    return np.clip(grid.normalise(orders), 0, 1).astype(np.float32)


def pack_orders(frames: Sequence[Sequence[np.ndarray]], num_points: int) -> tuple[Tensor, Tensor]:
    """The orders of all elements of each frame, one below the other: as ragged as the elements are.

    Padding every element to the 2 P orders of a ring instead would cost about five times the memory and the time of
    matching: most elements are open and have two.

    Args:
        frames: B frames of elements' orders (O, P, 2); O differs between elements.
        num_points: P.

    Returns:
        orders: (B, R, P, 2) float32, R the most rows of any frame (at least 1); zeros after a frame's last.
        owners: (B, R) int64, the index in its frame of the element that a row belongs to; -1 for padding.
    """
    most = max([1, *(sum(map(len, elements)) for elements in frames)])
    orders = torch.zeros(len(frames), most, num_points, 2)
    owners = torch.full((len(frames), most), -1, dtype=torch.int64)
    for b, elements in enumerate(frames):
        if elements:
            rows = np.concatenate(elements)
            orders[b, : len(rows)] = torch.from_numpy(rows)
            owners[b, : len(rows)] = torch.from_numpy(np.repeat(np.arange(len(elements)), [len(e) for e in elements]))
    return orders, owners


def _clockwise(ring: np.ndarray) -> np.ndarray:
    """(V, 2): the ring, clockwise as seen from above (x forward, y left), from the same first vertex."""
    x, y = (ring - ring[0]).astype(np.float64).T
    anticlockwise = (x * np.roll(y, -1) - y * np.roll(x, -1)).sum() > 0
    return np.roll(ring[::-1], 1, axis=0) if anticlockwise else ring


def _from_each_vertex(ring: np.ndarray, num_points: int) -> np.ndarray:
    """(S, P, 2), S = min(V, P - 1): the ring sampled from S of its V vertices, the first point repeated at the end."""
    starts = np.arange(len(ring))
    if len(ring) > num_points - 1:
        starts = np.sort(np.random.default_rng(0).choice(len(ring), max(num_points - 1, 1), replace=False))
    path = polyline.closed_ring(ring)
    arc = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
    stations = arc[starts, None] + np.linspace(0.0, arc[-1], num_points)
    stations = np.where(stations > arc[-1], stations - arc[-1], stations)
    orders = np.stack([np.interp(stations, arc, path[:, axis]) for axis in range(2)], axis=-1)
    orders[:, -1] = orders[:, 0]
    return orders.astype(ring.dtype)
