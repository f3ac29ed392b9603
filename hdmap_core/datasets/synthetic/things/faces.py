"""Convex faces of the things that stand in a synthetic town, and how they are placed in the world.

An object frame has x forward, y left, z up, origin on the ground below the middle. A card is an object drawn flat in
its y-z plane, turned towards the camera whenever it is seen (crowns, poles, people).
"""

from dataclasses import dataclass

import numpy as np

from hdmap_core.datasets.synthetic.town import RGB

MAX_CORNERS = 10
Vector = tuple[float, float, float]


@dataclass(frozen=True)
class Face:
    """A convex polygon (P ≤ 10, 3) in its object's frame, seen from the side `normal` points to.

    Of one object, faces of higher `rank` are drawn over those of lower rank. A detail is left out far away.
    """

    corners: np.ndarray
    normal: Vector
    colour: RGB
    rank: int = 0
    is_detail: bool = False
    glow: float = 0.0
    """0: reflects light; 1: shines by itself."""


@dataclass(frozen=True)
class Mesh:
    """The faces of one object."""

    faces: tuple[Face, ...]
    is_card: bool = False


Placement = tuple[Mesh, tuple[float, float], float]
"""Mesh, centre (x, y) and yaw."""


@dataclass(frozen=True)
class Footing:
    """What N objects stand on."""

    heights: np.ndarray
    """(N,) metres, below the middle."""
    slopes: np.ndarray
    """(N, 2) rise per metre to the east and to the north."""

    def of(self, owners: np.ndarray) -> "Footing":
        """Of parts (F,) of the objects with these indices."""
        return Footing(self.heights[owners], self.slopes[owners])


@dataclass(frozen=True)
class Placed:
    """All faces of many objects, in object frames, as arrays over F faces of N objects."""

    corners: np.ndarray
    """(F, 10, 3) float64; the last corner is repeated."""
    num_corners: np.ndarray
    normals: np.ndarray
    colours: np.ndarray
    """(F, 3) linear."""
    ranks: np.ndarray
    is_detail: np.ndarray
    glow: np.ndarray
    owner: np.ndarray
    """(F,) index of the object."""
    centres: np.ndarray
    """(N, 2) metres."""
    yaws: np.ndarray
    radii: np.ndarray
    """(N,) horizontal reach from the centre."""
    half_sizes: np.ndarray
    """(N, 2) half of the extent along and across an object."""
    heights: np.ndarray
    is_card: np.ndarray

    @staticmethod
    def of(objects: list[Placement]) -> "Placed":
        """All faces of the objects, in their order."""
        faces = [face for mesh, _, _ in objects for face in mesh.faces]
        corners = np.zeros((len(faces), MAX_CORNERS, 3))
        for i, face in enumerate(faces):
            corners[i, : len(face.corners)] = face.corners
            corners[i, len(face.corners) :] = face.corners[-1]
        counts = np.array([len(mesh.faces) for mesh, _, _ in objects], dtype=int)
        owner = np.repeat(np.arange(len(objects)), counts)
        reach = np.linalg.norm(corners[..., :2], axis=-1).max(axis=1) if faces else np.zeros(0)
        radii = np.zeros(len(objects))
        np.maximum.at(radii, owner, reach)
        extents = np.zeros((len(objects), 3))
        np.maximum.at(extents, owner, np.abs(corners).max(axis=1))
        return Placed(
            corners=corners,
            num_corners=np.array([len(face.corners) for face in faces], dtype=int),
            normals=np.array([face.normal for face in faces], dtype=np.float64).reshape(-1, 3),
            colours=np.array([face.colour for face in faces], dtype=np.float64).reshape(-1, 3),
            ranks=np.array([face.rank for face in faces], dtype=int),
            is_detail=np.array([face.is_detail for face in faces], dtype=bool),
            glow=np.array([face.glow for face in faces], dtype=np.float64),
            owner=owner,
            centres=np.array([centre for _, centre, _ in objects], dtype=np.float64).reshape(-1, 2),
            yaws=np.array([yaw for _, _, yaw in objects], dtype=np.float64),
            radii=radii,
            half_sizes=extents[:, :2],
            heights=extents[:, 2],
            is_card=np.array([mesh.is_card for mesh, _, _ in objects], dtype=bool),
        )

    def in_world(
        self,
        faces: np.ndarray,
        centres: np.ndarray,
        yaws: np.ndarray,
        footing: Footing | None = None,
        count: int = MAX_CORNERS,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The first `count` corners (K, count, 3) and normals (K, 3) in the town frame of the chosen faces (K,), with
        the objects at `centres` (N, 2) and `yaws` (N,), on the plane z = 0 or where `footing` has them.
        """
        owner = self.owner[faces]
        cos, sin = np.cos(yaws)[owner], np.sin(yaws)[owner]
        local = self.corners[:, :count][faces]
        corners = np.empty_like(local)
        corners[..., 0] = local[..., 0] * cos[:, None] - local[..., 1] * sin[:, None] + centres[owner, 0, None]
        corners[..., 1] = local[..., 0] * sin[:, None] + local[..., 1] * cos[:, None] + centres[owner, 1, None]
        corners[..., 2] = local[..., 2]
        n = self.normals[faces]
        normals = np.stack([n[:, 0] * cos - n[:, 1] * sin, n[:, 0] * sin + n[:, 1] * cos, n[:, 2]], axis=1)
        if footing is not None:
            # Turned to first order, which at a street's slopes is true to half a per cent.
            slopes = footing.slopes[owner]
            away = corners[..., :2] - centres[owner, None]
            corners[..., :2] -= slopes[:, None] * corners[..., 2:]
            corners[..., 2] += footing.heights[owner, None] + (away * slopes[:, None]).sum(axis=-1)
            normals[:, :2] -= slopes * normals[:, 2:]
            normals /= np.linalg.norm(normals, axis=1, keepdims=True)
        return corners, normals
