"""Whether what a network gave are numbers: a NaN in a raster would come out as a map without lines."""

import numpy as np
import torch
from torch import Tensor

from hdmap_core.errors import ModelOutputError
from hdmap_core.model_io import ModelOutput


def odd_values(output: ModelOutput) -> Tensor:
    """(3,) int32 where the output is: rasters that are no numbers, elements that are none, elements."""
    dense, masks = output.dense, output.semantic
    rasters = (
        [] if dense is None else [~torch.isfinite(r).all() for r in (dense.semantic, dense.embedding, dense.direction)]
    )
    if masks is not None:
        rasters.append(masks.amin().isnan())  # the least is NaN if any is; infinite: it is very sure
    odd = None
    if output.vectors is not None:
        logits, points = output.vectors.logits[-1], output.vectors.points[-1]
        odd = logits.isnan().any(dim=-1) | ~points.isfinite().flatten(2).all(dim=-1)
    place = next(tensor.device for tensor in (*rasters, odd) if tensor is not None)
    none = torch.zeros((), dtype=torch.int32, device=place)
    counts = (none, none) if odd is None else (odd.sum().int(), torch.ones_like(odd).sum().int())
    return torch.stack([torch.stack(rasters).sum().int() if rasters else none, *counts])


def usable(found: np.ndarray) -> int:
    """How many elements are no numbers, of what `odd_values` found.

    Raises:
        ModelOutputError: if all of them are, or a part of a raster: nothing can be made of that.
    """
    rasters, odd, elements = map(int, found)
    if rasters:
        raise ModelOutputError("the network's raster has values that are no numbers (NaN or infinite)")
    if odd and odd == elements:
        raise ModelOutputError(f"all {odd} elements that the network gave are no numbers (NaN or infinite)")
    return odd
