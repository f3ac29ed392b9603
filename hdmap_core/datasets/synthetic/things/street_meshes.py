"""What the things along a street look like: trees, poles, people, barriers, railings, signs, signals, hedges."""

import math
from collections.abc import Callable

import numpy as np

from hdmap_core.datasets.synthetic.things.building_meshes import building_placements
from hdmap_core.datasets.synthetic.things.face_parts import (
    GLASS,
    PALE,
    SKIN,
    block_sides,
    board,
    both_sides,
    disc,
    flat_part,
    inset,
    level_ring,
    oval,
    quad,
    tinted,
    upright,
)
from hdmap_core.datasets.synthetic.things.faces import Face, Mesh, Placement, Vector
from hdmap_core.datasets.synthetic.things.vehicle_meshes import vehicle_mesh
from hdmap_core.datasets.synthetic.town import RGB, Box, BoxKind

STEEL: RGB = (0.3, 0.31, 0.32)
ORANGE: RGB = (0.75, 0.17, 0.03)
_SIGNALS: tuple[RGB, ...] = ((1.0, 0.08, 0.05), (1.0, 0.5, 0.05), (0.1, 0.9, 0.45))
_BOARDS: tuple[RGB, ...] = ((0.02, 0.1, 0.4), (0.02, 0.22, 0.1), (0.75, 0.75, 0.75), (0.7, 0.45, 0.03))


def placements_of(box: Box, seed: int, after_dark: bool = False) -> list[Placement]:
    """The objects that make up any box; after dark some windows are lit."""
    if box.kind == "building":
        return building_placements(box, seed, after_dark)
    draw = _MESHES.get(box.kind)
    mesh = draw(box.size, box.colour, seed) if draw else vehicle_mesh(box)
    return [(mesh, box.centre, box.yaw)]


def _tree(size: Vector, colour: RGB, seed: int) -> Mesh:
    """A trunk and a crown of leaf clusters, dark below and behind, light above."""
    rng = np.random.default_rng(seed)
    radius, height = 0.5 * max(size[:2]), size[2]
    crown_z = max(height - 1.15 * radius, 0.62 * height)
    reach_z = height - crown_z
    trunk = quad((0, -0.14, 0), (0, 0.14, 0), (0, 0.09, crown_z), (0, -0.09, crown_z))
    faces = [Face(trunk, (-1.0, 0.0, 0.0), (0.10, 0.075, 0.055), 0)]
    num_blobs = 26
    for i in range(num_blobs):
        layer = i / (num_blobs - 1)
        spread, turn = math.sqrt(rng.uniform(0.0, 1.0)) * 0.72, rng.uniform(0.0, 2.0 * math.pi)
        y = radius * spread * math.cos(turn)
        z = crown_z + reach_z * (0.72 * spread * math.sin(turn) + 0.16 * (layer - 0.5))
        blob = radius * rng.uniform(0.24, 0.40) * (1.25 - 0.55 * layer)
        wobble = blob * rng.uniform(0.8, 1.15, 10)
        rim = oval(y, z, wobble, 0.85 * wobble)
        height_light = 0.55 + 0.35 * layer + 0.35 * (z - crown_z) / reach_z
        tint = tinted(colour, height_light * rng.uniform(0.8, 1.2))
        faces.append(Face(rim, (-0.6, 0.0, 0.8), tint, 1 + i, is_detail=i % 3 != 0))
    return Mesh(tuple(faces), is_card=True)


def _pole(size: Vector, colour: RGB, seed: int) -> Mesh:
    """A lamp post, or, up to 4 m, a traffic sign."""
    half, height = max(0.5 * size[1], 0.05), size[2]
    faces = [Face(quad((0, -half, 0), (0, half, 0), (0, half, height), (0, -half, height)), (-1, 0, 0), colour)]
    if height > 4.0:
        arm = quad((0, 0, height - 0.12), (0, 1.5, height - 0.02), (0, 1.5, height + 0.1), (0, 0, height))
        lamp = quad((0, 1.0, height - 0.1), (0, 1.9, height - 0.1), (0, 1.8, height + 0.12), (0, 1.0, height + 0.1))
        faces += [Face(arm, (-1, 0, 0), colour, 1), Face(lamp, (-1, 0, 0), (0.5, 0.5, 0.5), 2)]
    else:
        for radius, tint, rank in ((0.36, (0.55, 0.02, 0.02), 1), (0.27, (0.75, 0.75, 0.75), 2)):
            faces.append(Face(disc(0.0, height - 0.3, radius), (-1, 0, 0), tint, rank))
    return Mesh(tuple(faces), is_card=True)


def _person(size: Vector, colour: RGB, seed: int) -> Mesh:
    """Two legs, a torso with arms, a head."""
    height = size[2]
    trousers = ((0.03, 0.035, 0.07), (0.02, 0.02, 0.02), (0.12, 0.10, 0.07))[seed % 3]
    stride = 0.06 + 0.05 * (seed % 4) / 3.0
    hip, shoulder = 0.5 * height, 0.83 * height
    head = oval(0.0, 0.925 * height, 0.10, 0.075 * height)
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


def _barrier(size: Vector, colour: RGB, seed: int) -> Mesh:
    sides = block_sides(level_ring(*size[:2], 0.0), level_ring(*size), colour, 0)
    stripe = [Face(inset(side, 0, 1, 0.55, 0.8), side.normal, PALE, 2) for side in sides[:4]]
    return Mesh((*sides, *stripe))


def _water_barrier(size: Vector, colour: RGB, seed: int) -> Mesh:
    length, width, height = size
    waist = 0.45 * height
    foot = block_sides(level_ring(length, width, 0.0), level_ring(length, 0.62 * width, waist), colour, 0, False)
    head = block_sides(level_ring(length, 0.62 * width, waist), level_ring(length, 0.45 * width, height), colour, 1)
    return Mesh((*foot, *head))


def _railing(size: Vector, colour: RGB, seed: int) -> Mesh:
    half, height = 0.5 * size[0], size[2]
    faces = []
    for z in (0.12, 0.55, height - 0.06) if seed % 2 else (0.1, height - 0.06):
        faces += both_sides(upright(-half, half, z, z + 0.06), (0, 1, 0), colour)
    for x in (-half, 0.0):
        faces += both_sides(upright(x, x + 0.07, 0.0, height), (0, 1, 0), colour)
    for x in np.arange(-half + 0.15, half, 0.15) if seed % 2 else ():
        faces += both_sides(upright(x, x + 0.025, 0.12, height), (0, 1, 0), colour, 0, True)
    return Mesh(tuple(faces))


def _cone(size: Vector, colour: RGB, seed: int) -> Mesh:
    half, height = 0.5 * size[1], size[2]
    faces = [flat_part(0.0, 0.0, 0.0, 0.05, half, half, tinted(colour, 0.5), 0)]
    bands = ((0.05, 0.45, colour), (0.45, 0.72, PALE), (0.72, 1.0, colour))
    for low, high, tint in bands:
        faces.append(
            flat_part(
                0.0, low * height, 0.0, high * height, 0.7 * half * (1.05 - low), 0.7 * half * (1.05 - high), tint, 1
            )
        )
    return Mesh(tuple(faces), is_card=True)


def _bollard(size: Vector, colour: RGB, seed: int) -> Mesh:
    half, height = 0.5 * size[1], size[2]
    post = flat_part(0.0, 0.0, 0.0, height, half, half, colour, 0)
    band = flat_part(0.0, 0.72 * height, 0.0, 0.86 * height, half, half, (PALE, ORANGE)[seed % 2], 1)
    return Mesh((post, band), is_card=True)


def _hedge(size: Vector, colour: RGB, seed: int) -> Mesh:
    length, width, height = size
    rng = np.random.default_rng([seed, 3])
    sides = block_sides(level_ring(length, width, 0.0), level_ring(length, 0.9 * width, height), colour, 0)
    faces = list(sides)
    for side in sides[:4]:
        for _ in range(3):
            s, t = rng.uniform(0.0, 0.7), rng.uniform(0.1, 0.6)
            clump = inset(side, s, s + 0.28, t, t + 0.35)
            faces.append(Face(clump, side.normal, tinted(colour, float(rng.uniform(0.6, 1.35))), 2, True))
    return Mesh(tuple(faces))


def _wall(size: Vector, colour: RGB, seed: int) -> Mesh:
    length, width, height = size
    sides = block_sides(level_ring(length, width, 0.0), level_ring(length, width, height - 0.08), colour, 0, False)
    cap = block_sides(
        level_ring(length, width + 0.08, height - 0.08),
        level_ring(length, width + 0.08, height),
        tinted(colour, 1.3),
        1,
    )
    return Mesh((*sides, *cap))


def _sign(size: Vector, colour: RGB, seed: int) -> Mesh:
    half, height = 0.5 * size[1], size[2]
    post = both_sides(board(-0.04, 0.04, 0.0, height), (1, 0, 0), STEEL)
    shape = seed % 3
    if shape == 0:
        plate = disc(0.0, height - half, half)
    elif shape == 1:
        foot = height - 1.7 * half
        plate = quad((0, -half, foot), (0, half, foot), (0, 0, height), (0, 0, height))
    else:
        plate = board(-half, half, height - 1.4 * half, height)
    middle = plate.mean(axis=0)
    front = Face(plate, (1, 0, 0), colour, 1)
    inner = Face(middle + 0.72 * (plate - middle), (1, 0, 0), _BOARDS[seed // 3 % 4], 2)
    return Mesh((*post, front, inner, Face(plate, (-1, 0, 0), STEEL, 1)))


def _traffic_light(size: Vector, colour: RGB, seed: int) -> Mesh:
    height = size[2]
    faces = both_sides(board(-0.06, 0.06, 0.0, height), (1, 0, 0), STEEL)
    faces += both_sides(board(-0.18, 0.18, height - 0.95, height, 0.08), (1, 0, 0), (0.02, 0.02, 0.02), 1)
    on = (0, 0, 2, 2, 1)[seed % 5]
    for i, signal in enumerate(_SIGNALS):
        lamp = disc(0.0, height - 0.18 - 0.3 * i, 0.11) + np.array([0.09, 0.0, 0.0])
        faces.append(
            Face(lamp, (1, 0, 0), signal if i == on else tinted(signal, 0.08), 2, glow=0.95 if i == on else 0.0)
        )
    return Mesh(tuple(faces))


def _gantry(size: Vector, colour: RGB, seed: int) -> Mesh:
    half, height = 0.5 * size[1], size[2]
    faces = []
    for y in (-half, half):
        faces += both_sides(board(y - 0.15, y + 0.15, 0.0, height), (1, 0, 0), STEEL)
    faces += both_sides(board(-half, half, height - 0.7, height - 0.1), (1, 0, 0), STEEL, 1)
    faces += both_sides(upright(-0.25, 0.25, height - 0.7, height - 0.1), (0, 1, 0), STEEL, 1)
    faces.append(Face(quad((-0.2, -half, height - 0.7), (-0.2, half, height - 0.7), (0.2, half, height - 0.7),
                           (0.2, -half, height - 0.7)), (0, 0, -1), tinted(STEEL, 0.5), 0))  # fmt: skip
    for i in range(1 + seed % 3):
        y = (-0.5 + (i + 0.5) / (1 + seed % 3)) * 1.6 * half
        sign = board(y - 1.6, y + 1.6, height - 1.6, height + 0.3, 0.3)
        faces.append(Face(sign, (1, 0, 0), _BOARDS[seed % 2], 2))
        faces.append(Face(board(y - 1.1, y + 0.9, height - 0.9, height - 0.5, 0.3), (1, 0, 0), PALE, 3, True))
        faces.append(Face(sign, (-1, 0, 0), tinted(STEEL, 0.7), 2))
    return Mesh(tuple(faces))


def _bus_stop(size: Vector, colour: RGB, seed: int) -> Mesh:
    length, width, height = size
    half, back = 0.5 * length, 0.5 * width
    glass = quad((-half, back, 0.3), (half, back, 0.3), (half, back, height - 0.2), (-half, back, height - 0.2))
    faces = both_sides(glass, (0, 1, 0), tinted(GLASS, 5.0))
    for x in (-half, half - 0.08):
        for y in (-back, back):
            post = quad((x, y, 0), (x + 0.08, y, 0), (x + 0.08, y, height), (x, y, height))
            faces += both_sides(post, (0, 1, 0), STEEL, 1)
    side = quad((half, -0.2, 0.3), (half, back, 0.3), (half, back, height - 0.3), (half, -0.2, height - 0.3))
    faces += both_sides(side, (1, 0, 0), colour, 1)
    roof = block_sides(
        level_ring(length + 0.4, width + 0.3, height - 0.15), level_ring(length + 0.4, width + 0.3, height), STEEL, 2
    )
    return Mesh((*faces, *roof))


_MESHES: dict[BoxKind, Callable[[Vector, RGB, int], Mesh]] = {
    "tree": _tree,
    "pole": _pole,
    "person": _person,
    "barrier": _barrier,
    "water_barrier": _water_barrier,
    "railing": _railing,
    "cone": _cone,
    "bollard": _bollard,
    "hedge": _hedge,
    "wall": _wall,
    "sign": _sign,
    "traffic_light": _traffic_light,
    "gantry": _gantry,
    "bus_stop": _bus_stop,
}
