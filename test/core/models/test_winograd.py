"""Convolutions by transformed tiles against PyTorch's."""

import pytest
import torch
from torch.nn import functional as F

from hdmap_core.models.layers import winograd as module
from hdmap_core.models.layers.winograd import conv3x3, winograd


@pytest.mark.parametrize("size", [(1, 1), (4, 8), (5, 7), (18, 11), (3, 30)])
@pytest.mark.parametrize("channels", [(1, 1), (3, 5)])
@pytest.mark.parametrize("at_once", [1, 3_000_000], ids=["rows", "whole"])
def test_it_is_the_convolution(
    size: tuple[int, int], channels: tuple[int, int], at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_FLOATS_AT_ONCE", at_once)
    generator = torch.Generator().manual_seed(0)
    incoming, outgoing = channels
    features = torch.randn(2, incoming, *size, generator=generator).double()
    weight, bias = torch.randn(outgoing, incoming, 3, 3, generator=generator).double(), torch.randn(outgoing).double()
    found = winograd(features, weight, bias)
    torch.testing.assert_close(found, F.conv2d(features, weight, bias, padding=1), rtol=1e-10, atol=1e-10)


def test_in_float32_it_is_right_to_rounding() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(1, 256, 64, 64, generator=generator).relu()
    weight, bias = torch.randn(256, 256, 3, 3, generator=generator) / 48, torch.randn(256, generator=generator)
    with torch.inference_mode():
        exact = F.conv2d(features.double(), weight.double(), bias.double(), padding=1)
        assert module._pays(features, weight)
        found = conv3x3(features, weight, bias)
    assert 1e-8 < (found - exact).abs().max() / exact.abs().max() < 2e-5


def test_it_is_taken_where_it_pays() -> None:
    features, weight = torch.zeros(1, 256, 64, 64), torch.zeros(256, 256, 3, 3)
    assert not module._pays(features, weight), "gradients may be asked for"
    with torch.no_grad():
        assert module._pays(features, weight)
        assert not module._pays(features[..., :63], weight) and not module._pays(features[:, :64], weight[:, :64])
        assert not module._pays(features.double(), weight.double()) and not module._pays(features.to("meta"), weight)
        with torch.autocast("cpu", torch.bfloat16):
            assert not module._pays(features, weight)
