"""The bird's-eye-view grid: the one owner of metres <-> cells <-> normalised coordinates."""

import math
import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from hdmap_core.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

Points = TypeVar("Points", np.ndarray, "Tensor")

ROADS_REACH_M = 130.0
"""How far around the car roads of an SD map are known: enough for a grid of 240 x 60 m however it is turned."""

_WRITTEN = re.compile(r"(\d+(?:\.\d+)?)x(\d+(?:\.\d+)?)(?:@(\d+(?:\.\d+)?))?")


_MOST_CELLS = 100_000  # along one side


@dataclass(frozen=True)
class BEVGrid:
    """A rectangle of the ego frame (x forward, y left) cut into square cells.

    BEV tensors are (..., Y, X); cell (0, 0) touches (x_min, y_min): behind and to the right of the car.
    """

    x_range: tuple[float, float] = (-30.0, 30.0)
    y_range: tuple[float, float] = (-15.0, 15.0)
    resolution: float = 0.3

    def __post_init__(self) -> None:
        for name, (low, high) in (("x_range", self.x_range), ("y_range", self.y_range)):
            cells = (high - low) / self.resolution if self.resolution > 0 else 0
            if not cells <= _MOST_CELLS:
                raise ConfigError(f"BEV grid: {name} [{low}, {high}] m in cells of {self.resolution} m: too many cells")
            if cells < 1 or abs(cells - round(cells)) > 1e-6:
                raise ConfigError(
                    f"BEV grid: {name} [{low}, {high}] m is not a whole number of cells of {self.resolution} m; "
                    "change the range or the resolution"
                )

    @classmethod
    def parse(cls, text: str, resolution: float) -> "BEVGrid":
        """The grid of `60x30` or `120x60@0.3`: metres along x and y around the car, and the cell size in metres.

        Args:
            text: as a user writes it.
            resolution: the cell size where the text has none.

        Raises:
            ConfigError: if it is written otherwise, or the region is not a whole number of cells.
        """
        match = _WRITTEN.fullmatch(text)
        if match is None:
            raise ConfigError(f"a grid is written as metres along x and y, 60x30 or 120x60@0.3, not {text!r}")
        x, y, cell = (float(group or resolution) for group in match.groups())
        return cls((-x / 2, x / 2), (-y / 2, y / 2), cell)

    @cached_property
    def shape(self) -> tuple[int, int]:
        """(Y, X) in cells."""
        return (
            round((self.y_range[1] - self.y_range[0]) / self.resolution),
            round((self.x_range[1] - self.x_range[0]) / self.resolution),
        )

    @property
    def size(self) -> tuple[float, float]:
        """(x, y) extent in metres."""
        return self.x_range[1] - self.x_range[0], self.y_range[1] - self.y_range[0]

    @property
    def reach(self) -> float:
        """Metres from the ego origin to the farthest corner."""
        return math.hypot(*(max(-low, high) for low, high in (self.x_range, self.y_range)))

    def to_cells(self, points: Points) -> Points:
        """(..., 2) metres -> continuous (column, row); the centre of cell (row 0, column 0) is (0, 0)."""
        return (points - self._like(points, self._minimum)) / self.resolution - 0.5

    def to_metres(self, cells: Points) -> Points:
        """(..., 2) continuous (column, row) -> (x, y) metres."""
        return (cells + 0.5) * self.resolution + self._like(cells, self._minimum)

    def normalise(self, points: Points) -> Points:
        """(..., 2) metres -> [0, 1] over the ranges."""
        return (points - self._like(points, self._minimum)) / self._like(points, self.size)

    def denormalise(self, points: Points) -> Points:
        """(..., 2) in [0, 1] -> metres."""
        return points * self._like(points, self.size) + self._like(points, self._minimum)

    def cell_centres(self) -> "Tensor":
        """(Y, X, 2) float32: x, y of every cell's centre in metres."""
        import torch

        rows, columns = self.shape
        x = (torch.arange(columns) + 0.5) * self.resolution + self.x_range[0]
        y = (torch.arange(rows) + 0.5) * self.resolution + self.y_range[0]
        return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)

    @property
    def _minimum(self) -> tuple[float, float]:
        return self.x_range[0], self.y_range[0]

    @staticmethod
    def _like(points: Points, values: tuple[float, float]) -> Points:
        if isinstance(points, np.ndarray):
            return np.asarray(values, dtype=points.dtype)
        return points.new_tensor(values)
