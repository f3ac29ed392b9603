"""The size of a raster as a tensor, made on the device itself."""

import torch
from torch import Tensor


def size_xy(width: int, height: int, like: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """(2,) width and height on the device of `like`.

    Filled in there: a tensor made of Python numbers is made on the host and copied, which makes every forward pass wait
    for the device and keeps it out of CUDA graphs.
    """
    return torch.stack([like.new_full((), width, dtype=dtype), like.new_full((), height, dtype=dtype)])
