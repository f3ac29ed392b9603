"""Blocks of a map hidden from the model that is to complete it: P-MapNet's pre-training of the HD-map refiner."""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
import torch
from pydantic import Field, PositiveInt, field_validator
from torch import Tensor
from torch.nn import functional as F

from hdmap_core.config import Config
from hdmap_core.elements import MapClass

Share = Annotated[float, Field(ge=0, le=1)]


class MaskingConfig(Config):
    """Defaults are P-MapNet's at 60 x 30 and 240 x 60 m; at 120 x 60 m: `ratio: [0, 0.7]`, `boundary_ratio: [0, 0.5]`.

    Attributes:
        blocks: the raster is cut into n x n blocks, n one of these, drawn for each sample.
        ratio: least and greatest share of hidden blocks, drawn for each sample; all classes but boundaries have the
            same blocks hidden.
        boundary_ratio: the same of boundaries, whose hidden blocks are drawn by themselves.
    """

    blocks: tuple[PositiveInt, ...] = Field(default=(25, 20, 10, 8), min_length=1)
    ratio: tuple[Share, Share] = (0.5, 0.5)
    boundary_ratio: tuple[Share, Share] = (0.5, 0.5)

    @field_validator("ratio", "boundary_ratio")
    @classmethod
    def _ordered(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[0] > value[1]:
            raise ValueError("the least share comes first, then the greatest")
        return value


def draw_hidden(
    config: MaskingConfig, classes: Sequence[MapClass], shape: tuple[int, int], random: np.random.Generator
) -> np.ndarray:
    """(K, Y, X) bool, True where a class is hidden, of one sample.

    The same random numbers are drawn whatever the classes are.

    Args:
        config: blocks and shares.
        classes: K, in the order of the raster's.
        shape: (Y, X) in cells; blocks of a shape that n does not divide differ by a cell.
        random: where chance comes from.
    """
    num = int(random.choice(config.blocks))
    others = _blocks(num, config.ratio, shape, random)
    boundaries = _blocks(num, config.boundary_ratio, shape, random)
    return np.stack([boundaries if label is MapClass.BOUNDARY else others for label in classes])


def masked_one_hot(semantic: Tensor, hidden: Tensor, num_classes: int) -> Tensor:
    """(B, 1 + K, Y, X) float32: a map as the refiner's input; what is hidden is background, as published.

    Args:
        semantic: (B, Y, X) uint8: 0 background, 1 + k class k.
        hidden: (B, K, Y, X) bool.
        num_classes: K.
    """
    one_hot = F.one_hot(semantic.long(), 1 + num_classes).permute(0, 3, 1, 2).bool()
    visible = one_hot[:, 1:] & ~hidden
    return torch.cat([~visible.any(dim=1, keepdim=True), visible], dim=1).float()


def _blocks(num: int, ratio: tuple[float, float], shape: tuple[int, int], random: np.random.Generator) -> np.ndarray:
    """(Y, X) bool, True in a random share of `num` x `num` blocks."""
    count = round(num * num * random.uniform(*ratio))
    hidden = (random.permutation(num * num) < count).reshape(num, num)
    row, column = (np.arange(cells) * num // cells for cells in shape)
    return hidden[row][:, column]
