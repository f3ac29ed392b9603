"""Enlargement after enlargement and then a strided convolution: one linear step, computed as one.

A transposed convolution, a 1x1 convolution, a bilinear doubling, a batch norm in evaluation and a convolution of stride
2 follow one another without any activation. Away from the border they are one transposed convolution, whose kernel has
the few channels that leave, not the many in between. A frame of two pixels, where zeros and repeated pixels come in, is
computed step by step. Equal to rounding, at a third of the multiplications and without the large maps in between.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hdmap_core.models.layers.folded_norm import scale_and_shift
from hdmap_core.models.layers.on_cpu import only_inferred_on_cpu

FRAME = 2
Span = tuple[int, int]


@dataclass(frozen=True)
class EnlargedStem:
    """The steps in their order, by their modules.

    Attributes:
        double: transposed convolution of kernel 4, stride 2 and padding 1, without bias.
        mix: 1x1 convolution without bias; behind it bilinear doubling, cut to `size`.
        norm: of what it makes.
        stem: convolution of kernel 7, stride 2 and padding 3, without bias.
        size: (Y, X) between the two.
    """

    double: nn.ConvTranspose2d
    mix: nn.Conv2d
    norm: nn.BatchNorm2d
    stem: nn.Conv2d
    size: tuple[int, int]

    def __call__(self, features: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, O, Y / 2, X / 2), rounded up."""
        height, width = (-(-each // 2) for each in self.size)
        if not self._pays(features):
            return self._step_by_step(features)
        result = self._inside(features)[..., :height, :width].contiguous()
        top, left = min(FRAME, height), min(FRAME, width)
        bottom, right = max(top, height - FRAME), max(left, width - FRAME)
        above, below, middle = (0, top), (bottom, height), (top, bottom)
        whole, before, behind = (0, width), (0, left), (right, width)
        for rows, columns in ((above, whole), (below, whole), (middle, before), (middle, behind)):
            if rows[0] < rows[1] and columns[0] < columns[1]:
                result[..., slice(*rows), slice(*columns)] = self._part(features, rows, columns)
        return result

    def _pays(self, features: Tensor) -> bool:
        """Where a CPU computes the result alone, and making the kernel costs less than it saves."""
        if self.norm.training or not only_inferred_on_cpu(features):
            return False
        pixels = features.shape[0] * features.shape[2] * features.shape[3]
        (incoming, between), outgoing = self.double.weight.shape[:2], self.stem.weight.shape[0]
        making = between * outgoing * (16 * 25 * incoming + 49 * between)
        here = 64 * incoming * outgoing * pixels + making
        return 2 * here < 4 * pixels * between * (4 * incoming + between + 49 * outgoing)

    def _step_by_step(self, features: Tensor) -> Tensor:
        large = F.interpolate(self.mix(self.double(features)), scale_factor=2.0, mode="bilinear")
        return self.stem(self.norm(large[..., : self.size[0], : self.size[1]]))

    def _inside(self, features: Tensor) -> Tensor:
        """All of it, right but for the frame."""
        scale, shift = scale_and_shift(self.norm)
        stem = self.stem.weight
        taps = _halving_of_doubled(stem)  # 5 of the small map's pixels in place of 7 of the large one's
        mixed = torch.einsum("omyx,mn->onyx", taps * scale[:, None, None], self.mix.weight[:, :, 0, 0])
        incoming, between = self.double.weight.shape[:2]
        parts = self.double.weight.permute(0, 2, 3, 1).reshape(-1, between) @ mixed.flip(2, 3).transpose(0, 1).flatten(
            1
        )
        kernel = F.fold(parts.view(incoming, 16, -1).transpose(1, 2), 8, 5)
        bias = torch.einsum("omyx,m->o", stem, shift)
        return F.conv_transpose2d(features, kernel, bias, stride=2, padding=3)

    def _part(self, features: Tensor, rows: Span, columns: Span) -> Tensor:
        """These rows and columns, step by step."""
        down, across = (
            _Reach.of(span, size, few)
            for span, size, few in zip((rows, columns), self.size, features.shape[-2:], strict=True)
        )
        small = F.conv_transpose2d(features[..., down.small, across.small], self.double.weight, stride=2)
        mixed = self.mix(small[..., down.doubled, across.doubled])
        large = F.interpolate(mixed, scale_factor=2.0, mode="bilinear")[..., down.large, across.large]
        return F.conv2d(F.pad(self.norm(large), (*across.zeros, *down.zeros)), self.stem.weight, stride=2)


@dataclass(frozen=True)
class _Reach:
    """What some pixels of the result look at along one axis.

    Attributes:
        small: pixels of the features.
        doubled: of these, transposed without padding, the ones that are looked at.
        large: of these, doubled bilinearly.
        zeros: how many are beside it at either end.
    """

    small: slice
    doubled: slice
    large: slice
    zeros: Span

    @classmethod
    def of(cls, span: Span, size: int, few: int) -> "_Reach":
        """Of the result's pixels `span`, `size` pixels between the steps, and `few` features."""
        first, last = 2 * span[0] - 3, 2 * (span[1] - 1) + 3
        zeros = max(0, -first), max(0, last + 1 - size)
        first, last = max(first, 0), min(last, size - 1)
        low, high = max((first - 1) // 2, 0), min((last + 1) // 2, 2 * few - 1)  # neighbours that bilinear reads mix
        begin, end = max((low - 1) // 2, 0), min((high + 1) // 2, few - 1)
        doubled = slice(low + 1 - 2 * begin, high + 2 - 2 * begin)
        return cls(slice(begin, end + 1), doubled, slice(first - 2 * low, last + 1 - 2 * low), zeros)


def _halving_of_doubled(weight: Tensor) -> Tensor:
    """(O, C, 7, 7) of stride 2 on a doubled map -> (O, C, 5, 5) of stride 1 on the map itself."""
    unit = torch.eye(7, dtype=weight.dtype)
    doubled = F.interpolate(unit[None], scale_factor=2.0, mode="linear")[0]  # pixel 2 Y + t of Y = 3
    reads = doubled[1:6, 3:10]  # (5, 7)
    return reads @ weight @ reads.t()
