"""Semantic, embedding and direction heads."""

import pytest
import torch
from torch import Tensor

from hdmap_core.model_io import DenseOutput
from hdmap_core.models.bev_resnet import ResNetEncoder, ResNetEncoderConfig
from hdmap_core.models.heads.dense import DenseConfig, DenseHeads

SMALL = DenseConfig(embedding=3, directions=8, channels=12, last_channels=6)


def build(size: tuple[int, int], num_classes: int = 3) -> DenseHeads:
    torch.manual_seed(0)
    return DenseHeads(SMALL, level_channels=(6, 10), num_classes=num_classes, size=size).eval()


def pyramid(batch: int, size: tuple[int, int], seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    fine = [-(-side // 2) for side in size]
    coarse = [-(-side // 8) for side in size]
    return [torch.randn(batch, 6, *fine, generator=generator), torch.randn(batch, 10, *coarse, generator=generator)]


def rasters(output: DenseOutput) -> list[Tensor]:
    return [output.semantic, output.embedding, output.direction]


@pytest.mark.parametrize("size", [(16, 32), (50, 101)])
@pytest.mark.parametrize("num_classes", [1, 3])
def test_shapes_are_those_of_the_grid(size: tuple[int, int], num_classes: int) -> None:
    output = build(size, num_classes)(pyramid(2, size))
    assert [tuple(raster.shape) for raster in rasters(output)] == [(2, c, *size) for c in (1 + num_classes, 3, 9)]


def test_published_channels_and_size() -> None:
    """Every head has its own first block: three times 737 280 weights in the first convolution."""
    with torch.device("meta"):
        heads = DenseHeads(DenseConfig(), level_channels=(64, 256), num_classes=3, size=(200, 400))
    ours = [heads.semantic, heads.embedding, heads.direction]
    assert [head.finish[-1].out_channels for head in ours] == [4, 16, 37]
    assert [head.join[0][0].weight.shape for head in ours] == [(256, 320, 3, 3)] * 3
    assert len({id(p) for p in heads.parameters()}) == 3 * 11


def test_it_takes_what_the_encoder_gives() -> None:
    encoder = ResNetEncoder(ResNetEncoderConfig(channels=(6, 8, 10), blocks=(1, 1, 1)), in_channels=4).eval()
    heads = DenseHeads(SMALL, level_channels=encoder.level_channels, num_classes=2, size=(23, 41)).eval()
    assert heads(encoder(torch.randn(1, 4, 23, 41))).semantic.shape == (1, 3, 23, 41)


def test_heads_do_not_share() -> None:
    """A change in one head's weights changes that head only (the published direction head ran the embedding's)."""
    size = (16, 24)
    heads, given = build(size), pyramid(1, size)
    before = rasters(heads(given))
    for index, head in enumerate([heads.semantic, heads.embedding, heads.direction]):
        saved = {name: value.clone() for name, value in head.state_dict().items()}
        with torch.no_grad():
            head.join[0][0].weight.neg_()
        changed = [not torch.equal(a, b) for a, b in zip(before, rasters(heads(given)), strict=True)]
        assert changed == [position == index for position in range(3)]
        head.load_state_dict(saved)


def test_both_levels_matter() -> None:
    size = (16, 24)
    heads, (fine, coarse) = build(size), pyramid(1, size)
    output = heads([fine, coarse])
    for other in (heads([fine, -coarse]), heads([-fine, coarse])):
        assert all(not torch.equal(a, b) for a, b in zip(rasters(output), rasters(other), strict=True))


def test_batched_is_single_and_inputs_stay() -> None:
    size = (20, 30)
    heads, given = build(size), pyramid(3, size)
    together = rasters(heads(given))
    for index in range(3):
        alone = rasters(heads([level[index : index + 1] for level in given]))
        for whole, one in zip(together, alone, strict=True):
            torch.testing.assert_close(whole[index], one[0], atol=1e-5, rtol=1e-4)
    assert all(torch.equal(a, b) for a, b in zip(given, pyramid(3, size), strict=True))


def test_every_parameter_gets_a_gradient() -> None:
    size = (16, 24)
    heads = build(size).train()
    sum(raster.square().sum() for raster in rasters(heads(pyramid(2, size)))).backward()
    assert [n for n, p in heads.named_parameters() if p.grad is None or not p.grad.any()] == []
