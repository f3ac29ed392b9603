"""The neck: one feature map out of the maps that a trunk was asked for.

MapFM's feature aggregation ablation, which is a single-level FPN as in MapQR and MapTR (1x1 lateral and 3x3
convolution, both with bias, no norm, no activation), and the neck of HDMapNet (Li et al. 2022).
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hdmap_core.models.layers.conv import conv_norm_act

Aggregation = Literal["last", "concat", "cnn", "double_conv"]


class Neck(nn.Module):
    """Maps of a trunk, shallow to deep -> one map at the size of the shallowest (finest).

    - last: the only map, 1x1 then 3x3.
    - concat: all maps on the channel axis (bilinear where sizes differ), then one 1x1 and one 3x3.
    - cnn: the top-down path of an FPN (Lin et al. 2017): every map has its 1x1, deeper ones are added to finer ones
      (nearest), 3x3 at the end. A ViT's maps are of one size, so there it is the sum of the projected maps.
    - double_conv: all maps on the channel axis (bilinear, corners aligned), then two 3x3 convolutions without bias,
      each with batch norm and ReLU: HDMapNet's neck.

    Which of the names in MapFM's paper means which operation is inferred from its code (its settings are not
    published).
    """

    def __init__(self, kind: Aggregation, *, in_channels: Sequence[int], out_channels: int) -> None:
        super().__init__()
        if kind == "last" and len(in_channels) != 1:
            raise ValueError(f"aggregation 'last' takes one map, got {len(in_channels)}")
        self.kind = kind
        self.lateral = nn.ModuleList()
        if kind == "double_conv":
            self.smooth: nn.Module = nn.Sequential(
                conv_norm_act(sum(in_channels), out_channels), conv_norm_act(out_channels, out_channels)
            )
            return
        widths = in_channels if kind == "cnn" else [sum(in_channels)]
        self.lateral.extend(nn.Conv2d(width, out_channels, 1) for width in widths)
        self.smooth = smooth = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        for conv in (*self.lateral, smooth):
            nn.init.xavier_uniform_(conv.weight)
            nn.init.zeros_(conv.bias)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """[(B, C_i, h_i, w_i)], finest first -> (B, C, h_0, w_0)."""
        size = maps[0].shape[-2:]
        if self.kind == "double_conv":
            return self.smooth(torch.cat([_resized(m, size, "bilinear", align_corners=True) for m in maps], dim=1))
        if self.kind != "cnn":
            return self.smooth(self.lateral[0](torch.cat([_resized(m, size, "bilinear") for m in maps], dim=1)))
        top = self.lateral[-1](maps[-1])
        for features, lateral in zip(maps[-2::-1], self.lateral[-2::-1], strict=True):
            top = lateral(features) + _resized(top, features.shape[-2:], "nearest")
        return self.smooth(top)


def _resized(features: Tensor, size: torch.Size, mode: str, align_corners: bool | None = None) -> Tensor:
    if features.shape[-2:] == size:
        return features
    return F.interpolate(features, size=size, mode=mode, align_corners=align_corners)
