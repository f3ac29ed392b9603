"""Pedestrian crossings as two open lines: HDMapNet's reading of a crossing, in its targets and in its metrics."""

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
import shapely

from hdmap_core.elements import MapClass, MapElement
from hdmap_core.geometry import polyline

_TOLERANCE = 0.2  # metres that a vertex may stand off the side that it is taken to lie on
_SAME_SIDE = np.cos(np.deg2rad(30))  # of the angle between an edge and the longest edge of its side


def crossing_edges(elements: Sequence[MapElement]) -> list[MapElement]:
    """The elements with each closed pedestrian crossing replaced by its two longest sides, the longer one first.

    For outlines that a model predicts or a file holds. Of ground truth `TrueMap.elements` knows better: an outline
    may be of several crossings that touch, or of one that the border of the map has cut, and shows no more which sides
    were long.

    Args:
        elements: left as they are; those that are not closed crossings are handed on. Label and score are kept.
    """
    edges: list[MapElement] = []
    for element in elements:
        if element.closed and element.label is MapClass.PED_CROSSING:
            edges += [replace(element, points=side, closed=False) for side in long_sides(element.points)]
        else:
            edges.append(element)
    return edges


def long_sides(outline: np.ndarray) -> list[np.ndarray]:
    """The two longest sides of an outline.

    HDMapNet takes the two longest edges between neighbouring vertices. Here a side runs from corner to corner of the
    simplified outline, however many vertices lie on it: an outline that was resampled, or a predicted one with a bent
    side, gives the same two lines as the four corners do.

    Args:
        outline: (P, 2) metres, the first point not repeated.

    Returns:
        Two lines (P, 2) float64 in the outline's sense of rotation, the longer one first.
    """
    ring = _simplified(outline.astype(np.float64))
    if len(ring) < 2:  # smaller than the tolerance
        middle = outline.mean(axis=0)
        box = cv2.boxPoints(cv2.minAreaRect((outline - middle).astype(np.float32))) + middle
        sides = [box[[0, 1]], box[[1, 2]], box[[2, 3]], box[[3, 0]]]
    else:
        sides = _sides(ring)
    lengths = np.array([polyline.length(side) for side in sides])
    return [sides[index] for index in np.argsort(-lengths, kind="stable")[:2]]


def _simplified(ring: np.ndarray) -> np.ndarray:
    """(V, 2) vertices of a ring, without repetition; starts at its farthest from the middle, which is a corner."""
    first = int(np.argmax(np.square(ring - ring.mean(axis=0)).sum(axis=1)))
    path = polyline.closed_ring(np.roll(ring, -first, axis=0))
    simple = shapely.simplify(shapely.LineString(path), _TOLERANCE, preserve_topology=False)
    return shapely.get_coordinates(simple)[:-1]


def _sides(ring: np.ndarray) -> list[np.ndarray]:
    """The ring (V, 2) cut into sides: an edge, the longest that is left, and its neighbours of about its direction."""
    edge = np.roll(ring, -1, axis=0) - ring
    length = np.linalg.norm(edge, axis=1)
    unit = edge / length[:, None]
    taken = np.zeros(len(ring), bool)
    sides = []
    for seed in np.argsort(-length, kind="stable"):
        if taken[seed]:
            continue
        belongs = ~taken & (unit @ unit[seed] > _SAME_SIDE)
        first = last = int(seed)
        while belongs[(first - 1) % len(ring)]:
            first -= 1
        while belongs[(last + 1) % len(ring)]:
            last += 1
        taken[np.arange(first, last + 1) % len(ring)] = True
        sides.append(ring[np.arange(first, last + 2) % len(ring)])
    return sides
