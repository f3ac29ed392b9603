"""Batch norms inside the convolutions: the same features, names and training as without."""

import copy
import pickle

import pytest
import timm
import torch
from torch import nn

from hdmap_core.models.bev_resnet import ResNetEncoder, ResNetEncoderConfig
from hdmap_core.models.layers.conv import conv_norm_act
from hdmap_core.models.layers.folded_norm import ConvBeforeNorm, NormAfterConv, fold_norms


def network(name: str, **arguments: object) -> nn.Module:
    torch.manual_seed(0)
    trunk = timm.create_model(name, pretrained=False, num_classes=0, **arguments).eval()
    for module in trunk.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.running_var):
                nn.init.uniform_(tensor, 0.5, 1.5)
            for tensor in (module.bias, module.running_mean):
                nn.init.uniform_(tensor, -0.5, 0.5)
    return trunk.double()  # folding changes the order of operations only


@pytest.mark.parametrize("name", ["resnet50", "resnet18", "resnet26d"])
def test_features_are_the_same(name: str) -> None:
    plain = network(name)
    folded = copy.deepcopy(plain)
    fold_norms(folded)
    assert sum(isinstance(m, ConvBeforeNorm) for m in folded.modules()) >= 20
    assert list(plain.state_dict()) == list(folded.state_dict())
    images = torch.randn(1, 3, 64, 96).double()
    with torch.no_grad():
        expected = plain(images)
        for again in (folded, copy.deepcopy(folded), pickle.loads(pickle.dumps(folded))):
            torch.testing.assert_close(again(images), expected, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(folded(images), plain(images), rtol=1e-8, atol=1e-8)
    for trunk in (plain, folded):  # changed statistics and weights count at once
        for module in trunk.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.add_(0.1)
                module.weight.data.mul_(1.2)
    with torch.no_grad():
        torch.testing.assert_close(folded(images), plain(images), rtol=1e-8, atol=1e-8)


def test_a_block_of_our_own_and_the_dense_encoder_are_the_same() -> None:
    for plain in (
        conv_norm_act(3, 6, stride=2),
        ResNetEncoder(ResNetEncoderConfig(channels=(4, 8), blocks=(1, 1)), in_channels=3),
    ):
        images = torch.randn(2, 3, 32, 48)
        for module in plain.eval().modules():
            if isinstance(module, nn.BatchNorm2d):
                for tensor in (module.weight, module.bias, module.running_mean):
                    nn.init.normal_(tensor)
        expected = plain(images)  # gradients may be asked for, so each norm runs
        with torch.no_grad():
            found = plain(images)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_training_is_the_same() -> None:
    plain = network("resnet18")
    folded = copy.deepcopy(plain)
    fold_norms(folded)
    images = torch.randn(2, 3, 64, 64).double()
    for trunk in (plain, folded):
        trunk.train()(images).square().mean().backward()
        with torch.no_grad():
            trunk(images)  # statistics move without gradients as well
    for (name, a), b in zip(plain.state_dict().items(), folded.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    for a, b in zip(plain.parameters(), folded.parameters(), strict=True):
        assert a.grad is not None and b.grad is not None and torch.equal(a.grad, b.grad)


def test_a_norm_that_was_exchanged_runs_itself() -> None:
    folded = network("resnet18")
    fold_norms(folded)
    expected = copy.deepcopy(folded)(torch.ones(1, 3, 64, 64).double())
    for module in list(folded.modules()):
        for name, child in module.named_children():
            if isinstance(child, NormAfterConv):
                other = nn.BatchNorm2d(child.num_features).double().eval()
                other.load_state_dict(child.state_dict())
                setattr(module, name, other)
    with torch.no_grad():
        torch.testing.assert_close(folded(torch.ones(1, 3, 64, 64).double()), expected, rtol=1e-8, atol=1e-8)
