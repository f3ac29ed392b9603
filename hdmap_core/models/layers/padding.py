"""Rasters whose sides a stride divides."""

from torch import Tensor
from torch.nn import functional as F


def padded_to_multiple(raster: Tensor, stride: int, value: float = 0.0) -> Tensor:
    """(..., Y, X) -> at the far end of each axis up to the next multiple of `stride`."""
    rows, columns = raster.shape[-2:]
    return F.pad(raster, (0, -columns % stride, 0, -rows % stride), value=value)
