"""The neck against the sums written out."""

import pytest
import torch
from torch.nn import functional as F

from hdmap_core.models.backbones.aggregation import Neck


def maps() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, c, *s, generator=generator) for c, s in [(3, (7, 10)), (4, (4, 5)), (5, (2, 3))]]


def test_last_is_two_convolutions() -> None:
    neck = Neck("last", in_channels=[5], out_channels=6)
    expected = neck.smooth(neck.lateral[0](maps()[2]))
    assert torch.equal(neck(maps()[2:]), expected)
    assert [tuple(p.shape) for p in neck.parameters()] == [(6, 5, 1, 1), (6,), (6, 6, 3, 3), (6,)]


def test_concat_brings_all_to_the_finest_size() -> None:
    neck = Neck("concat", in_channels=[3, 4, 5], out_channels=6)
    resized = [F.interpolate(m, size=(7, 10), mode="bilinear") for m in maps()]
    torch.testing.assert_close(neck(maps()), neck.smooth(neck.lateral[0](torch.cat(resized, dim=1))))


def test_cnn_is_a_top_down_path() -> None:
    neck = Neck("cnn", in_channels=[3, 4, 5], out_channels=6)
    fine, middle, coarse = (lateral(m) for lateral, m in zip(neck.lateral, maps(), strict=True))
    middle = middle + F.interpolate(coarse, size=(4, 5))
    torch.testing.assert_close(neck(maps()), neck.smooth(fine + F.interpolate(middle, size=(7, 10))))


def test_cnn_of_equal_sizes_is_the_sum_of_projections() -> None:
    neck = Neck("cnn", in_channels=[3, 3], out_channels=6)
    first, second = maps()[0], maps()[0].flip(-1)
    expected = neck.smooth(neck.lateral[0](first) + neck.lateral[1](second))
    torch.testing.assert_close(neck([first, second]), expected)


def test_double_conv_is_hdmapnets_neck() -> None:
    neck = Neck("double_conv", in_channels=[3, 4, 5], out_channels=6)
    shapes = [tuple(p.shape) for p in neck.parameters()]
    assert shapes == [(6, 12, 3, 3), (6,), (6,), (6, 6, 3, 3), (6,), (6,)]
    resized = [maps()[0]] + [F.interpolate(m, size=(7, 10), mode="bilinear", align_corners=True) for m in maps()[1:]]
    expected = torch.cat(resized, dim=1)
    for weight in (p for p in neck.parameters() if p.ndim == 4):
        expected = F.batch_norm(F.conv2d(expected, weight, padding=1), None, None, training=True).relu()
    torch.testing.assert_close(neck(maps()), expected)


@pytest.mark.parametrize("kind", ["concat", "cnn", "double_conv"])
def test_inputs_are_left_as_they_were(kind: str) -> None:
    given = maps()
    Neck(kind, in_channels=[3, 4, 5], out_channels=6)(given)  # type: ignore[arg-type]
    assert all(torch.equal(a, b) for a, b in zip(given, maps(), strict=True))


def test_last_takes_one_map() -> None:
    with pytest.raises(ValueError, match="takes one map"):
        Neck("last", in_channels=[3, 4], out_channels=6)
