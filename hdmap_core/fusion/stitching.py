"""A map that was traced in blocks, put together: lines that go on behind a border are one, halves of crossings too."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import shapely

from hdmap_core.elements import MapClass, MapElement
from hdmap_core.geometry import polyline
from hdmap_core.postprocess.tracing import join_paths

_GAP_M = 1.5  # that a cut may leave
_MIN_COSINE = np.cos(np.radians(40))
_TOUCHING_M = 0.1
_RECTANGULAR = 0.8  # share of the enclosing rectangle from which an outline is taken for one


def stitched(pieces: Sequence[MapElement]) -> list[MapElement]:
    """The elements, those that a border has cut joined again; scores are means by length or area."""
    whole = [piece for piece in pieces if piece.closed and piece.label is not MapClass.PED_CROSSING]
    for label in dict.fromkeys(piece.label for piece in pieces):
        of_class = [piece for piece in pieces if piece.label is label]
        whole += _lines([piece for piece in of_class if not piece.closed])
        if label is MapClass.PED_CROSSING:
            whole += _areas([piece for piece in of_class if piece.closed])
    return whole


def _lines(pieces: list[MapElement]) -> list[MapElement]:
    by_end = {tuple(piece.points[at].tolist()): piece for piece in pieces for at in (0, -1)}
    joined = []
    for path in join_paths([piece.points for piece in pieces], _GAP_M, _MIN_COSINE):
        members = list({id(by_end[end]): by_end[end] for end in map(tuple, path.tolist()) if end in by_end}.values())
        lengths = [polyline.length(member.points) for member in members]
        score = _mean_score(members, lengths)
        joined.append(replace(members[0], points=path, score=score))
    return joined


def _areas(pieces: list[MapElement]) -> list[MapElement]:
    outlines = [shapely.make_valid(shapely.Polygon(piece.points)) for piece in pieces]
    joined = []
    for part in shapely.get_parts(shapely.union_all([outline.buffer(_TOUCHING_M) for outline in outlines])):
        inside = [index for index, outline in enumerate(outlines) if part.intersects(outline)]
        if len(inside) == 1:
            joined.append(pieces[inside[0]])
            continue
        area = part.buffer(-_TOUCHING_M)
        if not area.area:
            joined += [pieces[index] for index in inside]
            continue
        rectangle = shapely.minimum_rotated_rectangle(area)
        outline = rectangle if area.area > _RECTANGULAR * rectangle.area else area
        score = _mean_score([pieces[index] for index in inside], [outlines[index].area for index in inside])
        points = shapely.get_coordinates(max(shapely.get_parts(outline), key=shapely.area).exterior)[:-1]
        joined.append(replace(pieces[inside[0]], points=points, score=score))
    return joined


def _mean_score(members: Sequence[MapElement], sizes: Sequence[float]) -> float:
    """By length or area; the plain mean of members that have none, as a line from a point to itself."""
    return float(np.average([member.score for member in members], weights=sizes if any(sizes) else None))
