"""What houses look like: walls in bays with windows, shops and ledges, lit here and there after dark."""

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from hdmap_core.datasets.synthetic.things.face_parts import GLASS, quad, tinted
from hdmap_core.datasets.synthetic.things.faces import Face, Mesh, Placement
from hdmap_core.datasets.synthetic.town import RGB, Box

_STOREY_M = 3.3
_BAY_M = 3.6
_LIT_WINDOWS: tuple[RGB, ...] = ((0.95, 0.75, 0.42), (0.9, 0.82, 0.6), (0.75, 0.85, 0.95))


class _Style(NamedTuple):
    """How a house's windows sit in its bays and storeys, as shares of these, and what it has besides."""

    margin: float
    sill: float
    lintel: float
    has_shops: bool
    has_ledges: bool


def building_placements(box: Box, seed: int, after_dark: bool) -> list[Placement]:
    """Walls in bays of about 3.6 m, each an object of its own so that depth sorting works along a long front.

    After dark some windows are lit.
    """
    rng = np.random.default_rng(seed)
    length, width, height = box.size
    storeys = max(round(height / _STOREY_M), 1)
    storey = height / storeys
    style = _Style(
        margin=float(rng.uniform(0.12, 0.28)),
        sill=float(rng.uniform(0.22, 0.34)),
        lintel=float(rng.uniform(0.75, 0.88)),
        has_shops=rng.random() < 0.5,
        has_ledges=rng.random() < 0.5,
    )
    placements: list[Placement] = []
    sides = ((length, width, 0.0), (width, length, 0.5), (length, width, 1.0), (width, length, 1.5))
    for front, depth, quarter in sides:
        # In the wall's frame x points out of the wall, y to its right-hand neighbour when seen from inside.
        outward = box.yaw + quarter * math.pi - 0.5 * math.pi
        bays = max(round(front / _BAY_M), 1)
        bay = front / bays
        for i in range(bays):
            y = (i + 0.5) * bay - 0.5 * front
            x = 0.5 * depth
            cos, sin = math.cos(outward), math.sin(outward)
            centre = (box.centre[0] + cos * x - sin * y, box.centre[1] + sin * x + cos * y)
            mesh = _bay_mesh(bay, height, storey, storeys, box.colour, style, rng)
            placements.append((mesh, centre, outward))
    return [_with_lit_windows(p, seed, i) for i, p in enumerate(placements)] if after_dark else placements


def _bay_mesh(
    bay: float, height: float, storey: float, storeys: int, colour: RGB, style: _Style, rng: np.random.Generator
) -> Mesh:
    half = 0.5 * bay
    normal = (1.0, 0.0, 0.0)

    def block(y0: float, y1: float, z0: float, z1: float) -> np.ndarray:
        return quad((0, y0, z0), (0, y1, z0), (0, y1, z1), (0, y0, z1))

    # A hair wider than the bay, lest the sky shines through between neighbours.
    faces = [Face(block(-half - 0.02, half + 0.02, 0.0, height), normal, colour)]
    faces.append(Face(block(-half - 0.02, half + 0.02, 0.0, 0.5), normal, tinted(colour, 0.6), 1, True))
    for floor in range(storeys):
        z = floor * storey
        shade = float(rng.uniform(0.6, 1.6)) if rng.random() < 0.85 else 5.0
        tint = tinted(GLASS, shade)
        if floor == 0 and style.has_shops:
            pane = block(-half + 0.25, half - 0.25, 0.45, storey - 0.7)
            faces.append(Face(pane, normal, tint, 2))
            sign = (float(rng.uniform(0.1, 0.6)), float(rng.uniform(0.1, 0.4)), float(rng.uniform(0.1, 0.4)))
            faces.append(Face(block(-half + 0.1, half - 0.1, storey - 0.65, storey - 0.2), normal, sign, 2, True))
            continue
        y0, y1 = -half + style.margin * bay, half - style.margin * bay
        z0, z1 = z + style.sill * storey, z + style.lintel * storey
        frame = block(y0 - 0.1, y1 + 0.1, z0 - 0.12, z1 + 0.08)
        faces.append(Face(frame, normal, tinted(colour, 1.35), 2, True))
        faces.append(Face(block(y0, y1, z0, z1), normal, tint, 3))
        faces.append(Face(block(-0.04, 0.04, z0, z1), normal, tinted(colour, 1.2), 4, True))
        if style.has_ledges and floor:
            ledge = block(-half - 0.02, half + 0.02, z - 0.1, z + 0.1)
            faces.append(Face(ledge, normal, tinted(colour, 0.72), 1, True))
    faces.append(Face(block(-half - 0.02, half + 0.02, height - 0.45, height), normal, tinted(colour, 0.7), 4))
    return Mesh(tuple(faces))


def _with_lit_windows(placement: Placement, seed: int, number: int) -> Placement:
    mesh, centre, yaw = placement
    rng = np.random.default_rng([seed, number, 39])
    faces = tuple(
        replace(face, colour=_LIT_WINDOWS[rng.integers(3)], glow=float(rng.uniform(0.2, 0.8)))
        if face.rank in (2, 3) and not face.is_detail and rng.random() < 0.2
        else face
        for face in mesh.faces
    )
    return Mesh(faces, mesh.is_card), centre, yaw
