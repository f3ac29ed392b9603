"""Enlargements and a strided convolution as one step: the same numbers as one after the other."""

import pytest
import torch
from torch import nn

from hdmap_core.models.layers.enlarged_stem import EnlargedStem


def build(size: tuple[int, int]) -> EnlargedStem:
    torch.manual_seed(0)
    double = nn.ConvTranspose2d(6, 7, 4, 2, 1, bias=False)
    mix = nn.Conv2d(7, 8, 1, bias=False)
    norm = nn.BatchNorm2d(8).eval()
    for values in (norm.weight, norm.bias, norm.running_mean):
        nn.init.normal_(values)
    nn.init.uniform_(norm.running_var, 0.5, 2.0)
    return EnlargedStem(double, mix, norm, nn.Conv2d(8, 3, 7, 2, 3, bias=False), size)


@pytest.mark.parametrize("few", [(1, 1), (1, 4), (2, 3), (3, 5), (6, 9)])
@pytest.mark.parametrize("cut", [(0, 0), (1, 2), (3, 1), (2, 3)])
def test_it_is_what_the_steps_make(few: tuple[int, int], cut: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    step = build((4 * few[0] - cut[0], 4 * few[1] - cut[1]))
    features = torch.randn(2, 6, *few)
    with torch.inference_mode():
        wanted = step._step_by_step(features)
        inside = step._inside(features)[..., : wanted.shape[-2], : wanted.shape[-1]]
        monkeypatch.setattr(EnlargedStem, "_pays", lambda *_: True)
        found = step(features)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    if min(wanted.shape[-2:]) > 4:
        torch.testing.assert_close(inside[..., 2:-2, 2:-2], wanted[..., 2:-2, 2:-2], rtol=1e-4, atol=1e-5)
    assert (inside - wanted).abs().max() > 0.1, "without the frame it is another one"


def test_it_is_taken_where_it_pays_and_nobody_learns() -> None:
    step = build((24, 36))
    large = torch.randn(1, 6, 6, 9).expand(40, -1, -1, -1)
    with torch.no_grad():
        assert step._pays(large) and not step._pays(large[:1, :, :1, :1])
        assert not step._pays(large.double()) and not step._pays(large.to("meta"))
        with torch.autocast("cpu", torch.bfloat16):
            assert not step._pays(large)
        step.norm.train()
        assert not step._pays(large)
        step.norm.eval()
    assert not step._pays(large)
    step(large).sum().backward()
    for module in (step.double, step.mix, step.norm, step.stem):
        assert module.weight.grad is not None and module.weight.grad.any()
