"""The height of a town's ground: smooth land and roads, and what stands a kerb higher.

Two smooth sheets lie one over the other: `base`, on which the roads are, and `base + lift`, on which walkways, islands
and land are. `raised` says where the upper one counts; between the two the kerb's face is upright.

Metres in the town frame. Beyond the town's borders the heights of the border go on.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import cv2
import numpy as np

_ROW = 4096
"""Points per row of a remap; OpenCV takes no more than 32767."""


@dataclass(frozen=True)
class Relief:
    """Heights over a town of `size` (width, height). `base` and `lift` (R, C) float32 are spanned over it, corner node
    on corner; `raised` (r, c) uint8 is laid over it like a texture: 255 = stands on the upper sheet, 0 = road.
    """

    size: tuple[float, float]
    base: np.ndarray
    lift: np.ndarray
    raised: np.ndarray

    @property
    def is_flat(self) -> bool:
        """No height anywhere: the plane z = 0."""
        return self.base.size == 1

    def height(self, xy: np.ndarray) -> np.ndarray:
        """Height of the ground at points (..., 2), kerbs included: (...) float64."""
        if self.is_flat:
            return np.zeros(np.shape(xy)[:-1])
        return self.smooth(xy) + np.where(self.is_raised(xy), _bilinear(self.lift, self._nodes(xy)), 0.0)

    def smooth(self, xy: np.ndarray) -> np.ndarray:
        """Height of the sheet that the roads lie on, at points (..., 2): (...) float64."""
        if self.is_flat:
            return np.zeros(np.shape(xy)[:-1])
        return _bilinear(self.base, self._nodes(xy))

    def is_raised(self, xy: np.ndarray) -> np.ndarray:
        """Whether points (..., 2) are on what stands higher than the road: (...) bool."""
        if self.is_flat:
            return np.zeros(np.shape(xy)[:-1], dtype=bool)
        per_m = np.array(self.raised.shape[::-1]) / self.size
        return _bilinear(self.raised, np.asarray(xy) * per_m - 0.5) > 127.5

    def slope(self, xy: np.ndarray, reach: float = 0.5) -> np.ndarray:
        """Rise per metre to the east and to the north at points (..., 2), over `reach` metres either way; without
        kerbs: (..., 2).
        """
        xy = np.asarray(xy, dtype=np.float64)
        steps = reach * np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
        east, west, north, south = self.smooth(xy + steps.reshape(4, *(1,) * (xy.ndim - 1), 2))
        return np.stack([east - west, north - south], axis=-1) / (2.0 * reach)

    def sheets(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`base` and `base + lift` at very many points at once, to within a millimetre or two: float32 like x."""
        (rows, columns), (width, height) = self.base.shape, self.size
        at = np.empty((-(-x.size // _ROW) * _ROW, 2), np.float32)
        at[: x.size, 0], at[x.size :, 0] = x.ravel() * ((columns - 1) / width), 0.0
        at[: x.size, 1], at[x.size :, 1] = y.ravel() * ((rows - 1) / height), 0.0
        found = cv2.remap(
            self._both,
            at.reshape(-1, _ROW, 2),
            None,  # type: ignore[call-overload]
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        ).reshape(-1, 2)[: x.size]
        return found[:, 0].reshape(x.shape), found[:, 1].reshape(x.shape)

    @cached_property
    def _both(self) -> np.ndarray:
        return np.dstack([self.base, self.base + self.lift])

    def mirrored(self) -> "Relief":
        """As seen in a mirror that stands north-south in the middle."""
        # Turned in memory too: OpenCV copies views at every call.
        base, lift, raised = (np.ascontiguousarray(grid[:, ::-1]) for grid in (self.base, self.lift, self.raised))
        return replace(self, base=base, lift=lift, raised=raised)

    def _nodes(self, xy: np.ndarray) -> np.ndarray:
        """Town coordinates (..., 2) as (column, row) of `base`."""
        return np.asarray(xy) * ((np.array(self.base.shape[::-1]) - 1) / self.size)


def _bilinear(grid: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Values of `grid` (R, C) at (..., 2) columns and rows, held at the borders."""
    last = np.array(grid.shape[::-1]) - 1
    at = np.minimum(np.maximum(at, 0.0), last)
    low = np.minimum(at.astype(int), np.maximum(last - 1, 0))
    rest = at - low
    fx, fy, c, r = rest[..., 0], rest[..., 1], low[..., 0], low[..., 1]
    # The sum is taken in this order so that single and many points give the same bits.
    south = grid[r, c] * (1.0 - fx) + grid[r, np.minimum(c + 1, last[0])] * fx
    north = (
        grid[np.minimum(r + 1, last[1]), c] * (1.0 - fx)
        + grid[np.minimum(r + 1, last[1]), np.minimum(c + 1, last[0])] * fx
    )
    return np.asarray(south * (1.0 - fy) + north * fy)


FLAT = Relief((1.0, 1.0), np.zeros((1, 1), np.float32), np.zeros((1, 1), np.float32), np.zeros((1, 1), np.uint8))
"""The first edition's ground."""
