"""Elements in another frame, cut at the border of a region there."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import shapely

from hdmap_core.elements import MapClass, MapElement
from hdmap_core.fusion.ground import to_fixed
from hdmap_core.geometry import BEVGrid
from hdmap_core.geometry.polyline import closed_ring

_MIN_LENGTH, _MIN_AREA = 1.0, 1.0  # metres, square metres: smaller pieces that a cut leaves are dropped


def cropped(elements: Sequence[MapElement], target_from_source: np.ndarray, region: BEVGrid) -> list[MapElement]:
    """The parts of elements that lie in a region; a line that leaves it and comes back is two.

    Args:
        elements: metres, source frame.
        target_from_source: (4, 4); its plane part counts.
        region: of the target frame.
    """
    box = shapely.box(region.x_range[0], region.y_range[0], region.x_range[1], region.y_range[1])
    found = []
    for element in elements:
        points = to_fixed(element.points.astype(np.float64), target_from_source)
        if element.closed and element.label is MapClass.PED_CROSSING:
            pieces = shapely.get_parts(shapely.intersection(shapely.make_valid(shapely.Polygon(points)), box))
            areas = [piece for piece in pieces if piece.geom_type == "Polygon" and piece.area >= _MIN_AREA]
            found += [replace(element, points=shapely.get_coordinates(area.exterior)[:-1]) for area in areas]
            continue
        if element.closed and ((points > box.bounds[:2]) & (points < box.bounds[2:])).all():
            found.append(replace(element, points=points))
            continue
        path = shapely.LineString(closed_ring(points) if element.closed else points)
        pieces = shapely.get_parts(shapely.line_merge(shapely.intersection(path, box)))
        lines = [piece for piece in pieces if piece.geom_type == "LineString" and piece.length >= _MIN_LENGTH]
        found += [replace(element, points=shapely.get_coordinates(line), closed=False) for line in lines]
    return found
