"""Pictures of a map: polylines over the camera images and over the ground seen from above."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from hdmap_core.elements import MapClass, MapElement
from hdmap_core.errors import OutputError
from hdmap_core.geometry import BEVGrid, CameraRig, polyline
from hdmap_core.geometry.ground_view import ground_view
from hdmap_core.observation import Observation

COLOURS: Mapping[MapClass, tuple[int, int, int]] = {
    MapClass.DIVIDER: (255, 168, 38),
    MapClass.PED_CROSSING: (64, 156, 255),
    MapClass.BOUNDARY: (60, 220, 120),
    MapClass.CENTERLINE: (190, 110, 255),
}
"""RGB per class, as MapTR's drawings have them."""
_BACKGROUND = (18, 20, 26)
_TEXT = (225, 228, 235)
_FAINT = (130, 136, 150)
_TRUTH = (255, 255, 255)
_ROWS = (
    ("CAM_FRONT_LEFT", "CAM_FRONT", "CAM_FRONT_RIGHT"),
    ("CAM_BACK_LEFT", "CAM_BACK", "CAM_BACK_RIGHT"),
)
_TILE = (360, 640)
_MARGIN = 24


def draw_map(
    observation: Observation,
    elements: Sequence[MapElement],
    truth: Sequence[MapElement] | None,
    grid: BEVGrid,
    title: str = "",
    facts: Sequence[str] = (),
    min_score: float = 0.3,
) -> np.ndarray:
    """The camera images with the elements projected into them, above the bird's-eye view.

    Args:
        observation: the frame; a missing image stays dark.
        elements: the prediction; those below `min_score` are not drawn.
        truth: ground truth drawn thin and white under the prediction, or None.
        grid: the region of the bird's-eye view.
        title: above the picture; the frame's token by default.
        facts: lines of text beside the bird's-eye view.
        min_score: see `elements`.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    shown = [element for element in elements if element.score >= min_score]
    mosaic = draw_cameras(observation, shown)
    bev = draw_bev(observation, shown, truth, grid, pixels_per_metre=20)
    width = max(mosaic.shape[1], bev.shape[1] + 560) + 2 * _MARGIN
    header = 64
    height = header + mosaic.shape[0] + bev.shape[0] + 3 * _MARGIN
    canvas = np.full((height, width, 3), _BACKGROUND, np.uint8)
    top = header + _MARGIN // 2
    canvas[top : top + mosaic.shape[0], _MARGIN : _MARGIN + mosaic.shape[1]] = mosaic
    top += mosaic.shape[0] + _MARGIN
    canvas[top : top + bev.shape[0], _MARGIN : _MARGIN + bev.shape[1]] = bev
    picture = Image.fromarray(canvas)
    pen = ImageDraw.Draw(picture)
    pen.text((_MARGIN, 20), title or f"hdmap_ros   {observation.token}", _TEXT, ImageFont.load_default(30))
    _write_legend(pen, (2 * _MARGIN + bev.shape[1], top), shown, truth is not None, facts)
    return np.asarray(picture)


def draw_cameras(observation: Observation, elements: Sequence[MapElement]) -> np.ndarray:
    """A mosaic of the images, front row above back row, with the elements on the ground plane."""
    names = observation.rig.names
    usual = [name for row in _ROWS for name in row]
    others = [name for name in names if name not in usual]
    rows = (*_ROWS, *_grid_of(others)) if set(names) >= set(usual) else _grid_of(names)
    tile_rig = observation.rig.resized(_TILE)
    mosaic = np.full((_TILE[0] * len(rows), _TILE[1] * max(map(len, rows)), 3), _BACKGROUND, np.uint8)
    for row, row_names in enumerate(rows):
        for column, name in enumerate(row_names):
            image = observation.images[names.index(name)]
            tile = mosaic[row * _TILE[0] : (row + 1) * _TILE[0], column * _TILE[1] : (column + 1) * _TILE[1]]
            if image is not None:
                tile[:] = cv2.resize(image, _TILE[::-1], interpolation=cv2.INTER_AREA)
                _draw_projected(tile, tile_rig.select([name]), elements)
            tile[:] = _labelled(tile, name if image is not None else f"{name}: no image")
    return mosaic


def draw_bev(
    observation: Observation | None,
    elements: Sequence[MapElement],
    truth: Sequence[MapElement] | None,
    grid: BEVGrid,
    pixels_per_metre: int,
) -> np.ndarray:
    """The region from above, the car's front to the right, over the dimmed ground pixels of the cameras.

    Returns:
        (H, W, 3) uint8 RGB, close to `pixels_per_metre`.
    """
    per_cell = max(1, round(grid.resolution * pixels_per_metre))  # whole pixels per cell, so that any grid works
    fine = BEVGrid(grid.x_range, grid.y_range, grid.resolution / per_cell)
    canvas = np.full((*fine.shape, 3), _BACKGROUND, np.uint8)
    if observation is not None:
        view = ground_view(observation.images, observation.rig, fine)
        canvas = np.where(view[..., 3:] > 0, (0.55 * view[..., :3]).astype(np.uint8), canvas)
    for metres in range(-200, 201, 10):
        for start, end in (((metres, -999), (metres, 999)), ((-999, metres), (999, metres))):
            cv2.polylines(canvas, [_pixels(fine, np.array([start, end]))], False, (70, 74, 84), 1)
    for element in truth or ():
        _stroke(canvas, _pixels(fine, element.points), element.closed, _TRUTH, 2)
    for element in elements:
        line = _pixels(fine, element.points)
        _stroke(canvas, line, element.closed, COLOURS[element.label], 4)
        for x, y in line:
            cv2.circle(canvas, (int(x), int(y)), 4, COLOURS[element.label], -1, cv2.LINE_AA)
    car = np.array([[3.9, 0.0], [3.3, 0.9], [-0.9, 0.9], [-0.9, -0.9], [3.3, -0.9]])
    cv2.fillPoly(canvas, [_pixels(fine, car)], (235, 235, 240), cv2.LINE_AA)
    return np.ascontiguousarray(canvas[::-1])


def write_picture(path: str | Path, picture: np.ndarray) -> None:
    """Writes (H, W, 3) uint8 RGB as PNG or JPEG, by the path's suffix.

    Raises:
        OutputError: if the file cannot be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)
    except (OSError, ValueError) as error:
        raise OutputError(f"cannot write the picture {path}: {error}") from None


def _draw_projected(tile: np.ndarray, rig: CameraRig, elements: Sequence[MapElement]) -> None:
    for element in elements:
        length = polyline.length(element.points, element.closed)
        dense = polyline.resample(element.points, min(max(2, int(length / 0.25) + 1), 2000), element.closed)
        if element.closed:
            dense = polyline.closed_ring(dense)
        points = torch.from_numpy(np.pad(dense.astype(np.float64), ((0, 0), (0, 1))))
        pixels, depth, _ = rig.project(points)
        ahead = (depth[0] > 0.5).numpy()
        line = pixels[0].clamp(-4000, 4000).numpy()
        for start in np.flatnonzero(ahead[:-1] & ahead[1:]):
            _stroke(tile, np.round(line[start : start + 2]).astype(np.int32), False, COLOURS[element.label], 2, halo=0)


def _labelled(tile: np.ndarray, text: str) -> np.ndarray:
    picture = Image.fromarray(tile)
    font = ImageFont.load_default(18)
    ImageDraw.Draw(picture).text((12, 8), text, _TEXT, font, stroke_width=2, stroke_fill=(0, 0, 0))
    return np.asarray(picture)


def _stroke(
    canvas: np.ndarray, line: np.ndarray, closed: bool, colour: tuple[int, int, int], width: int, halo: int = 2
) -> None:
    if halo:
        cv2.polylines(canvas, [line], closed, _BACKGROUND, width + halo, cv2.LINE_AA)
    cv2.polylines(canvas, [line], closed, colour, width, cv2.LINE_AA)


def _pixels(grid: BEVGrid, points: np.ndarray) -> np.ndarray:
    return np.round(grid.to_cells(np.asarray(points, np.float64))).astype(np.int32)


def _grid_of(names: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(names[start : start + 3]) for start in range(0, len(names), 3))


def _write_legend(
    pen: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    elements: Sequence[MapElement],
    has_truth: bool,
    facts: Sequence[str],
) -> None:
    x, y = corner
    font, small = ImageFont.load_default(24), ImageFont.load_default(20)
    for label in MapClass:
        count = sum(element.label is label for element in elements)
        if label is MapClass.CENTERLINE and not count:
            continue  # an option that few models have
        pen.line([(x, y + 16), (x + 50, y + 16)], COLOURS[label], 5)
        pen.text((x + 66, y), f"{label.value.replace('_', ' ')}   {count}", _TEXT, font)
        y += 40
    if has_truth:
        pen.line([(x, y + 16), (x + 50, y + 16)], _TRUTH, 2)
        pen.text((x + 66, y), "ground truth", _TEXT, font)
        y += 40
    pen.text((x, y), "grid 10 m, the car drives to the right", _FAINT, small)
    y += 44
    for fact in facts:
        pen.text((x, y), fact, _TEXT if fact else _FAINT, small)
        y += 30
