"""Whether what a network gave are numbers: a NaN in a raster would come out as a map without lines."""

import torch
from torch import Tensor

from hdmap_core.errors import ModelOutputError
from hdmap_core.model_io import ModelOutput


def count_not_finite(output: ModelOutput) -> int:
    """How many elements of the vector head, over the batch, are no numbers; `decode_vectors` drops them.

    Raises:
        ModelOutputError: if all of them are, or a part of a raster: nothing can be made of that.
    """
    dense = output.dense
    rasters = () if dense is None else (dense.semantic, dense.embedding, dense.direction)
    odd_mask = output.semantic is not None and bool(output.semantic.isnan().any())  # infinite: it is very sure
    if odd_mask or not all(map(_all_finite, rasters)):
        raise ModelOutputError("the network's raster has values that are no numbers (NaN or infinite)")
    if output.vectors is None:
        return 0
    logits, points = output.vectors.logits[-1], output.vectors.points[-1]
    if _all_finite(logits) and _all_finite(points):
        return 0
    odd = logits.isnan().any(dim=-1) | ~points.isfinite().flatten(2).all(dim=-1)
    count = int(odd.sum())
    if count == odd.numel():
        raise ModelOutputError(f"all {count} elements that the network gave are no numbers (NaN or infinite)")
    return count


def _all_finite(values: Tensor) -> bool:
    return bool(torch.isfinite(values).all())
