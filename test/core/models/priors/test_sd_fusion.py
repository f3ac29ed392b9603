"""The SD-map prior: shapes on any grid, published sizes, and where the attention may look."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from hdmap_core.config import parse_config
from hdmap_core.errors import ConfigError
from hdmap_core.models.layers.padding import padded_to_multiple
from hdmap_core.models.priors.attention import Attention, sine_positions
from hdmap_core.models.priors.sd_fusion import STRIDE, SDFusion, SDFusionConfig

SIZE = (50, 100)  # 8 divides neither
CHANNELS = 6
BOTH = pytest.mark.parametrize("mask_empty", [False, True])


def build(mask_empty: bool = True, size: tuple[int, int] = SIZE, **changes: object) -> SDFusion:
    torch.manual_seed(0)
    content = {"channels": 8, "sd_channels": (4, 8), "heads": 2, "feedforward": 12, "mask_empty": mask_empty} | changes
    return SDFusion(parse_config(SDFusionConfig, content, "test"), in_channels=CHANNELS, size=size)


def random_bev(batch: int = 2, size: tuple[int, int] = SIZE) -> Tensor:
    return torch.randn(batch, CHANNELS, *size, generator=torch.Generator().manual_seed(1))


def roads(*rows: int | None, size: tuple[int, int] = SIZE) -> Tensor:
    """A straight road through each sample at the row given; None: no road at all."""
    raster = torch.full((len(rows), 1, *size), -1.0)
    for sample, row in enumerate(rows):
        if row is not None:
            raster[sample, :, row : row + 2] = 1.0
    return raster


@BOTH
@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("size", [SIZE, (16, 24), (9, 15)])
def test_shapes(size: tuple[int, int], skip: bool, mask_empty: bool) -> None:
    output = build(mask_empty, size, skip=skip)(random_bev(2, size), roads(3, None, size=size))
    small = math.ceil(size[0] / 8), math.ceil(size[1] / 8)
    assert output.bev.shape == (2, CHANNELS, *size) and output.bev.isfinite().all()
    assert output.small.shape == (2, CHANNELS, *small)
    assert output.fused.shape == (2, 8, *small)


@pytest.mark.parametrize(("channels", "with_prior", "without"), [(64, 78.9e6, 78.3e6), (192, 86.1e6, 82.7e6)])
def test_published_sizes(channels: int, with_prior: float, without: float) -> None:
    module = SDFusion(SDFusionConfig(), in_channels=channels, size=(200, 400))
    assert sum(p.numel() for p in module.parameters()) == pytest.approx(with_prior - without, abs=0.05e6)
    attention = sum(p.numel() for p in (*module.layers.parameters(), *module.norm.parameters()))
    assert attention == pytest.approx(0.12e6, abs=0.005e6)
    assert module.places.shape == (1250, 64) and module.out_channels == channels


@BOTH
def test_batched_is_single(mask_empty: bool) -> None:
    module, bev, raster = build(mask_empty).eval(), random_bev(3), roads(10, None, 40)
    together = module(bev, raster)
    for index in range(3):
        alone = module(bev[index : index + 1], raster[index : index + 1])
        for name in together._fields:
            torch.testing.assert_close(getattr(together, name)[index], getattr(alone, name)[0], rtol=1e-4, atol=1e-5)


@BOTH
def test_gradients_reach_everything_and_inputs_stay(mask_empty: bool) -> None:
    module, bev, raster = build(mask_empty), random_bev(), roads(10, 30)
    before = bev.clone(), raster.clone()
    bev.requires_grad_()
    module(bev, raster).bev.square().sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 1e-6, name
    assert (module.no_road is not None) == mask_empty
    assert bev.grad is not None and bev.grad.any()
    assert torch.equal(bev, before[0]) and torch.equal(raster, before[1])


@BOTH
@pytest.mark.parametrize("training", [False, True])
def test_no_road_anywhere_is_defined(mask_empty: bool, training: bool) -> None:
    module = build(mask_empty).train(training)
    output = module(random_bev(), roads(None, None))
    output.bev.square().sum().backward()
    assert output.bev.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())


@settings(max_examples=20, deadline=None)
@given(row=st.integers(0, 47), column=st.integers(0, 98), other=st.integers(0, 47))
def test_only_tokens_with_a_road_are_looked_at(row: int, column: int, other: int) -> None:
    module = build().eval()
    raster = roads(None, other)
    raster[0, :, row : row + 2, column : column + 2] = 1.0
    _, _, allowed = module._memory(padded_to_multiple(raster, STRIDE, value=-1.0))
    assert allowed is not None
    expected = torch.zeros(7, 13, dtype=torch.bool)
    expected[row // 8 : (row + 1) // 8 + 1, column // 8 : (column + 1) // 8 + 1] = True
    assert torch.equal(allowed[0, :-1].reshape(7, 13), expected)
    assert allowed[:, -1].all()


def test_without_a_road_the_result_is_that_of_the_no_road_token() -> None:
    """What the SD encoder makes of the empty raster, or of another sample's roads, does not come through."""
    module, bev = build().eval(), random_bev()
    alone, beside = module(bev, roads(None, 8)), module(bev, roads(None, 33))
    torch.testing.assert_close(alone.bev[0], beside.bev[0])
    assert not torch.allclose(alone.bev[1], beside.bev[1])
    for parameter in module.sd_encoder.parameters():
        parameter.data += 1.0
    torch.testing.assert_close(module(bev, roads(None, 8)).bev[0], alone.bev[0])
    assert module.no_road is not None
    module.no_road.data += 1.0
    assert not torch.allclose(module(bev, roads(None, 8)).bev[0], alone.bev[0])


def test_skip_adds_what_came_in() -> None:
    bev, raster = random_bev(), roads(10, 20)
    plain, skipped = (build(skip=skip).eval()(bev, raster).bev for skip in (False, True))
    torch.testing.assert_close(skipped, plain + bev)


def test_attention_is_torchs() -> None:
    torch.manual_seed(0)
    ours, theirs = Attention(8, heads=2, dropout=0.0), nn.MultiheadAttention(8, 2, batch_first=True)
    query, key, value = torch.randn(3, 2, 5, 8).unbind()
    allowed = torch.tensor([[True, True, False, True, False], [False, False, False, False, True]])
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key.weight, ours.value.weight]))
        theirs.in_proj_bias.copy_(torch.cat([torch.randn(8), torch.randn(8), torch.randn(8)]))
        ours.query.bias.copy_(theirs.in_proj_bias[:8])
        ours.value.bias.copy_(theirs.in_proj_bias[16:])
        theirs.out_proj.load_state_dict(ours.output.state_dict())
    expected, _ = theirs(query, key, value, key_padding_mask=~allowed)
    torch.testing.assert_close(ours(query, key, value, allowed), expected)


def test_positions() -> None:
    places = sine_positions(3, 5, 16)
    assert places.shape == (15, 16)
    turn = 2 * math.pi
    expected = [
        math.sin(turn * 2 / 3),
        math.cos(turn * 2 / 3),
        math.sin(turn * 2 / 3 / 10),
        math.cos(turn * 2 / 3 / 10),
    ]
    torch.testing.assert_close(places[5, :4], torch.tensor(expected))  # row 1, column 0
    torch.testing.assert_close(places[3, 8:10], torch.tensor([math.sin(turn * 4 / 5), math.cos(turn * 4 / 5)]))
    assert len(places.unique(dim=0)) == 15


def test_errors_say_what_to_do() -> None:
    with pytest.raises(ConfigError, match=r"sd_prior \(sd_cross_attention\) needs ModelInput.sd_raster"):
        build()(random_bev(), None)
    with pytest.raises(ConfigError, match="channels is 30; give a multiple of 4"):
        parse_config(SDFusionConfig, {"channels": 30}, "x.yaml")


@BOTH
def test_attention_stays_float32_under_autocast(mask_empty: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    module, bev, raster = build(mask_empty).eval(), random_bev(), roads(10, None)
    expected, seen, attention = module(bev, raster), [], F.scaled_dot_product_attention

    def spy(*arguments: Tensor, **rest: Any) -> Tensor:
        seen.extend(argument.dtype for argument in arguments)
        return attention(*arguments, **rest)

    monkeypatch.setattr(F, "scaled_dot_product_attention", spy)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = module(bev, raster)
    assert set(seen) == {torch.float32}
    for name in output._fields:
        ours, theirs = getattr(output, name).float(), getattr(expected, name)
        assert (ours - theirs).abs().max() < 0.1 * theirs.abs().max(), name
