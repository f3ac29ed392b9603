"""What vehicles look like: cars, vans, trucks, buses, two-wheelers with their riders."""

import math
from dataclasses import replace

import numpy as np

from hdmap_core.datasets.synthetic.things.face_parts import (
    GLASS,
    PALE,
    SKIN,
    block_sides,
    board,
    both_sides,
    disc,
    inset,
    level_ring,
    quad,
    tinted,
)
from hdmap_core.datasets.synthetic.things.faces import Face, Mesh, Vector
from hdmap_core.datasets.synthetic.town import RGB, Box, Mover

_RUBBER: RGB = (0.012, 0.012, 0.013)


def vehicle_mesh(vehicle: Box | Mover) -> Mesh:
    """Any vehicle."""
    size, colour = vehicle.size, vehicle.colour
    match vehicle.kind:
        case "car":
            return _car(size, colour)
        case "van":
            return _van(size, colour)
        case "truck" | "bus":
            return _truck(size, colour, vehicle.kind == "bus")
        case _:
            return _two_wheeler(size, colour, vehicle.kind == "motorcycle")


def _car(size: Vector, colour: RGB) -> Mesh:
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
            faces += _wheel(x, side * (0.5 * width + 0.005), radius, side)
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


def _truck(size: Vector, colour: RGB, is_bus: bool) -> Mesh:
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
            faces += _wheel(x, side * (0.5 * width + 0.005), 0.48, side)
    faces.append(Face(inset(front, 0.06, 0.94, 0.38, 0.82), front.normal, GLASS, 2))
    window_or_seam = (0.15, 0.85, 0.5, 0.82) if is_bus else (0.49, 0.51, 0.05, 0.95)
    faces.append(Face(inset(rear, *window_or_seam), rear.normal, GLASS, 2, True))
    for s in (0.04, 0.84):
        faces.append(Face(inset(front, s, s + 0.12, 0.08, 0.18), front.normal, (0.8, 0.8, 0.75), 2, True, 0.3))
        faces.append(Face(inset(rear, s, s + 0.12, 0.08, 0.2), rear.normal, (0.45, 0.01, 0.01), 2, True, 0.3))
    return Mesh(tuple(faces))


def _van(size: Vector, colour: RGB) -> Mesh:
    length, width, height = size
    waist = 0.52 * height
    body = block_sides(level_ring(length, width, 0.25), level_ring(length, width, waist), colour, 1, False)
    upper = block_sides(
        level_ring(length, width, waist), level_ring(0.84 * length, 0.9 * width, height, -0.08 * length), colour, 2
    )
    faces = [
        _shadow(length, width),
        *body,
        *upper,
    ]
    right, front, left, rear = upper[:4]
    for face, s0, s1 in ((right, 0.68, 0.95), (left, 0.05, 0.32), (front, 0.05, 0.95), (rear, 0.08, 0.92)):
        faces.append(Face(inset(face, s0, s1, 0.12, 0.8), face.normal, GLASS, 4))
    for side in (-1.0, 1.0):
        for x in (-0.32 * length, 0.34 * length):
            faces += _wheel(x, side * (0.5 * width + 0.005), 0.34, side)
    for end, lamp, glow in ((body[1], PALE, 0.3), (body[3], (0.45, 0.015, 0.015), 0.25)):
        for s0 in (0.04, 0.82):
            faces.append(Face(inset(end, s0, s0 + 0.14, 0.6, 0.85), end.normal, lamp, 2, True, glow))
    return Mesh(tuple(faces))


def _two_wheeler(size: Vector, colour: RGB, is_motor: bool) -> Mesh:
    length, _, height = size
    radius = 0.32
    faces = []
    for x in (-0.34 * length, 0.34 * length):
        for side in (-1.0, 1.0):
            faces += [replace(f, rank=0) for f in _wheel(x, side * 0.03, radius, side)[: 2 if is_motor else 1]]
    thick = 0.3 if is_motor else 0.08
    frame = quad((-0.34 * length, 0, radius), (0.32 * length, 0, radius + 0.05),
                 (0.3 * length, 0, radius + 0.25 + thick), (-0.2 * length, 0, radius + 0.3 + thick))  # fmt: skip
    faces += both_sides(frame, (0, 1, 0), colour, 1)
    seat, shoulder = 0.52 * height, 0.86 * height
    back = quad(
        (-0.16 * length, 0, seat), (0.08 * length, 0, seat), (0.12 * length, 0, shoulder), (-0.06 * length, 0, shoulder)
    )
    faces += both_sides(back, (0, 1, 0), tinted(colour, 0.6), 2)
    faces += both_sides(board(-0.25, 0.25, seat, shoulder), (1, 0, 0), tinted(colour, 0.6), 2)
    leg = quad((-0.12 * length, 0, seat), (0.05 * length, 0, seat), (0.1 * length, 0, 0.25), (0.0, 0, 0.25))
    faces += both_sides(leg, (0, 1, 0), (0.03, 0.035, 0.06), 3)
    faces += both_sides(board(-0.16, 0.16, 0.2, seat), (1, 0, 0), (0.03, 0.035, 0.06), 1)
    head = disc(0.0, height - 0.13, 0.13)
    tint = tinted(colour, 0.9) if is_motor else SKIN
    faces += both_sides(head, (1, 0, 0), tint, 3)
    turned = np.stack([head[:, 1] + 0.04 * length, head[:, 0], head[:, 2]], axis=1)
    faces += both_sides(turned, (0, 1, 0), tint, 3)
    return Mesh(tuple(faces))


def _wheel(x: float, y: float, radius: float, side: float) -> list[Face]:
    """A wheel with its hub, on the right (`side` -1) or the left (1)."""
    angles = np.linspace(0.0, 2.0 * math.pi, 10, endpoint=False)
    rim = np.stack([x + radius * np.cos(angles), np.full(10, y), radius + radius * np.sin(angles)], axis=1)
    hub = np.stack([x + 0.6 * radius * np.cos(angles), np.full(10, y), radius + 0.6 * radius * np.sin(angles)], axis=1)
    normal = (0.0, side, 0.0)
    return [Face(rim, normal, _RUBBER, 2), Face(hub, normal, (0.28, 0.28, 0.29), 3, is_detail=True)]


def _shadow(length: float, width: float) -> Face:
    return Face(level_ring(length + 0.25, width + 0.2, 0.01), (0.0, 0.0, 1.0), (0.018, 0.018, 0.02), 0)
