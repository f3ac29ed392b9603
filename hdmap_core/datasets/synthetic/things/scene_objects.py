"""Shapes of the boxes of a synthetic town: how a building, car, tree or person looks within its cuboid."""

import math
from typing import Any

import numpy as np

from hdmap_core.datasets.synthetic.things.faces import Face, Mesh
from hdmap_core.datasets.synthetic.town import RGB, Box

GLASS = (0.035, 0.045, 0.055)
RUBBER = (0.012, 0.012, 0.013)
SKIN = (0.45, 0.29, 0.20)
_STOREY_M = 3.3
_BAY_M = 3.6

Placement = tuple[Mesh, tuple[float, float], float]
"""Mesh, centre (x, y) and yaw."""


def tinted(colour: RGB, gain: float) -> RGB:
    """A colour, brighter or darker."""
    return tuple(min(c * gain, 1.0) for c in colour)  # type: ignore[return-value]


def quad(*corners: tuple[float, float, float]) -> np.ndarray:
    """Corners as an array (P, 3)."""
    return np.array(corners, dtype=np.float64)


def block_sides(lower: np.ndarray, upper: np.ndarray, colour: RGB, rank: int, with_top: bool = True) -> list[Face]:
    """Side faces (and the top) between two counter-clockwise quads (4, 3)."""
    faces = []
    for i in range(4):
        j = (i + 1) % 4
        corners = np.stack([lower[i], lower[j], upper[j], upper[i]])
        normal = np.cross(lower[j] - lower[i], upper[i] - lower[i])
        faces.append(Face(corners, tuple(normal / np.linalg.norm(normal)), colour, rank))
    if with_top:
        faces.append(Face(upper, (0.0, 0.0, 1.0), colour, rank + 1))
    return faces


def level_ring(length: float, width: float, z: float, shift: float = 0.0) -> np.ndarray:
    """A level rectangle at height z, its middle `shift` metres ahead: (4, 3), counter-clockwise."""
    x, y = 0.5 * length, 0.5 * width
    return quad((shift - x, -y, z), (shift + x, -y, z), (shift + x, y, z), (shift - x, y, z))


def disc(y: float, z: float, radius: float) -> np.ndarray:
    """A disc of ten corners in the y-z plane, (10, 3)."""
    angles = np.linspace(0.0, 2.0 * math.pi, 10, endpoint=False)
    return np.stack([np.zeros(10), y + radius * np.cos(angles), z + radius * np.sin(angles)], axis=1)


def flat_part(y0: float, z0: float, y1: float, z1: float, half0: float, half1: float, tint: RGB, rank: int) -> Face:
    """A trapezoid in the y-z plane, from (y0, z0) to (y1, z1), half as wide as said at either end."""
    corners = quad((0, y0 - half0, z0), (0, y0 + half0, z0), (0, y1 + half1, z1), (0, y1 - half1, z1))
    return Face(corners, (-1.0, 0.0, 0.0), tint, rank)


def inset(face: Face, left: float, right: float, bottom: float, top: float) -> np.ndarray:
    """Part of a quad face (corner order: lower left, lower right, upper right, upper left), in fractions."""
    a, b, c, d = face.corners

    def at(s: float, t: float) -> np.ndarray:
        return (a * (1 - s) + b * s) * (1 - t) + (d * (1 - s) + c * s) * t

    return np.stack([at(left, bottom), at(right, bottom), at(right, top), at(left, top)])


def wheel(x: float, y: float, radius: float, side: float) -> list[Face]:
    """A wheel with its hub, on the right (`side` -1) or the left (1)."""
    angles = np.linspace(0.0, 2.0 * math.pi, 10, endpoint=False)
    rim = np.stack([x + radius * np.cos(angles), np.full(10, y), radius + radius * np.sin(angles)], axis=1)
    hub = np.stack([x + 0.6 * radius * np.cos(angles), np.full(10, y), radius + 0.6 * radius * np.sin(angles)], axis=1)
    normal = (0.0, side, 0.0)
    return [Face(rim, normal, RUBBER, 2), Face(hub, normal, (0.28, 0.28, 0.29), 3, is_detail=True)]


def car_mesh(size: tuple[float, float, float], colour: RGB) -> Mesh:
    """A saloon: body, tapered cabin with glass, wheels, lamps, number plates, and its shadow on the road."""
    length, width, height = size
    belt = 0.58 * height
    body = block_sides(level_ring(0.98 * length, width, 0.18), level_ring(length, 0.98 * width, belt), colour, 1)
    cabin_low = level_ring(0.62 * length, 0.92 * width, belt, -0.06 * length)
    cabin_high = level_ring(0.38 * length, 0.72 * width, height, -0.08 * length)
    cabin = block_sides(cabin_low, cabin_high, tinted(colour, 0.9), 4)
    faces = [_shadow(length, width), *body]
    right, front, left, rear = body[:4]
    for side_face, side in ((right, -1.0), (left, 1.0)):
        sill = inset(side_face, 0.0, 1.0, 0.0, 0.18)
        faces.append(Face(sill, side_face.normal, tinted(colour, 0.35), 2, is_detail=True))
        radius = 0.21 * height + 0.02
        for x in (-0.31 * length, 0.31 * length):
            faces += wheel(x, side * (0.5 * width + 0.005), radius, side)
        seam = inset(side_face, 0.48, 0.49, 0.2, 0.98)
        faces.append(Face(seam, side_face.normal, tinted(colour, 0.4), 2, is_detail=True))
    for face, lamp, glow in ((front, (0.85, 0.85, 0.8), 0.3), (rear, (0.45, 0.015, 0.015), 0.25)):
        for s in (0.05, 0.75):
            faces.append(Face(inset(face, s, s + 0.2, 0.55, 0.85), face.normal, lamp, 2, True, glow))
        faces.append(Face(inset(face, 0.36, 0.64, 0.3, 0.55), face.normal, (0.5, 0.5, 0.46), 2, True))
        faces.append(Face(inset(face, 0.0, 1.0, 0.0, 0.2), face.normal, (0.03, 0.03, 0.03), 2, True))
    faces += cabin
    for face in cabin[:4]:
        is_side = abs(face.normal[1]) > 0.5
        panes = ((0.06, 0.48), (0.53, 0.94)) if is_side else ((0.05, 0.95),)
        for s0, s1 in panes:
            faces.append(Face(inset(face, s0, s1, 0.1, 0.88), face.normal, GLASS, 6))
    return Mesh(tuple(faces))


def truck_mesh(size: tuple[float, float, float], colour: RGB, is_bus: bool) -> Mesh:
    """A bus with a band of windows, or a truck with a dark cab in front of its box."""
    length, width, height = size
    body = block_sides(level_ring(length, width, 0.35), level_ring(length, width, height), colour, 1)
    right, front, left, rear = body[:4]
    faces = [_shadow(length, width), *body]
    for side_face, side in ((right, -1.0), (left, 1.0)):
        nose = 1.0 if side < 0 else 0.0
        if is_bus:
            num_panes = max(int(length / 1.6), 2)
            for i in range(num_panes):
                pane = inset(side_face, (i + 0.08) / num_panes, (i + 0.92) / num_panes, 0.42, 0.85)
                faces.append(Face(pane, side_face.normal, GLASS, 2))
        else:
            span = sorted((nose, nose + (-0.22 if nose else 0.22)))
            cab = inset(side_face, span[0], span[1], 0.0, 0.82)
            faces.append(Face(cab, side_face.normal, (0.10, 0.11, 0.14), 2))
            pane = inset(side_face, span[0] + 0.04, span[1] - 0.04, 0.42, 0.74)
            faces.append(Face(pane, side_face.normal, GLASS, 3))
        skirt = inset(side_face, 0.0, 1.0, 0.0, 0.12)
        faces.append(Face(skirt, side_face.normal, (0.05, 0.05, 0.05), 2))
        for x in (-0.32 * length, 0.36 * length):
            faces += wheel(x, side * (0.5 * width + 0.005), 0.48, side)
    faces.append(Face(inset(front, 0.06, 0.94, 0.38, 0.82), front.normal, GLASS, 2))
    faces.append(
        Face(
            inset(rear, 0.15, 0.85, 0.5, 0.82) if is_bus else inset(rear, 0.49, 0.51, 0.05, 0.95),
            rear.normal,
            GLASS,
            2,
            True,
        )
    )
    for s in (0.04, 0.84):
        faces.append(Face(inset(front, s, s + 0.12, 0.08, 0.18), front.normal, (0.8, 0.8, 0.75), 2, True, 0.3))
        faces.append(Face(inset(rear, s, s + 0.12, 0.08, 0.2), rear.normal, (0.45, 0.01, 0.01), 2, True, 0.3))
    return Mesh(tuple(faces))


def _shadow(length: float, width: float) -> Face:
    return Face(level_ring(length + 0.25, width + 0.2, 0.01), (0.0, 0.0, 1.0), (0.018, 0.018, 0.02), 0)


def tree_mesh(size: tuple[float, float, float], colour: RGB, seed: int) -> Mesh:
    """A trunk and a crown of leaf clusters, dark below and behind, light above."""
    rng = np.random.default_rng(seed)
    radius, height = 0.5 * max(size[:2]), size[2]
    crown_z = max(height - 1.15 * radius, 0.62 * height)
    reach_z = height - crown_z
    trunk = quad((0, -0.14, 0), (0, 0.14, 0), (0, 0.09, crown_z), (0, -0.09, crown_z))
    faces = [Face(trunk, (-1.0, 0.0, 0.0), (0.10, 0.075, 0.055), 0)]
    angles = np.linspace(0.0, 2.0 * math.pi, 10, endpoint=False)
    num_blobs = 26
    for i in range(num_blobs):
        layer = i / (num_blobs - 1)
        spread, turn = math.sqrt(rng.uniform(0.0, 1.0)) * 0.72, rng.uniform(0.0, 2.0 * math.pi)
        y = radius * spread * math.cos(turn)
        z = crown_z + reach_z * (0.72 * spread * math.sin(turn) + 0.16 * (layer - 0.5))
        blob = radius * rng.uniform(0.24, 0.40) * (1.25 - 0.55 * layer)
        wobble = blob * rng.uniform(0.8, 1.15, 10)
        rim = np.stack([np.zeros(10), y + wobble * np.cos(angles), z + 0.85 * wobble * np.sin(angles)], axis=1)
        height_light = 0.55 + 0.35 * layer + 0.35 * (z - crown_z) / reach_z
        tint = tinted(colour, height_light * rng.uniform(0.8, 1.2))
        faces.append(Face(rim, (-0.6, 0.0, 0.8), tint, 1 + i, is_detail=i % 3 != 0))
    return Mesh(tuple(faces), is_card=True)


def pole_mesh(size: tuple[float, float, float], colour: RGB) -> Mesh:
    """A lamp post, or, up to 4 m, a traffic sign."""
    half, height = max(0.5 * size[1], 0.05), size[2]
    faces = [Face(quad((0, -half, 0), (0, half, 0), (0, half, height), (0, -half, height)), (-1, 0, 0), colour)]
    if height > 4.0:
        arm = quad((0, 0, height - 0.12), (0, 1.5, height - 0.02), (0, 1.5, height + 0.1), (0, 0, height))
        lamp = quad((0, 1.0, height - 0.1), (0, 1.9, height - 0.1), (0, 1.8, height + 0.12), (0, 1.0, height + 0.1))
        faces += [Face(arm, (-1, 0, 0), colour, 1), Face(lamp, (-1, 0, 0), (0.5, 0.5, 0.5), 2)]
    else:
        angles = np.linspace(0.0, 2.0 * math.pi, 10, endpoint=False)
        for radius, tint, rank in ((0.36, (0.55, 0.02, 0.02), 1), (0.27, (0.75, 0.75, 0.75), 2)):
            disc = np.stack([np.zeros(10), radius * np.cos(angles), height - 0.3 + radius * np.sin(angles)], axis=1)
            faces.append(Face(disc, (-1, 0, 0), tint, rank))
    return Mesh(tuple(faces), is_card=True)


def person_mesh(size: tuple[float, float, float], colour: RGB, seed: int) -> Mesh:
    """Two legs, a torso with arms, a head."""
    height = size[2]
    trousers = ((0.03, 0.035, 0.07), (0.02, 0.02, 0.02), (0.12, 0.10, 0.07))[seed % 3]
    stride = 0.06 + 0.05 * (seed % 4) / 3.0
    hip, shoulder = 0.5 * height, 0.83 * height

    angles = np.linspace(0.0, 2.0 * math.pi, 10, endpoint=False)
    head = np.stack([np.zeros(10), 0.10 * np.cos(angles), 0.925 * height + 0.075 * height * np.sin(angles)], axis=1)
    return Mesh(
        (
            flat_part(-stride, 0.0, -0.07, hip, 0.06, 0.09, trousers, 0),
            flat_part(stride, 0.0, 0.07, hip, 0.06, 0.09, tinted(trousers, 0.8), 0),
            flat_part(-0.24, hip * 0.95, -0.2, shoulder, 0.04, 0.06, tinted(colour, 0.75), 1),
            flat_part(0.24, hip * 0.95, 0.2, shoulder, 0.04, 0.06, tinted(colour, 0.75), 1),
            flat_part(0.0, hip * 0.95, 0.0, shoulder + 0.03, 0.16, 0.19, colour, 2),
            Face(head, (-1.0, 0.0, 0.3), SKIN, 3),
        ),
        is_card=True,
    )


def building_meshes(box: Box, seed: int) -> list[Placement]:
    """Walls in bays of about 3.6 m, each an object of its own so that depth sorting works along a long front."""
    rng = np.random.default_rng(seed)
    length, width, height = box.size
    storeys = max(round(height / _STOREY_M), 1)
    storey = height / storeys
    style = {
        "pane": (float(rng.uniform(0.12, 0.28)), float(rng.uniform(0.22, 0.34)), float(rng.uniform(0.75, 0.88))),
        "has_shops": rng.random() < 0.5,
        "has_ledges": rng.random() < 0.5,
    }
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
    return placements


def _bay_mesh(
    bay: float, height: float, storey: float, storeys: int, colour: RGB, style: dict[str, Any], rng: np.random.Generator
) -> Mesh:
    half = 0.5 * bay
    normal = (1.0, 0.0, 0.0)

    def block(y0: float, y1: float, z0: float, z1: float) -> np.ndarray:
        return quad((0, y0, z0), (0, y1, z0), (0, y1, z1), (0, y0, z1))

    margin, sill, lintel = style["pane"]
    # A hair wider than the bay, lest the sky shines through between neighbours.
    faces = [Face(block(-half - 0.02, half + 0.02, 0.0, height), normal, colour)]
    faces.append(Face(block(-half - 0.02, half + 0.02, 0.0, 0.5), normal, tinted(colour, 0.6), 1, True))
    for floor in range(storeys):
        z = floor * storey
        shade = float(rng.uniform(0.6, 1.6)) if rng.random() < 0.85 else 5.0
        tint = tinted(GLASS, shade)
        if floor == 0 and style["has_shops"]:
            pane = block(-half + 0.25, half - 0.25, 0.45, storey - 0.7)
            faces.append(Face(pane, normal, tint, 2))
            sign = (float(rng.uniform(0.1, 0.6)), float(rng.uniform(0.1, 0.4)), float(rng.uniform(0.1, 0.4)))
            faces.append(Face(block(-half + 0.1, half - 0.1, storey - 0.65, storey - 0.2), normal, sign, 2, True))
            continue
        y0, y1 = -half + margin * bay, half - margin * bay
        z0, z1 = z + sill * storey, z + lintel * storey
        frame = block(y0 - 0.1, y1 + 0.1, z0 - 0.12, z1 + 0.08)
        faces.append(Face(frame, normal, tinted(colour, 1.35), 2, True))
        faces.append(Face(block(y0, y1, z0, z1), normal, tint, 3))
        faces.append(Face(block(-0.04, 0.04, z0, z1), normal, tinted(colour, 1.2), 4, True))
        if style["has_ledges"] and floor:
            ledge = block(-half - 0.02, half + 0.02, z - 0.1, z + 0.1)
            faces.append(Face(ledge, normal, tinted(colour, 0.72), 1, True))
    faces.append(Face(block(-half - 0.02, half + 0.02, height - 0.45, height), normal, tinted(colour, 0.7), 4))
    return Mesh(tuple(faces))


def placements_of(box: Box, seed: int) -> list[Placement]:
    """The objects that make up one box."""
    if box.kind == "building":
        return building_meshes(box, seed)
    if box.kind == "car":
        mesh = car_mesh(box.size, box.colour)
    elif box.kind in ("truck", "bus"):
        mesh = truck_mesh(box.size, box.colour, box.kind == "bus")
    elif box.kind == "tree":
        mesh = tree_mesh(box.size, box.colour, seed)
    elif box.kind == "pole":
        mesh = pole_mesh(box.size, box.colour)
    elif box.kind == "person":
        mesh = person_mesh(box.size, box.colour, seed)
    else:
        sides = block_sides(level_ring(*box.size[:2], 0.0), level_ring(*box.size[:2], box.size[2]), box.colour, 0)
        stripe = [Face(inset(f, 0, 1, 0.55, 0.8), f.normal, (0.75, 0.75, 0.72), 2) for f in sides[:4]]
        mesh = Mesh((*sides, *stripe))
    return [(mesh, box.centre, box.yaw)]
