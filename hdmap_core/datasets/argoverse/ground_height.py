"""The height of the ground around a log, as the raster beside its vector map has it."""

import json
from pathlib import Path

import numpy as np

from hdmap_core.errors import DatasetError


class GroundHeight:
    """Heights on a grid of the city: `<log>_ground_height_surface____<CITY>.npy` and `<log>___img_Sim2_city.json`.

    Args:
        folder: the log's `map/`.

    Raises:
        DatasetError: if one of the two is missing or damaged.
    """

    def __init__(self, folder: Path) -> None:
        grids = sorted(folder.glob("*_ground_height_surface____*.npy"))
        placed = sorted(folder.glob("*___img_Sim2_city.json"))
        if not grids or not placed:
            raise DatasetError(
                f"{folder} has no ground height raster with its img_Sim2_city.json; unpack the map again"
            )
        try:
            self.heights = np.load(grids[0], allow_pickle=False)
            place = json.loads(placed[0].read_text(encoding="utf-8"))
            self._rotation = np.array(place["R"], dtype=np.float64).reshape(2, 2)
            self._shift, self._scale = np.array(place["t"], dtype=np.float64).reshape(2), float(place["s"])
            if self.heights.ndim != 2 or self.heights.dtype.kind != "f" or not np.isfinite(self._scale):
                raise ValueError("not a raster of heights")
        except (OSError, ValueError, EOFError, KeyError, TypeError, RecursionError) as error:
            raise DatasetError(f"{grids[0]}: the ground height raster is damaged ({error}); unpack it again") from None

    def at(self, xy: np.ndarray) -> np.ndarray:
        """Heights (...) float64 in metres at points (..., 2) of the city, of the cell that each is in; NaN outside."""
        cells = np.floor((np.asarray(xy) @ self._rotation.T + self._shift) * self._scale)
        rows, columns = self.heights.shape
        x, y = cells[..., 0], cells[..., 1]
        inside = (x >= 0) & (x < columns) & (y >= 0) & (y < rows)
        x, y = (np.where(inside, axis, 0).astype(np.int64) for axis in (x, y))
        return np.where(inside, self.heights[y, x].astype(np.float64), np.nan)
