"""The images of a rig side by side, as they look around the car, with the map projected into them."""

from collections.abc import Sequence
from typing import TypeAlias

import cv2
import numpy as np
import torch

from hdmap_core.elements import MapElement
from hdmap_core.geometry import CameraRig, polyline
from hdmap_core.geometry.ground_relief import GroundRelief
from hdmap_core.observation import Observation
from hdmap_core.viz.strokes import BACKGROUND, COLOURS, PANEL, TRUTH, stroke, write

TILE = (360, 640)
"""(H, W) pixels of an image in a still picture."""
Pieces: TypeAlias = list[tuple[np.ndarray, float]]
"""Lines (P, 2) in pixels, each with its depth in metres."""
_AHEAD = -0.2  # cosine: a camera that looks up to 101 degrees aside stands in the upper row
_STEP = 0.25  # metres from one projected point to the next
_NEAREST = 0.5  # metres before the camera
_DISTANCES = (4, 5.5, 7, 9, 12, 16, 24)  # metres between which a line is of one thickness
_THICK = 10.0  # metres from the camera at which a line is drawn at its plain width


def draw_cameras(
    observation: Observation,
    elements: Sequence[MapElement],
    truth: Sequence[MapElement] = (),
    tile: tuple[int, int] = TILE,
) -> np.ndarray:
    """A mosaic of the images, those that look ahead above those that look back, from the car's left to its right.

    Args:
        observation: the frame; a missing image stays dark. Sizes and names are free.
        elements: drawn on the ground (`observation.relief`), in the colours of their classes.
        truth: drawn thin and white under them.
        tile: (H, W) pixels of each image, which keeps its shape in there.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    rows = camera_rows(observation.rig)
    height, width = tile
    rig = observation.rig.resized([_fitted(size, tile) for size in observation.rig.image_sizes])
    drawn = [(element, projected(rig, element, observation.relief)) for element in elements]
    true = [(element, projected(rig, element, observation.relief)) for element in truth]
    mosaic = np.full((height * len(rows), width * max(map(len, rows)), 3), BACKGROUND, np.uint8)
    for number, row in enumerate(rows):
        start = (mosaic.shape[1] - width * len(row)) // 2
        for column, name in enumerate(row):
            left, camera = start + column * width, rig.names.index(name)
            part = mosaic[number * height : (number + 1) * height, left : left + width]
            window = _draw_image(part, observation.images[camera], rig.image_sizes[camera], name)
            if window is not None:
                _draw_lines(window, [(e, p[camera]) for e, p in drawn], [(e, p[camera]) for e, p in true])
                _write_name(window, name)
    return mosaic


def camera_rows(rig: CameraRig) -> list[list[str]]:
    """The names of the cameras as the mosaic has them, in rows of at most four; three or fewer are one row."""
    views = rig.ego_from_camera[:, :3, 2].double().numpy()  # the optical axes
    flat = np.hypot(views[:, 0], views[:, 1])
    ahead, aside = views[:, :2].T / np.maximum(flat, 1e-9)
    order = sorted(range(len(views)), key=lambda index: -aside[index])
    found = []
    for wanted in (True, False):
        row = [rig.names[index] for index in order if (ahead[index] > _AHEAD) is np.bool_(wanted)]
        parts = -(-len(row) // 4)
        found += [part.tolist() for part in np.array_split(row, parts)] if row else []
    return [[name for row in found for name in row]] if len(views) <= 3 else found


def tile_in(rig: CameraRig, box: tuple[int, int]) -> tuple[int, int]:
    """(H, W) of a tile with which the mosaic of a rig fits into a box (H, W)."""
    rows = camera_rows(rig)
    width = min(box[1] // max(map(len, rows)), box[0] // len(rows) * TILE[1] // TILE[0])
    return width * TILE[0] // TILE[1], width


def _fitted(size: tuple[int, int], tile: tuple[int, int]) -> tuple[int, int]:
    """(H, W) of an image that keeps its shape in a tile."""
    scale = min(tile[0] / size[0], tile[1] / size[1])
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _draw_image(tile: np.ndarray, image: np.ndarray | None, size: tuple[int, int], name: str) -> np.ndarray | None:
    """The part of a tile where its image now stands; None where there is none."""
    if image is None:
        tile[1:-1, 1:-1] = PANEL
        _write_name(tile, f"{name}: no image")
        return None
    height, width = size
    top, left = (tile.shape[0] - height) // 2, (tile.shape[1] - width) // 2
    window = tile[top : top + height, left : left + width]
    window[:] = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return window


def _draw_lines(
    window: np.ndarray, drawn: list[tuple[MapElement, Pieces]], true: list[tuple[MapElement, Pieces]]
) -> None:
    for _, pieces in true:
        for line, _ in pieces:
            stroke(window, line, False, TRUTH, 1, halo=1)
    plain = max(2, round(window.shape[0] / 120))
    strokes = [
        (line, COLOURS[element.label], int(np.clip(round(plain * _THICK / depth), 1, 2 * plain)))
        for element, pieces in drawn
        for line, depth in pieces
    ]
    for line, _, thickness in strokes:  # all rims first: a piece's rim would cut the one before
        stroke(window, line, False, BACKGROUND, thickness + 2, halo=0)
    for line, colour, thickness in strokes:
        stroke(window, line, False, colour, thickness, halo=0)


def _write_name(window: np.ndarray, name: str) -> None:
    size = max(12, window.shape[0] // 20)
    write(window, (size // 2, size // 3), name, size, rim=1)


def projected(rig: CameraRig, element: MapElement, relief: GroundRelief | None = None) -> list[Pieces]:
    """What each camera may see of an element on the ground, cut where the line's thickness changes.

    Args:
        rig: in the pixels of the pictures.
        element: metres, ego frame.
        relief: the ground's heights over z = 0; None: it is flat.
    """
    length = polyline.length(element.points, element.closed)
    dense = polyline.resample(element.points, min(max(2, int(length / _STEP) + 1), 2000), element.closed)
    if element.closed:
        dense = polyline.closed_ring(dense)
    heights = np.zeros(len(dense)) if relief is None else relief.at(dense[:, 0], dense[:, 1])
    places = np.column_stack([dense, heights]).astype(np.float64)
    pixels, depths, _ = rig.project(torch.from_numpy(places))
    return [_seen(*camera) for camera in zip(pixels.numpy(), depths.numpy(), rig.image_sizes, strict=True)]


def _seen(line: np.ndarray, depth: np.ndarray, size: tuple[int, int]) -> Pieces:
    height, width = size
    middle = np.array([width / 2, height / 2])
    near = np.asarray((np.abs(line - middle) < 4 * middle).all(axis=1)) & (depth > _NEAREST)
    inside = np.asarray(((line > -1) & (line < 2 * middle)).all(axis=1))
    seen = near[:-1] & near[1:] & (inside[:-1] | inside[1:])
    if not seen.any():
        return []
    distance = np.digitize((depth[:-1] + depth[1:]) / 2, _DISTANCES)
    cuts = np.flatnonzero((seen[1:] != seen[:-1]) | (distance[1:] != distance[:-1])) + 1
    runs = zip([0, *cuts], [*cuts, len(seen)], strict=True)
    return [(line[a : b + 1], float(depth[a : b + 1].mean())) for a, b in runs if seen[a]]
