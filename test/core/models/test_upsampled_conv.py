"""The convolution at the small size against the two steps that it replaces."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hdmap_core.models.layers import upsampled_conv as module
from hdmap_core.models.layers.conv import conv_norm_act
from hdmap_core.models.layers.upsampled_conv import upsampled_conv


@pytest.mark.parametrize(
    ("small", "size"),
    [((5, 7), (20, 28)), ((4, 6), (9, 17)), ((1, 3), (5, 12)), ((6, 6), (6, 6)), ((40, 9), (170, 65))],
)
@pytest.mark.parametrize("others", [0, 3])
def test_it_is_that_of_the_enlarged_map(small: tuple[int, int], size: tuple[int, int], others: int) -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 64, *small, generator=generator)
    beside = torch.randn(2, others, *size, generator=generator) if others else None
    conv = conv_norm_act(64 + others, 5).eval()
    for values in (conv[1].weight, conv[1].bias, conv[1].running_mean):
        nn.init.normal_(values)
    enlarged = F.interpolate(features, size=size, mode="bilinear", align_corners=True)
    with torch.no_grad():
        expected = conv(enlarged if beside is None else torch.cat([beside, enlarged], dim=1))
        got = upsampled_conv(conv, features, size, beside=beside)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_the_short_way_is_taken_where_it_is_shorter(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[tuple[int, ...]] = []
    short = module._add_from_small

    def record(weight: Tensor, features: Tensor, *rest: object) -> None:
        taken.append(tuple(features.shape))
        short(weight, features, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "_add_from_small", record)
    conv, features = conv_norm_act(64, 5).eval(), torch.randn(1, 64, 5, 7)
    upsampled_conv(conv, features, (20, 28))  # gradients may be asked for
    with torch.no_grad():
        upsampled_conv(conv, features, (5, 7))
        assert taken == []
        upsampled_conv(conv, features, (20, 28))
    assert taken == [(64, 5, 7)]
