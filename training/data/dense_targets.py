"""What dense heads should have said: classes, instances and directions of lines, drawn on the BEV grid."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from hdmap_core.elements import MapClass, MapElement
from hdmap_core.elements.crossing_edges import crossing_edges
from hdmap_core.geometry import BEVGrid
from hdmap_core.model_io import TensorRecord

_PRIORITY = (MapClass.DIVIDER, MapClass.PED_CROSSING, MapClass.BOUNDARY)  # the last one wins
_HALO = 2  # cells on each side of a line from which it erases lower classes
_SHIFT = 6  # OpenCV draws with 1/64 cell accuracy


@dataclass(frozen=True)
class DenseTargets(TensorRecord):
    """Rasters of a batch on the BEV grid.

    Attributes:
        semantic: (B, Y, X) uint8: 0 background, 1 + k on lines of class k.
        instance: (B, Y, X) int16: 0 background, from 1 on the elements of a frame; an element that is hidden or lies
            outside the grid leaves a gap in the numbers.
        direction: (B, 2, Y, X) uint8: 0 background, else 1 + d for the direction of d times 360 / D degrees,
            counter-clockwise from x, nearest to that of the line, in the order of its points and against it.
    """

    semantic: Tensor
    instance: Tensor
    direction: Tensor


def build_dense_targets(
    frames: Sequence[Sequence[MapElement]],
    *,
    grid: BEVGrid,
    classes: Sequence[MapClass],
    thickness_cells: int = 7,
    directions: int = 36,
) -> DenseTargets:
    """HDMapNet's rasters of several frames; elements of classes that the model does not know are left out.

    As published, crossings are two open lines, as `VectorMap.elements` cuts them for dense heads; of a closed one that
    comes otherwise the long sides are taken (`crossing_edges`). Boundaries erase crossings, and those dividers, in a
    halo of 2 cells on each side. Instances are numbered class by class. A closed element is drawn closed. Where lines
    of one class meet, the later one is seen.

    Other than published: the end of a line is drawn (resampling dropped up to a metre, and lines shorter than that),
    coordinates are not cut to whole cells, and instances are 16 bits wide (8 gave all instances from the 255th on one
    number). The published thickness of 5 is OpenCV's, which draws it 7 cells wide; that is the default here, because
    published IoU are of such lines.

    Args:
        frames: ground truth, metres.
        grid: of the rasters.
        classes: K, in the order of the model's outputs.
        thickness_cells: width of the lines.
        directions: D, at most 255.
    """
    if not 1 <= directions <= 255:
        raise ValueError(f"{directions} directions; 1 to 255 fit into the raster")
    rows, columns = grid.shape
    semantic = np.zeros((len(frames), rows, columns), np.uint8)
    instance = np.zeros((len(frames), rows, columns), np.int16)
    direction = np.zeros((len(frames), 2, rows, columns), np.uint8)
    for b, elements in enumerate(frames):
        lines = [line for label in classes for line in crossing_edges([e for e in elements if e.label is label])]
        if not lines:
            continue
        segments = _segments(lines, grid)
        drawn = _draw(segments, lines, grid, thickness_cells)
        labels = np.array([1 + classes.index(line.label) for line in lines], np.uint8)
        semantic[b] = np.append(np.uint8(0), labels[segments.owner])[drawn]
        instance[b] = np.append(np.int16(0), (1 + segments.owner).astype(np.int16))[drawn]
        for sense in range(2):
            direction[b, sense] = np.append(np.uint8(0), _bins(segments.angle + np.pi * sense, directions))[drawn]
    return DenseTargets(torch.from_numpy(semantic), torch.from_numpy(instance), torch.from_numpy(direction))


@dataclass(frozen=True)
class _Segments:
    """The S pieces that lines are made of, those without length left out.

    Attributes:
        ends: (S, 2, 2) int32 (column, row) in 1/64 cells.
        angle: (S,) float64 radians, counter-clockwise from x.
        owner: (S,) int64: which line.
    """

    ends: np.ndarray
    angle: np.ndarray
    owner: np.ndarray


def _segments(lines: Sequence[MapElement], grid: BEVGrid) -> _Segments:
    paths = [line.path for line in lines]
    points = np.concatenate(paths).astype(np.float64)
    owner = np.repeat(np.arange(len(lines)), [len(path) for path in paths])
    step = points[1:] - points[:-1]
    joined = (owner[1:] == owner[:-1]) & step.any(axis=1)
    cells = np.round(grid.to_cells(points) * (1 << _SHIFT)).astype(np.int32)
    ends = np.stack([cells[:-1], cells[1:]], axis=1)[joined]
    return _Segments(ends, np.arctan2(step[:, 1], step[:, 0])[joined], owner[:-1][joined])


def _draw(segments: _Segments, lines: Sequence[MapElement], grid: BEVGrid, thickness: int) -> np.ndarray:
    """(Y, X) int64: 1 + the segment that is seen in a cell, 0 where there is none.

    Each class is drawn one cell wide, with the segments' numbers, and dilated: OpenCV's own thick lines are wider than
    asked. The greatest number under the disc stays, as if the segments had been painted one after the other.
    """
    seen = np.zeros(grid.shape, np.float32)  # what OpenCV both draws and dilates with more than 16 bits
    numbers: dict[MapClass, list[int]] = {label: [] for label in _PRIORITY}
    for number, owner in enumerate(segments.owner.tolist()):
        numbers[lines[owner].label].append(number)
    ends = segments.ends.tolist()
    for label in _PRIORITY:
        if not numbers[label]:
            continue
        canvas = np.zeros(grid.shape, np.float32)
        for number in numbers[label]:
            cv2.line(canvas, ends[number][0], ends[number][1], number + 1, 1, cv2.LINE_8, _SHIFT)
        thick = cv2.dilate(canvas, _disc(thickness))
        seen[cv2.dilate((thick > 0).astype(np.uint8), _disc(2 * _HALO + 1)) > 0] = 0
        np.maximum(seen, thick, out=seen)
    return seen.astype(np.int64)


def _disc(cells: int) -> np.ndarray:
    """(cells, cells) uint8, 1 where a cell's centre lies in the disc; OpenCV's ellipse has flat sides and spikes."""
    from_middle = np.arange(cells) - (cells - 1) / 2
    return (np.square(from_middle)[:, None] + np.square(from_middle) <= (cells / 2) ** 2).astype(np.uint8)


def _bins(angle: np.ndarray, directions: int) -> np.ndarray:
    """(S,) uint8 from 1 for angles in radians."""
    return (np.floor(angle * directions / (2 * np.pi) + 0.5).astype(np.int64) % directions + 1).astype(np.uint8)
