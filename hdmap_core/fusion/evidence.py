"""Evidence on the ground: how often a cell was seen, and how often with what on it, in square tiles that lie still.

Tiles exist where something was seen, so that a long drive costs memory along its way only.
"""

import itertools
import math
from collections.abc import Iterator

import numpy as np

from hdmap_core.geometry import BEVGrid

TILE_CELLS = 48


class EvidenceTiles:
    """Layers of evidence, and the looks that they are of, per cell.

    Args:
        layers: how many.
        resolution: metres per cell.
    """

    def __init__(self, layers: int, resolution: float) -> None:
        self.resolution = resolution
        self._layers = layers
        self._tiles: dict[tuple[int, int], np.ndarray] = {}  # (column, row) -> (layers + 1, Y, X), the last is looks

    @property
    def tile_size(self) -> float:
        """Metres."""
        return TILE_CELLS * self.resolution

    def window(self, low: np.ndarray, high: np.ndarray) -> BEVGrid:
        """The smallest window of whole tiles around a box, (2,) metres each."""
        size = self.tile_size
        ranges = [
            (size * math.floor(a / size), size * max(math.ceil(b / size), math.floor(a / size) + 1))
            for a, b in zip(low.tolist(), high.tolist(), strict=True)
        ]
        return BEVGrid(ranges[0], ranges[1], self.resolution)

    def span(self) -> int:
        """How many tiles the longer side of the smallest window around all of them has; 0 without any."""
        return int(np.ptp(list(self._tiles), axis=0).max()) + 1 if self._tiles else 0

    def extent(self) -> BEVGrid | None:
        """The smallest window around all tiles; None without any."""
        if not self._tiles:
            return None
        keys = np.array(list(self._tiles))
        return self.window(keys.min(axis=0) * self.tile_size, (keys.max(axis=0) + 1) * self.tile_size)

    def blocks(self, tiles: int) -> list[BEVGrid]:
        """Windows of `tiles` x `tiles` that do not overlap and hold everything, none of them empty."""
        size = self.tile_size
        corners = sorted({(i // tiles * tiles, j // tiles * tiles) for i, j in self._tiles})
        return [
            BEVGrid((i * size, (i + tiles) * size), (j * size, (j + tiles) * size), self.resolution) for i, j in corners
        ]

    def grown(self, window: BEVGrid) -> BEVGrid:
        """The window and a tile more on each side."""
        (x_min, x_max), (y_min, y_max), size = window.x_range, window.y_range, self.tile_size
        return BEVGrid((x_min - size, x_max + size), (y_min - size, y_max + size), self.resolution)

    def add(self, window: BEVGrid, evidence: np.ndarray, looks: np.ndarray, memory: float) -> None:
        """Adds to what is known.

        Args:
            window: whole tiles.
            evidence: (layers, Y, X) float32, at most `looks`.
            looks: (Y, X) float32, 0 where the window was not seen.
            memory: so many looks count in full; older ones fade as newer ones come.
        """
        rows_of_tiles, columns_of_tiles = (side // TILE_CELLS for side in window.shape)
        by_tile = looks.reshape(rows_of_tiles, TILE_CELLS, columns_of_tiles, TILE_CELLS)
        is_seen = by_tile.max(axis=(1, 3)).reshape(-1) > 0  # one call, and not one for each tile
        for key, rows, columns in itertools.compress(self._places(window), is_seen):
            tile = self._tiles.get(key)
            if tile is None:
                tile = self._tiles[key] = np.zeros((self._layers + 1, TILE_CELLS, TILE_CELLS), np.float32)
            tile[:-1] += evidence[:, rows, columns]
            tile[-1] += looks[rows, columns]
            if tile[-1].max() > memory:
                tile *= memory / np.maximum(tile[-1], memory)

    def read(self, window: BEVGrid) -> tuple[np.ndarray, np.ndarray]:
        """(layers, Y, X) evidence and (Y, X) looks, float32, of a window of whole tiles; 0 where nothing is known."""
        result = np.zeros((self._layers + 1, *window.shape), np.float32)
        for key, rows, columns in self._places(window):
            if key in self._tiles:
                result[:, rows, columns] = self._tiles[key]
        return result[:-1], result[-1]

    def forget_beyond(self, centre: np.ndarray, reach: float) -> None:
        """Drops the tiles whose middle is farther than `reach` metres from `centre` (2,)."""
        if self._tiles:
            keys = list(self._tiles)
            away = np.linalg.norm((np.array(keys) + 0.5) * self.tile_size - centre, axis=1)
            for key in itertools.compress(keys, away > reach):
                del self._tiles[key]

    def _places(self, window: BEVGrid) -> Iterator[tuple[tuple[int, int], slice, slice]]:
        """Key, rows and columns of each tile of a window."""
        first = [round(low / self.tile_size) for low in (window.x_range[0], window.y_range[0])]
        rows, columns = (side // TILE_CELLS for side in window.shape)
        for j, i in itertools.product(range(rows), range(columns)):
            yield (
                (first[0] + i, first[1] + j),
                slice(j * TILE_CELLS, (j + 1) * TILE_CELLS),
                slice(i * TILE_CELLS, (i + 1) * TILE_CELLS),
            )
