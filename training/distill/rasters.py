"""Rasters of either kind of head, dense or masks, and where the lines of the ground truth are."""

import torch
from torch import Tensor
from torch.nn import functional as F

from hdmap_core.model_io import ModelOutput
from training.data.targets import Targets


def raster_logits(output: ModelOutput) -> Tensor:
    """(B, C, Y, X): of the dense heads (behind the refiner, if there is one) with the background first, else masks."""
    logits = output.semantic if output.dense is None else output.dense.semantic
    assert logits is not None  # `load_sources` has seen to it
    return logits


def probabilities(output: ModelOutput) -> Tensor:
    """(B, C, Y, X) in [0, 1]: a sigmoid of every channel, of the dense heads' too, as their usual loss has it."""
    return raster_logits(output).sigmoid()


def foreground(output: ModelOutput) -> Tensor:
    """(B, 1, Y, X) in [0, 1]: how sure a model is that a cell is on any line."""
    logits = raster_logits(output)
    if output.dense is None:
        return logits.sigmoid().amax(dim=1, keepdim=True)
    return 1 - logits.softmax(dim=1)[:, :1]


def has_rasters(output: ModelOutput) -> bool:
    """Whether a model makes dense rasters or masks."""
    return output.dense is not None or output.semantic is not None


def lines(targets: Targets, like: Tensor) -> Tensor:
    """(B, 1, y, x) float32, 1 in cells that a line of the ground truth touches, at the resolution of `like`."""
    if targets.dense is not None:
        mask = (targets.dense.semantic > 0)[:, None].float()
    else:
        assert targets.masks is not None  # `load_sources` has seen to it
        mask = targets.masks.amax(dim=1, keepdim=True).float()
    size = like.shape[-2:]
    if mask.shape[-2] >= size[0] and mask.shape[-1] >= size[1]:
        return F.adaptive_max_pool2d(mask, size)
    return F.interpolate(mask, size=size, mode="nearest")


def blurred(mask: Tensor, sigma: float) -> Tensor:
    """A mask (B, 1, y, x) of 0 and 1 with Gaussian flanks of `sigma` cells: 1 stays 1, as around boxes in detection."""
    radius = max(1, round(3 * sigma))
    offset = torch.arange(-radius, radius + 1, device=mask.device)
    fall = torch.exp(-0.5 * (offset / sigma).square())
    for kernel in ((len(fall), 1), (1, len(fall))):  # the greatest Gaussian of any marked cell, axis by axis
        around = F.unfold(mask, kernel, padding=(kernel[0] // 2, kernel[1] // 2))
        mask = (around * fall[:, None]).amax(dim=1).view_as(mask)
    return mask
