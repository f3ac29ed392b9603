"""ResNet-18 as a BEV encoder."""

import pytest
import torch
from pydantic import ValidationError
from torchvision.models import resnet18

from hdmap_core.models.bev_resnet import ResNetEncoder, ResNetEncoderConfig

SMALL = ResNetEncoderConfig(channels=(6, 8, 10), blocks=(1, 2, 1))


def build(config: ResNetEncoderConfig = SMALL, in_channels: int = 5) -> ResNetEncoder:
    """With residual branches away from their zeros."""
    torch.manual_seed(0)
    module = ResNetEncoder(config, in_channels=in_channels).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.1 * torch.randn(parameter.shape)
    return module


@pytest.mark.parametrize(("size", "fine", "coarse"), [((16, 32), (8, 16), (2, 4)), ((50, 101), (25, 51), (7, 13))])
def test_shapes(size: tuple[int, int], fine: tuple[int, int], coarse: tuple[int, int]) -> None:
    module = build()
    finest, coarsest = module(torch.randn(2, 5, *size))
    assert finest.shape == (2, 6, *fine) and coarsest.shape == (2, 10, *coarse)
    assert module.level_channels == (6, 10)


def test_parameters_are_those_of_resnet18_up_to_stage_three() -> None:
    with torch.device("meta"):
        ours, theirs = ResNetEncoder(ResNetEncoderConfig(), in_channels=3), resnet18()
    parts = (theirs.conv1, theirs.bn1, theirs.layer1, theirs.layer2, theirs.layer3)
    expected = [tuple(p.shape) for part in parts for p in part.parameters()]
    assert [tuple(p.shape) for p in ours.parameters()] == expected
    assert ours.level_channels == (64, 256)


def test_it_computes_what_torchvision_computes() -> None:
    torch.manual_seed(0)
    ours, theirs = ResNetEncoder(ResNetEncoderConfig(), in_channels=3).eval(), resnet18().eval()
    parts = [theirs.conv1, theirs.bn1, theirs.layer1, theirs.layer2, theirs.layer3]
    values = [p for part in parts for p in part.parameters()]
    with torch.no_grad():
        for mine, value in zip(ours.parameters(), values, strict=True):
            mine.copy_(value)
        images = torch.randn(1, 3, 24, 40)
        finest = theirs.layer1(theirs.relu(theirs.bn1(theirs.conv1(images))))
        coarsest = theirs.layer3(theirs.layer2(finest))
        mine_finest, mine_coarsest = ours(images)
    torch.testing.assert_close(mine_finest, finest)
    torch.testing.assert_close(mine_coarsest, coarsest)


def test_blocks_start_as_identities() -> None:
    module = ResNetEncoder(SMALL, in_channels=5).eval()
    features = torch.randn(1, 5, 16, 16)
    torch.testing.assert_close(module(features)[0], module.stem(features))


def test_batched_is_single_and_inputs_stay() -> None:
    module, features = build(), torch.randn(3, 5, 20, 30)
    before = features.clone()
    together = module(features)
    for index in range(3):
        for whole, alone in zip(together, module(features[index : index + 1]), strict=True):
            torch.testing.assert_close(whole[index], alone[0], atol=1e-5, rtol=1e-4)
    assert torch.equal(features, before)


def test_every_parameter_gets_a_gradient() -> None:
    module = build().train()
    sum(level.square().sum() for level in module(torch.randn(2, 5, 16, 24))).backward()
    assert [n for n, p in module.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_levels_and_blocks_must_agree() -> None:
    with pytest.raises(ValidationError, match="give both the same"):
        ResNetEncoderConfig(channels=(8, 16), blocks=(1, 1, 1))
