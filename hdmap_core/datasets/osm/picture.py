"""A picture of a city: roads by class over the HD map, with the figures of how they fit."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import shapely
from PIL import Image, ImageDraw, ImageFont

from hdmap_core.datasets.osm.coverage import Coverage
from hdmap_core.datasets.osm.roads import ATTRIBUTION, Road

Colour = tuple[int, int, int]
_GROUPS: dict[str, tuple[Colour, frozenset[str]]] = {
    "motorway": ((235, 64, 92), frozenset(("motorway", "motorway_link"))),
    "trunk": ((255, 122, 66), frozenset(("trunk", "trunk_link"))),
    "primary": ((255, 180, 60), frozenset(("primary", "primary_link"))),
    "secondary": ((240, 228, 96), frozenset(("secondary", "secondary_link"))),
    "tertiary": ((126, 214, 120), frozenset(("tertiary", "tertiary_link"))),
    "residential": ((92, 176, 255), frozenset(("residential", "unclassified", "living_street", "road"))),
    "service": ((190, 140, 255), frozenset(("service",))),
}
_OTHER = "other"
_COLOURS = {**{name: colour for name, (colour, _) in _GROUPS.items()}, _OTHER: (140, 142, 150)}
_BACKGROUND, _AREA, _DIVIDER = (18, 20, 26), (52, 56, 66), (104, 108, 122)
_DRIVEN, _TEXT, _FAINT = (255, 255, 255), (225, 228, 235), (150, 155, 168)
_LONGEST_PX, _PANEL_PX, _EDGE_M = 2000, 700, 50.0


@dataclass(frozen=True)
class CityBackground:
    """What is drawn under the roads, metres in the map frame.

    Attributes:
        drivable: polygons.
        dividers: lines.
        driven: (N, 2) positions of the keyframes.
    """

    drivable: Sequence[shapely.Geometry] = ()
    dividers: Sequence[shapely.Geometry] = ()
    driven: np.ndarray = field(default_factory=lambda: np.zeros((0, 2)))


def draw_city(title: str, roads: Sequence[Road], background: CityBackground, figures: Coverage) -> np.ndarray:
    """(H, W, 3) uint8 RGB, north up; the region of the HD map where there is one, else that of the roads."""
    shapes = background.drivable if len(background.drivable) else [shapely.LineString(road.line) for road in roads]
    x0, y0, x1, y1 = shapely.total_bounds(shapes) + np.array([-1, -1, 1, 1]) * _EDGE_M
    scale = _LONGEST_PX / max(x1 - x0, y1 - y0)

    def pixels(points: np.ndarray) -> np.ndarray:
        return np.round((points - [x0, y1]) * [scale, -scale]).astype(np.int32)

    canvas = np.full((int((y1 - y0) * scale), int((x1 - x0) * scale), 3), _BACKGROUND, np.uint8)
    for polygon in shapely.get_parts(background.drivable):
        if isinstance(polygon, shapely.Polygon):
            rings = (polygon.exterior, *polygon.interiors)
            cv2.fillPoly(canvas, [pixels(shapely.get_coordinates(ring)) for ring in rings], _AREA, cv2.LINE_AA)
    for line in background.dividers:
        cv2.polylines(canvas, [pixels(shapely.get_coordinates(line))], False, _DIVIDER, 1, cv2.LINE_AA)
    for name in reversed(_COLOURS):  # the greater roads on top
        lines = [pixels(road.line) for road in roads if group_of(road.kind) == name]
        cv2.polylines(canvas, lines, False, _COLOURS[name], 2, cv2.LINE_AA)
    for x, y in pixels(background.driven):
        cv2.circle(canvas, (int(x), int(y)), 2, _DRIVEN, -1, cv2.LINE_AA)
    return _with_panel(canvas, title, roads, background, figures.notes)


def group_of(kind: str) -> str:
    """Which colour a road has."""
    return next((name for name, (_, kinds) in _GROUPS.items() if kind in kinds), _OTHER)


def _with_panel(
    canvas: np.ndarray, title: str, roads: Sequence[Road], background: CityBackground, notes: Sequence[str]
) -> np.ndarray:
    """The canvas with the legend to its right."""
    height, width = canvas.shape[:2]
    whole = np.full((max(height, _PANEL_PX), width + _PANEL_PX, 3), _BACKGROUND, np.uint8)
    whole[:height, :width] = canvas
    picture = Image.fromarray(whole)
    pen = ImageDraw.Draw(picture)
    x, y = width + 24, 24
    font, small = ImageFont.load_default(24), ImageFont.load_default(19)
    pen.text((x, y), title, _TEXT, ImageFont.load_default(30))
    y += 60
    entries = []
    for name, colour in _COLOURS.items():
        length = sum(shapely.LineString(road.line).length for road in roads if group_of(road.kind) == name)
        if length:
            entries.append((colour, f"{name}   {length / 1000:.1f} km"))
    if len(background.drivable):
        entries += [(_AREA, "drivable area of the HD map"), (_DIVIDER, "its dividers")]
    if len(background.driven):
        entries.append((_DRIVEN, "keyframes"))
    for colour, text in entries:
        pen.line([(x, y + 16), (x + 50, y + 16)], colour, 6)
        pen.text((x + 66, y), text, _TEXT, font)
        y += 38
    for note in ("", *notes, "", "north is up", ATTRIBUTION):
        pen.text((x, y), note, _FAINT, small)
        y += 28
    return np.asarray(picture)
