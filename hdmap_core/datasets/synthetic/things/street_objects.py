"""Shapes of what else stands along a street: barriers, railings, signs, signals, hedges, two-wheelers, vans."""

from dataclasses import replace

import numpy as np

from hdmap_core.datasets.synthetic.things.faces import Face, Mesh
from hdmap_core.datasets.synthetic.things.scene_objects import (
    GLASS,
    SKIN,
    Placement,
    block_sides,
    disc,
    flat_part,
    inset,
    level_ring,
    placements_of,
    quad,
    tinted,
    wheel,
)
from hdmap_core.datasets.synthetic.town import RGB, Box, Mover

Size = tuple[float, float, float]

STEEL: RGB = (0.3, 0.31, 0.32)
ORANGE: RGB = (0.75, 0.17, 0.03)
PALE: RGB = (0.75, 0.75, 0.72)
_SIGNALS: tuple[RGB, ...] = ((1.0, 0.08, 0.05), (1.0, 0.5, 0.05), (0.1, 0.9, 0.45))
_BOARDS: tuple[RGB, ...] = ((0.02, 0.1, 0.4), (0.02, 0.22, 0.1), (0.75, 0.75, 0.75), (0.7, 0.45, 0.03))
_LIT_WINDOWS: tuple[RGB, ...] = ((0.95, 0.75, 0.42), (0.9, 0.82, 0.6), (0.75, 0.85, 0.95))


def shapes_of(box: Box, seed: int, after_dark: bool = False) -> list[Placement]:
    """The objects that make up any box; after dark some windows are lit."""
    if box.kind in _MESHES:
        return [(_MESHES[box.kind](box.size, box.colour, seed), box.centre, box.yaw)]
    if box.kind in ("van", "motorcycle", "bicycle"):
        return [(vehicle_mesh(box), box.centre, box.yaw)]
    found = placements_of(box, seed)
    return (
        [_with_lit_windows(p, seed, i) for i, p in enumerate(found)] if after_dark and box.kind == "building" else found
    )


def vehicle_mesh(vehicle: Box | Mover) -> Mesh:
    """A van or a two-wheeler with its rider."""
    if vehicle.kind == "van":
        return _van(vehicle.size, vehicle.colour)
    return _two_wheeler(vehicle.size, vehicle.colour, vehicle.kind == "motorcycle")


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


def _both_sides(corners: np.ndarray, normal: tuple[float, float, float], colour: RGB, rank: int = 0,
                is_detail: bool = False) -> list[Face]:  # fmt: skip
    x, y, z = normal
    return [Face(corners, normal, colour, rank, is_detail), Face(corners, (-x, -y, -z), colour, rank, is_detail)]


def _upright(x0: float, x1: float, z0: float, z1: float) -> np.ndarray:
    """A rectangle along the object, in its x-z plane."""
    return quad((x0, 0, z0), (x1, 0, z0), (x1, 0, z1), (x0, 0, z1))


def _board(y0: float, y1: float, z0: float, z1: float, x: float = 0.0) -> np.ndarray:
    """A rectangle across the object, in a y-z plane."""
    return quad((x, y0, z0), (x, y1, z0), (x, y1, z1), (x, y0, z1))


def _water_barrier(size: Size, colour: RGB, seed: int) -> Mesh:
    length, width, height = size
    waist = 0.45 * height
    foot = block_sides(level_ring(length, width, 0.0), level_ring(length, 0.62 * width, waist), colour, 0, False)
    head = block_sides(level_ring(length, 0.62 * width, waist), level_ring(length, 0.45 * width, height), colour, 1)
    return Mesh((*foot, *head))


def _railing(size: Size, colour: RGB, seed: int) -> Mesh:
    half, height = 0.5 * size[0], size[2]
    faces = []
    for z in (0.12, 0.55, height - 0.06) if seed % 2 else (0.1, height - 0.06):
        faces += _both_sides(_upright(-half, half, z, z + 0.06), (0, 1, 0), colour)
    for x in (-half, 0.0):
        faces += _both_sides(_upright(x, x + 0.07, 0.0, height), (0, 1, 0), colour)
    for x in np.arange(-half + 0.15, half, 0.15) if seed % 2 else ():
        faces += _both_sides(_upright(x, x + 0.025, 0.12, height), (0, 1, 0), colour, 0, True)
    return Mesh(tuple(faces))


def _cone(size: Size, colour: RGB, seed: int) -> Mesh:
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


def _bollard(size: Size, colour: RGB, seed: int) -> Mesh:
    half, height = 0.5 * size[1], size[2]
    post = flat_part(0.0, 0.0, 0.0, height, half, half, colour, 0)
    band = flat_part(0.0, 0.72 * height, 0.0, 0.86 * height, half, half, (PALE, ORANGE)[seed % 2], 1)
    return Mesh((post, band), is_card=True)


def _hedge(size: Size, colour: RGB, seed: int) -> Mesh:
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


def _wall(size: Size, colour: RGB, seed: int) -> Mesh:
    length, width, height = size
    sides = block_sides(level_ring(length, width, 0.0), level_ring(length, width, height - 0.08), colour, 0, False)
    cap = block_sides(
        level_ring(length, width + 0.08, height - 0.08),
        level_ring(length, width + 0.08, height),
        tinted(colour, 1.3),
        1,
    )
    return Mesh((*sides, *cap))


def _sign(size: Size, colour: RGB, seed: int) -> Mesh:
    width, height = size[1], size[2]
    post = _both_sides(_board(-0.04, 0.04, 0.0, height), (1, 0, 0), STEEL)
    shape = seed % 3
    board = 0.5 * width
    if shape == 0:
        plate = disc(0.0, height - board, board)
    elif shape == 1:
        plate = quad(
            (0, -board, height - 1.7 * board), (0, board, height - 1.7 * board), (0, 0, height), (0, 0, height)
        )
    else:
        plate = _board(-board, board, height - 1.4 * board, height)
    middle = plate.mean(axis=0)
    front = replace(Face(plate, (1, 0, 0), colour, 1))
    inner = Face(middle + 0.72 * (plate - middle), (1, 0, 0), _BOARDS[seed // 3 % 4], 2)
    return Mesh((*post, front, inner, Face(plate, (-1, 0, 0), STEEL, 1)))


def _traffic_light(size: Size, colour: RGB, seed: int) -> Mesh:
    height = size[2]
    faces = _both_sides(_board(-0.06, 0.06, 0.0, height), (1, 0, 0), STEEL)
    faces += _both_sides(_board(-0.18, 0.18, height - 0.95, height, 0.08), (1, 0, 0), (0.02, 0.02, 0.02), 1)
    on = (0, 0, 2, 2, 1)[seed % 5]
    for i, signal in enumerate(_SIGNALS):
        lamp = disc(0.0, height - 0.18 - 0.3 * i, 0.11) + np.array([0.09, 0.0, 0.0])
        faces.append(
            Face(lamp, (1, 0, 0), signal if i == on else tinted(signal, 0.08), 2, glow=0.95 if i == on else 0.0)
        )
    return Mesh(tuple(faces))


def _gantry(size: Size, colour: RGB, seed: int) -> Mesh:
    half, height = 0.5 * size[1], size[2]
    faces = []
    for y in (-half, half):
        faces += _both_sides(_board(y - 0.15, y + 0.15, 0.0, height), (1, 0, 0), STEEL)
    faces += _both_sides(_board(-half, half, height - 0.7, height - 0.1), (1, 0, 0), STEEL, 1)
    faces += _both_sides(_upright(-0.25, 0.25, height - 0.7, height - 0.1), (0, 1, 0), STEEL, 1)
    faces.append(Face(quad((-0.2, -half, height - 0.7), (-0.2, half, height - 0.7), (0.2, half, height - 0.7),
                           (0.2, -half, height - 0.7)), (0, 0, -1), tinted(STEEL, 0.5), 0))  # fmt: skip
    for i in range(1 + seed % 3):
        y = (-0.5 + (i + 0.5) / (1 + seed % 3)) * 1.6 * half
        board = _board(y - 1.6, y + 1.6, height - 1.6, height + 0.3, 0.3)
        faces.append(Face(board, (1, 0, 0), _BOARDS[seed % 2], 2))
        faces.append(Face(_board(y - 1.1, y + 0.9, height - 0.9, height - 0.5, 0.3), (1, 0, 0), PALE, 3, True))
        faces.append(Face(board, (-1, 0, 0), tinted(STEEL, 0.7), 2))
    return Mesh(tuple(faces))


def _bus_stop(size: Size, colour: RGB, seed: int) -> Mesh:
    length, width, height = size
    half, back = 0.5 * length, 0.5 * width
    glass = quad((-half, back, 0.3), (half, back, 0.3), (half, back, height - 0.2), (-half, back, height - 0.2))
    faces = _both_sides(glass, (0, 1, 0), tinted(GLASS, 5.0))
    for x in (-half, half - 0.08):
        for y in (-back, back):
            post = quad((x, y, 0), (x + 0.08, y, 0), (x + 0.08, y, height), (x, y, height))
            faces += _both_sides(post, (0, 1, 0), STEEL, 1)
    side = quad((half, -0.2, 0.3), (half, back, 0.3), (half, back, height - 0.3), (half, -0.2, height - 0.3))
    faces += _both_sides(side, (1, 0, 0), colour, 1)
    roof = block_sides(
        level_ring(length + 0.4, width + 0.3, height - 0.15), level_ring(length + 0.4, width + 0.3, height), STEEL, 2
    )
    return Mesh((*faces, *roof))


def _van(size: Size, colour: RGB) -> Mesh:
    length, width, height = size
    waist = 0.52 * height
    body = block_sides(level_ring(length, width, 0.25), level_ring(length, width, waist), colour, 1, False)
    upper = block_sides(
        level_ring(length, width, waist), level_ring(0.84 * length, 0.9 * width, height, -0.08 * length), colour, 2
    )
    faces = [
        Face(level_ring(length + 0.25, width + 0.2, 0.01), (0.0, 0.0, 1.0), (0.018, 0.018, 0.02), 0),
        *body,
        *upper,
    ]
    right, front, left, rear = upper[:4]
    for face, spans in (
        (right, ((0.68, 0.95),)),
        (left, ((0.05, 0.32),)),
        (front, ((0.05, 0.95),)),
        (rear, ((0.08, 0.92),)),
    ):
        for s0, s1 in spans:
            faces.append(Face(inset(face, s0, s1, 0.12, 0.8), face.normal, GLASS, 4))
    for side in (-1.0, 1.0):
        for x in (-0.32 * length, 0.34 * length):
            faces += wheel(x, side * (0.5 * width + 0.005), 0.34, side)
    for end, lamp, glow in ((body[1], PALE, 0.3), (body[3], (0.45, 0.015, 0.015), 0.25)):
        for s0 in (0.04, 0.82):
            faces.append(Face(inset(end, s0, s0 + 0.14, 0.6, 0.85), end.normal, lamp, 2, True, glow))
    return Mesh(tuple(faces))


def _two_wheeler(size: Size, colour: RGB, is_motor: bool) -> Mesh:
    length, _, height = size
    radius = 0.32
    faces = []
    for x in (-0.34 * length, 0.34 * length):
        for side in (-1.0, 1.0):
            faces += [replace(f, rank=0) for f in wheel(x, side * 0.03, radius, side)[: 2 if is_motor else 1]]
    thick = 0.3 if is_motor else 0.08
    frame = quad((-0.34 * length, 0, radius), (0.32 * length, 0, radius + 0.05),
                 (0.3 * length, 0, radius + 0.25 + thick), (-0.2 * length, 0, radius + 0.3 + thick))  # fmt: skip
    faces += _both_sides(frame, (0, 1, 0), colour, 1)
    seat, shoulder = 0.52 * height, 0.86 * height
    back = quad(
        (-0.16 * length, 0, seat), (0.08 * length, 0, seat), (0.12 * length, 0, shoulder), (-0.06 * length, 0, shoulder)
    )
    faces += _both_sides(back, (0, 1, 0), tinted(colour, 0.6), 2)
    faces += _both_sides(_board(-0.25, 0.25, seat, shoulder), (1, 0, 0), tinted(colour, 0.6), 2)
    leg = quad((-0.12 * length, 0, seat), (0.05 * length, 0, seat), (0.1 * length, 0, 0.25), (0.0, 0, 0.25))
    faces += _both_sides(leg, (0, 1, 0), (0.03, 0.035, 0.06), 3)
    faces += _both_sides(_board(-0.16, 0.16, 0.2, seat), (1, 0, 0), (0.03, 0.035, 0.06), 1)
    head = disc(0.0, height - 0.13, 0.13)
    tint = tinted(colour, 0.9) if is_motor else SKIN
    faces += _both_sides(head, (1, 0, 0), tint, 3)
    turned = np.stack([head[:, 1] + 0.04 * length, head[:, 0], head[:, 2]], axis=1)
    faces += _both_sides(turned, (0, 1, 0), tint, 3)
    return Mesh(tuple(faces))


_MESHES = {
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
