"""What depends on the calibration alone, kept for as long as that stays the same."""

from collections.abc import Callable
from typing import Generic, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")
Rig = tuple[Tensor, tuple[int, int], Tensor | None]
"""`projection`, (H, W) of the images, `camera_mask`: see `pillars_in_reach`."""


class LastRig(Generic[T]):
    """Remembers what was made of the last rig: of one, so that memory stays bounded. A copy of it remembers nothing."""

    def __init__(self) -> None:
        self._last: tuple[Rig, T] | None = None

    def __call__(self, rig: Rig, make: Callable[[], T]) -> T:
        """What `make` makes of this rig, or has made of it last time.

        Compared are values, since whoever owns the tensors may write over them; not for a recorded graph, nor for
        tensors on a GPU, which would have to be waited for.
        """
        last = self._last
        if last is None or not _equal(last[0], rig):
            projection, image_size, mask = rig
            last = (projection.clone(), image_size, None if mask is None else mask.clone()), make()
            self._last = last
        return last[1]

    def __reduce__(self) -> tuple[type["LastRig[T]"], tuple[()]]:
        return LastRig, ()


def _equal(one: Rig, other: Rig) -> bool:
    if one[1] != other[1] or not _same(one[0], other[0]):
        return False
    if one[2] is None or other[2] is None:
        return one[2] is other[2]
    return _same(one[2], other[2])


def _same(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one, other)
