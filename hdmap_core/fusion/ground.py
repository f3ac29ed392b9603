"""Points on the ground between the car's frame and the fixed one: the plane part of a pose."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from hdmap_core.elements import MapElement
from hdmap_core.geometry import BEVGrid, polyline


def to_fixed(points: np.ndarray, fixed_from_ego: np.ndarray) -> np.ndarray:
    """(P, 2) metres on the ground of the ego frame -> (P, 2) float64 in the fixed frame's plane."""
    return points @ fixed_from_ego[:2, :2].T + fixed_from_ego[:2, 3]


def elements_to_fixed(elements: Sequence[MapElement], fixed_from_ego: np.ndarray) -> list[MapElement]:
    """Elements of the ego frame in the fixed frame's plane."""
    return [replace(e, points=to_fixed(e.points.astype(np.float64), fixed_from_ego)) for e in elements]


def to_ego(points: np.ndarray, fixed_from_ego: np.ndarray) -> np.ndarray:
    """The inverse of `to_fixed`."""
    (a, b), (c, d) = fixed_from_ego[:2, :2].tolist()
    return (points - fixed_from_ego[:2, 3]) @ (np.array([[d, -c], [-b, a]]) / (a * d - b * c))


def is_inside(points: np.ndarray, region: BEVGrid) -> np.ndarray:
    """(P,) bool: which points (P, 2) of the ego frame lie in the region."""
    low, high = np.transpose([region.x_range, region.y_range])
    return np.all((points >= low) & (points <= high), axis=1)


def samples(element: MapElement, step: float) -> np.ndarray:
    """(P, 2) float64: points about `step` metres apart along the element, at least two."""
    path = element.path.astype(np.float64)
    arc = polyline.arc_lengths(path)
    number = max(2, round(arc[-1] / step) + 1)
    stations = np.arange(number) * (arc[-1] / (number if element.closed else number - 1))
    return np.stack([np.interp(stations, arc, path[:, 0]), np.interp(stations, arc, path[:, 1])], axis=1)
