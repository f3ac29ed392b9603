"""Ground truth of many keyframes in one ragged, memory-mapped store: opens at once however large it is.

Four arrays: `tokens` (F,), `frames` (F + 1) first shape of each frame, `shapes` (S, 3) what it is (element, outline or
hole), its label and whether it is closed, `starts` (S + 1) first point of each shape, `points` (P, 2) float32 metres.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import shapely
from shapely import MultiPolygon, Polygon

from hdmap_core.elements import MapClass, MapElement
from hdmap_core.errors import DatasetError

CLASSES = tuple(MapClass)
LAYERS = ("ped_crossing", "drivable_area", "road_segment")
"""Polygon layers that are kept beside the elements, for segmentation targets."""

_ELEMENT, _OUTLINE, _HOLE = 0, 1, 2
_ARRAYS = ("tokens", "frames", "shapes", "starts", "points")

Areas = dict[str, MultiPolygon]
Frame = tuple[str, Sequence[MapElement], Areas]


@dataclass(frozen=True)
class VectorStore:
    """The arrays of the module's docstring."""

    tokens: np.ndarray
    frames: np.ndarray
    shapes: np.ndarray
    starts: np.ndarray
    points: np.ndarray

    @classmethod
    def of(cls, frames: Iterable[Frame]) -> "VectorStore":
        """Packs frames of (token, elements, areas by layer)."""
        tokens, counts, shapes, points = [], [0], [], []
        for token, elements, areas in frames:
            rows = [(_ELEMENT, CLASSES.index(e.label), e.closed, e.points) for e in elements]
            for layer, area in areas.items():
                for polygon in area.geoms:
                    rows.append((_OUTLINE, LAYERS.index(layer), True, _ring(polygon.exterior)))
                    rows += [(_HOLE, LAYERS.index(layer), True, _ring(hole)) for hole in polygon.interiors]
            tokens.append(token)
            counts.append(len(rows))
            shapes += [row[:3] for row in rows]
            points += [row[3] for row in rows]
        return cls(
            np.array(tokens, dtype=np.str_),
            np.cumsum(counts),
            np.array(shapes, np.uint8).reshape(-1, 3),
            np.cumsum([0, *(len(p) for p in points)]),
            np.concatenate([np.zeros((0, 2)), *points]).astype(np.float32),
        )

    @classmethod
    def read(cls, folder: Path) -> "VectorStore":
        """Opens a store without reading it.

        Raises:
            DatasetError: if it is damaged.
        """
        return cls(*(open_rows(folder, f"{name}.npy") for name in _ARRAYS))

    @classmethod
    def joined(cls, stores: Sequence["VectorStore"]) -> "VectorStore":
        """One store of several."""
        shape_counts, point_counts = ([0, *np.concatenate(c)] for c in zip(*map(_counts, stores), strict=True))
        return cls(
            np.concatenate([store.tokens for store in stores]),
            np.cumsum(shape_counts),
            np.concatenate([store.shapes for store in stores]),
            np.cumsum(point_counts),
            np.concatenate([store.points for store in stores]),
        )

    def write(self, folder: Path) -> None:
        """Writes the arrays."""
        for name in _ARRAYS:
            np.save(folder / f"{name}.npy", getattr(self, name))

    def __len__(self) -> int:
        return len(self.tokens)

    def elements(self, index: int) -> list[MapElement]:
        """The map elements of a frame."""
        return [
            MapElement(CLASSES[label], np.array(points), bool(closed))
            for what, label, closed, points in self._rows(index)
            if what == _ELEMENT
        ]

    def areas(self, index: int) -> Areas:
        """The polygon layers of a frame; a layer without polygons is empty."""
        rings: dict[str, list[tuple[np.ndarray, list[np.ndarray]]]] = {layer: [] for layer in LAYERS}
        for what, label, _, points in self._rows(index):
            if what == _OUTLINE:
                rings[LAYERS[label]].append((points, []))
            elif what == _HOLE:
                rings[LAYERS[label]][-1][1].append(points)
        return {layer: MultiPolygon([Polygon(*polygon) for polygon in polygons]) for layer, polygons in rings.items()}

    def _rows(self, index: int) -> Iterable[tuple[int, int, int, np.ndarray]]:
        first, last = self.frames[index : index + 2].tolist()
        starts = self.starts[first : last + 1].tolist()
        # One plain array per frame: each slice of a memory map costs microseconds.
        points = np.array(self.points[starts[0] : starts[-1]])
        for (what, label, closed), start, end in zip(
            self.shapes[first:last].tolist(), starts[:-1], starts[1:], strict=True
        ):
            yield what, label, closed, points[start - starts[0] : end - starts[0]]


def open_rows(folder: Path, name: str, mode: Literal["r", "r+"] = "r") -> np.ndarray:
    """A memory-mapped array of a folder of the cache, by the name of its file there.

    Raises:
        DatasetError: if it is damaged.
    """
    try:
        return np.load(folder / name, mmap_mode=mode, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise damaged(folder, error) from None


def damaged(folder: Path, error: Exception) -> DatasetError:
    """What is wrong with a folder of the cache."""
    return DatasetError(f"the cache {folder} is damaged ({error}); delete it, it will be made again")


def _counts(store: VectorStore) -> tuple[np.ndarray, np.ndarray]:
    return np.diff(store.frames), np.diff(store.starts)


def _ring(ring: shapely.LinearRing) -> np.ndarray:
    return shapely.get_coordinates(ring)[:-1]
