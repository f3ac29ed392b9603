"""The HD-map prior: shapes on any grid, published and small size, logits against rasters."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hdmap_core.config import parse_config
from hdmap_core.errors import ConfigError
from hdmap_core.models.priors.hd_refiner import HDRefiner, HDRefinerConfig

SIZE = (50, 100)  # 8 divides neither
TINY = {
    "width": 12,
    "depth": 2,
    "heads": 2,
    "up_channels": 6,
    "bev_encoder": {"channels": [4, 6, 8], "blocks": [1, 1, 1]},
    "dense": {"embedding": 5, "directions": 8, "channels": 6, "last_channels": 4},
}
VEHICLE = {  # a refiner that a car can afford
    "width": 192,
    "depth": 4,
    "heads": 3,
    "up_channels": 96,
    "dense": {"channels": 64, "last_channels": 32},
}


def build(size: tuple[int, int] = SIZE, **changes: object) -> HDRefiner:
    torch.manual_seed(0)
    module = HDRefiner(parse_config(HDRefinerConfig, TINY | changes, "test"), size=size, num_classes=3)
    for inner in module.modules():  # residual branches start at zero, which would hide them
        if isinstance(inner, nn.BatchNorm2d):
            nn.init.normal_(inner.weight, mean=1.0, std=0.1)
    return module


def random_logits(batch: int = 2, size: tuple[int, int] = SIZE) -> Tensor:
    return 3 * torch.randn(batch, 4, *size, generator=torch.Generator().manual_seed(1))


def parameters(config: HDRefinerConfig) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in HDRefiner(config, size=(200, 400), num_classes=3).parameters())


@pytest.mark.parametrize("patch", [8, 4, 16])
@pytest.mark.parametrize("size", [SIZE, (16, 32), (19, 33)])
def test_shapes(size: tuple[int, int], patch: int) -> None:
    output = build(size, patch=patch)(random_logits(2, size))
    assert output.semantic.shape == (2, 4, *size) and output.semantic.isfinite().all()
    assert output.embedding.shape == (2, 5, *size)
    assert output.direction.shape == (2, 9, *size)


def test_published_size() -> None:
    assert parameters(HDRefinerConfig()) == pytest.approx(116.7e6, rel=0.01)


def test_small_size() -> None:
    assert 5e6 < parameters(parse_config(HDRefinerConfig, VEHICLE, "test")) < 8e6


def test_batched_is_single() -> None:
    module, logits = build().eval(), random_logits(3)
    together = module(logits)
    for index in range(3):
        alone = module(logits[index : index + 1])
        for name in ("semantic", "embedding", "direction"):
            expected = getattr(alone, name)[0]
            torch.testing.assert_close(getattr(together, name)[index], expected, rtol=1e-4, atol=1e-5)


def test_gradients_reach_everything_and_inputs_stay() -> None:
    module, logits = build(), random_logits()
    before = logits.clone()
    logits.requires_grad_()
    output = module(logits)
    generator = torch.Generator().manual_seed(2)
    total = torch.zeros(())
    for raster in (output.semantic, output.embedding, output.direction):
        total = total + (raster * torch.randn(raster.shape, generator=generator)).sum()
    total.backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 1e-5, name
    assert logits.grad is not None and logits.grad.any()
    assert torch.equal(logits, before)


def test_sure_logits_are_a_one_hot_raster() -> None:
    """What the model says when it is sure looks to the refiner as its pretraining did."""
    module = build().eval()
    raster = F.one_hot(random_logits().argmax(1), 4).permute(0, 3, 1, 2).float()
    torch.testing.assert_close(module(60 * raster).semantic, module(raster, is_logits=False).semantic)
    shifted = module(60 * raster - 7).semantic
    torch.testing.assert_close(shifted, module(60 * raster).semantic, rtol=1e-4, atol=1e-5)


def test_logits_as_published() -> None:
    module, logits = build(inputs="logits").eval(), random_logits()
    torch.testing.assert_close(module(logits).semantic, module(logits, is_logits=False).semantic)
    assert not torch.allclose(module(logits).semantic, build().eval()(logits).semantic)


@pytest.mark.parametrize("patch", [4, 8])
def test_what_enters_the_encoder_is_as_published(patch: int) -> None:
    """The 1x1 convolution behind the enlargement, one step after the other."""
    module = build((48, 64), patch=patch).eval()
    for values in (module.up_norm.bias, module.up_norm.running_mean):
        nn.init.normal_(values)
    tokens = torch.randn(2, 12, 48 // patch, 64 // patch, generator=torch.Generator().manual_seed(3))
    first, second, last = module.up
    raised = last(F.interpolate(second(first(tokens)), size=(48, 64), mode="bilinear"))
    expected = module.bev_encoder.stem[0](module.up_norm(raised))
    torch.testing.assert_close(module._stem(tokens), expected, rtol=1e-4, atol=1e-5)
    with torch.inference_mode():
        torch.testing.assert_close(module._stem(tokens), expected, rtol=1e-4, atol=1e-5)


def test_heads_divide_the_width() -> None:
    with pytest.raises(ConfigError, match="width is 100; give a multiple of heads"):
        parse_config(HDRefinerConfig, {"width": 100}, "x.yaml")


def test_norms_are_those_of_a_vision_transformer() -> None:
    module = build()
    norms = [each for each in (*module.blocks.modules(), module.norm) if isinstance(each, nn.LayerNorm)]
    assert len(norms) > 2 and {norm.eps for norm in norms} == {1e-6}


@pytest.mark.parametrize("patch", [8, 2])
def test_the_first_bias_is_a_pattern_that_no_norm_takes_away(patch: int) -> None:
    """Equal to the steps one by one, and other values in even and odd rows."""
    module = build(patch=patch, first_bias=True).eval()
    assert isinstance(module.up[0], nn.ConvTranspose2d) and module.up[0].bias is not None
    with torch.no_grad():
        module.up[0].bias.normal_()
        tokens = torch.randn(1, module.config.width, *module.token_size)
        size = tuple(patch * tokens_along for tokens_along in module.token_size)
        large = nn.functional.interpolate(module.up(tokens), size=size, mode="bilinear")
        wanted = module.bev_encoder.stem[0](module.up_norm(large[..., : SIZE[0], : SIZE[1]]))
        torch.testing.assert_close(module._stem(tokens), wanted, atol=1e-4, rtol=1e-4)
        pattern = module.up[1](module.up[0](torch.zeros_like(tokens)))[0, :, 4:8, 4]
    assert (pattern[:, 0] - pattern[:, 1]).abs().max() > 1e-3
