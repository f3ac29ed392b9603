"""Batch norms that a CPU does not run: in evaluation they go into the weights of the convolution before.

Nothing is stored: weights are folded anew in every pass, which costs a thousandth of what it saves, so parameters,
their names and training stay as they are.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hdmap_core.models.layers.on_cpu import eager_on_cpu
from hdmap_core.models.layers.winograd import conv3x3


def is_folded(norm: nn.Module, features: Tensor) -> bool:
    """Whether the convolution before a norm does its work; the same for its inputs and its outputs."""
    return not norm.training and not torch.is_grad_enabled() and eager_on_cpu(features)


def scale_and_shift(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """What a norm in evaluation multiplies each channel by, and then adds."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return scale, norm.bias - norm.running_mean * scale


def folded(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution without bias that does the work of the norm behind it."""
    scale, shift = scale_and_shift(norm)
    return conv.weight * scale[:, None, None, None], shift


class ConvNormAct(nn.Sequential):
    """A convolution without bias, a batch norm, an activation."""

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C', h', w')."""
        conv, norm, activation = cast(tuple[nn.Conv2d, nn.BatchNorm2d, nn.Module], tuple(self))
        if not is_folded(norm, features):
            return super().forward(features)
        if (conv.kernel_size, conv.stride, conv.padding) == ((3, 3), (1, 1), (1, 1)):
            return activation(conv3x3(features, *folded(conv, norm)))
        return activation(F.conv2d(features, *folded(conv, norm), conv.stride, conv.padding))


class ConvBeforeNorm(nn.Conv2d):
    """A convolution that does the work of the norm behind it, where that one leaves it to do so."""

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C', h', w')."""
        norm = self.__dict__["block"]._modules[self.__dict__["norm_name"]]
        if not isinstance(norm, NormAfterConv) or not is_folded(norm, features):
            return super().forward(features)
        return F.conv2d(features, *folded(self, norm), self.stride, self.padding, self.dilation, self.groups)


class NormAfterConv(nn.BatchNorm2d):
    """The norm behind it."""

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) -> the same shape."""
        return features if is_folded(self, features) else super().forward(features)


def fold_norms(trunk: nn.Module) -> None:
    """Prepares every pair of convolution and norm of a ResNet by timm; other networks stay as they are."""
    from timm.models.resnet import BasicBlock, Bottleneck, ResNet

    if not isinstance(trunk, ResNet):
        return
    _pair(trunk, "conv1", "bn1")
    for block in list(trunk.modules()):
        if isinstance(block, BasicBlock | Bottleneck):
            fold_block(block)


def fold_block(block: nn.Module) -> None:
    """Prepares the pairs of a residual block, of timm or torchvision."""
    for number in (1, 2, 3):
        _pair(block, f"conv{number}", f"bn{number}")
    if isinstance(block.downsample, nn.Module):
        _pair(block.downsample, "0", "1")


def _pair(block: nn.Module, conv_name: str, norm_name: str) -> None:
    """Gives the two their classes, if they are a plain convolution without bias and a plain norm."""
    conv, norm = block._modules.get(conv_name), block._modules.get(norm_name)
    if type(conv) is nn.Conv2d and type(norm) is nn.BatchNorm2d and conv.bias is None and norm.affine:
        conv.__class__, norm.__class__ = ConvBeforeNorm, NormAfterConv
        conv.__dict__.update(block=block, norm_name=norm_name)  # not a child: it is the parent
