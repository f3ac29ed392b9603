"""The images of a rig side by side, as they look around the car, with the map projected into them."""

from collections.abc import Sequence

import cv2
import numpy as np
import torch

from hdmap_core.elements import MapElement
from hdmap_core.geometry import CameraRig, polyline
from hdmap_core.observation import Observation
from hdmap_core.viz.strokes import BACKGROUND, COLOURS, PANEL, TRUTH, stroke, write

TILE = (360, 640)
"""(H, W) pixels of an image in a still picture."""
_AHEAD = -0.2  # cosine: a camera that looks up to 101 degrees aside stands in the upper row
_STEP = 0.25  # metres from one projected point to the next
_NEAREST = 0.5  # metres before the camera
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
        elements: drawn on the ground plane, in the colours of their classes.
        truth: drawn thin and white under them.
        tile: (H, W) pixels of each image, which keeps its shape in there.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    rows = camera_rows(observation.rig)
    height, width = tile
    mosaic = np.full((height * len(rows), width * max(map(len, rows)), 3), BACKGROUND, np.uint8)
    for number, row in enumerate(rows):
        start = (mosaic.shape[1] - width * len(row)) // 2
        for column, name in enumerate(row):
            left = start + column * width
            _draw_camera(
                mosaic[number * height : (number + 1) * height, left : left + width], observation, name, elements, truth
            )
    return mosaic


def camera_rows(rig: CameraRig) -> list[list[str]]:
    """The names of the cameras as the mosaic has them; in rows of at most four, and three or
    fewer in one.
    """
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


def _draw_camera(
    tile: np.ndarray,
    observation: Observation,
    name: str,
    elements: Sequence[MapElement],
    truth: Sequence[MapElement],
) -> None:
    image = observation.images[observation.rig.names.index(name)]
    label_size = max(12, tile.shape[0] // 20)
    if image is None:
        tile[1:-1, 1:-1] = PANEL
        write(tile, (label_size // 2, label_size // 3), f"{name}: no image", label_size, rim=1)
        return
    scale = min(tile.shape[0] / image.shape[0], tile.shape[1] / image.shape[1])
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    top, left = (tile.shape[0] - height) // 2, (tile.shape[1] - width) // 2
    window = tile[top : top + height, left : left + width]
    window[:] = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    rig = observation.rig.select([name]).resized((height, width))
    plain = max(2, round(height / 120))
    for element in truth:
        for line, _ in projected(rig, element):
            stroke(window, line, False, TRUTH, 1, halo=1)
    pieces = [
        (line, COLOURS[element.label], int(np.clip(round(plain * _THICK / depth), 1, 2 * plain)))
        for element in elements
        for line, depth in projected(rig, element)
    ]
    for line, _, thickness in pieces:  # all rims first: a piece's rim would cut the one before
        stroke(window, line, False, BACKGROUND, thickness + 2, halo=0)
    for line, colour, thickness in pieces:
        stroke(window, line, False, colour, thickness, halo=0)
    write(window, (label_size // 2, label_size // 3), name, label_size, rim=1)


def projected(rig: CameraRig, element: MapElement) -> list[tuple[np.ndarray, float]]:
    """Pieces (P, 2) in pixels of an element on the ground that one camera may see, each with its depth in metres."""
    length = polyline.length(element.points, element.closed)
    dense = polyline.resample(element.points, min(max(2, int(length / _STEP) + 1), 2000), element.closed)
    if element.closed:
        dense = polyline.closed_ring(dense)
    pixels, depths, _ = rig.project(torch.from_numpy(np.pad(dense.astype(np.float64), ((0, 0), (0, 1)))))
    height, width = rig.image_sizes[0]
    line, depth = pixels[0].numpy(), depths[0].numpy()
    near = (np.abs(line - [width / 2, height / 2]) < [2 * width, 2 * height]).all(axis=1) & (depth > _NEAREST)
    inside = ((line > -1) & (line < [width, height])).all(axis=1)
    seen = near[:-1] & near[1:] & (inside[:-1] | inside[1:])
    distance = np.digitize((depth[:-1] + depth[1:]) / 2, [4, 5.5, 7, 9, 12, 16, 24])  # a piece is of one thickness
    starts = np.flatnonzero(np.diff(seen, prepend=False) & seen | seen & (np.diff(distance, prepend=-1) != 0))
    pieces = []
    for start in starts:
        stop = start + 1
        while stop < len(seen) and seen[stop] and distance[stop] == distance[start]:
            stop += 1
        pieces.append((line[start : stop + 1], float(depth[start : stop + 1].mean())))
    return pieces
