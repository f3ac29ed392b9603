"""What trains in each mode, and that frozen stays frozen."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from hdmap_core.errors import ConfigError
from hdmap_core.models.backbones.image_backbone import ImageBackbone, ImageBackboneConfig
from hdmap_core.models.backbones.tuning import freeze, tune

VIT = {"depth": 3, "embed_dim": 24, "num_heads": 3, "drop_path_rate": 0.5}
NETWORKS: dict[str, dict[str, Any]] = {
    "vit": {"model": "vit_small_patch14_dinov2", "image_size": (28, 42), "arguments": VIT},
    "radio": {"model": "naflexvit_base_patch16_radio_v3", "image_size": (32, 48), "arguments": VIT},
    "swin": {
        "model": "swin_tiny_patch4_window7_224",
        "image_size": (64, 96),
        "arguments": {"embed_dim": 8, "depths": (1, 1, 2, 1), "num_heads": (1, 1, 2, 2)},
    },
    "resnet": {
        "model": "resnet18",
        "image_size": (64, 96),
        "arguments": {"layers": (1, 1, 1, 1), "channels": (8, 12, 16, 20)},
    },
}
STEMS = {
    "vit": ("cls_token", "pos_embed", "patch_embed."),
    "radio": ("embeds.",),
    "swin": ("patch_embed.",),
    "resnet": ("conv1.", "bn1."),
}
STAGES = {"vit": "blocks.{}.", "radio": "blocks.{}.", "swin": "layers.{}.", "resnet": "layer{}."}


def build(network: str, **changes: Any) -> ImageBackbone:
    torch.manual_seed(0)
    return ImageBackbone(ImageBackboneConfig(**(NETWORKS[network] | {"out_channels": 6} | changes)))


def trained(backbone: ImageBackbone) -> set[str]:
    return {name for name, parameter in backbone.trunk.named_parameters() if parameter.requires_grad}


def names(backbone: ImageBackbone, *prefixes: str) -> set[str]:
    return {name for name, _ in backbone.trunk.named_parameters() if name.startswith(prefixes)}


def assert_flags_follow(backbone: ImageBackbone) -> None:
    """In train mode exactly the modules that own trained parameters are in train mode."""
    assert backbone.training and backbone.neck.training
    for name, module in backbone.trunk.named_modules():
        own = list(module.parameters(recurse=False))
        if own and name:
            assert module.training == any(parameter.requires_grad for parameter in own), name


def again(backbone: ImageBackbone) -> ImageBackbone:
    return backbone.eval().train()  # type: ignore[no-any-return]


TREATMENTS: list[Callable[[Any], Any]] = [again, copy.deepcopy, lambda b: pickle.loads(pickle.dumps(b))]


@pytest.mark.parametrize("treatment", TREATMENTS, ids=["again", "deepcopy", "pickle"])
@pytest.mark.parametrize(
    ("network", "changes", "expected"),
    [
        ("vit", {"tuning": "frozen"}, ("norm.",)),
        ("swin", {"tuning": "frozen"}, ("norm.",)),
        ("radio", {"tuning": "frozen"}, ("no final norm",)),
        ("resnet", {"tuning": "frozen"}, ("no final norm",)),
        ("vit", {"tuning": "last_block"}, ("norm.", "blocks.2.")),
        ("vit", {"tuning": "last_block", "features": (1,)}, ("norm.", "blocks.1.")),
        ("swin", {"tuning": "last_block"}, ("norm.", "layers.3.")),
        ("radio", {"tuning": "last_block"}, ("blocks.2.",)),
        ("resnet", {"tuning": "last_block", "frozen_batch_norm": False}, ("layer4.",)),
        ("resnet", {"tuning": "last_block", "frozen_batch_norm": False, "features": (3,)}, ("layer3.",)),
    ],
)
def test_frozen_and_last_block(
    network: str, changes: dict[str, Any], expected: tuple[str, ...], treatment: Callable[[Any], Any]
) -> None:
    backbone = build(network, **changes).train()
    assert_flags_follow(backbone)
    treated = treatment(backbone).train()
    assert trained(treated) == names(backbone, *expected)
    assert_flags_follow(treated)
    assert all(parameter.requires_grad for parameter in treated.neck.parameters())


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("frozen_stages", [None, 0, 1, 3])
def test_full_trains_all_but_the_first_stages(network: str, frozen_stages: int | None) -> None:
    backbone = build(network, frozen_stages=frozen_stages, frozen_batch_norm=False).train()
    first = 1 if network == "resnet" else 0
    fixed = [STAGES[network].format(first + stage) for stage in range(frozen_stages or 0)]
    fixed += [] if frozen_stages is None else STEMS[network]
    assert trained(backbone) == names(backbone, "") - (names(backbone, *fixed) if fixed else set())
    assert_flags_follow(backbone)


def test_the_published_resnet_recipe() -> None:
    """Stem and stage 1 fixed, every batch norm with the statistics and affine of the pretraining."""
    backbone = build("resnet", frozen_stages=1).train()
    assert trained(backbone) == {
        name
        for name in names(backbone, "layer2.", "layer3.", "layer4.")
        if "bn" not in name and "downsample.1" not in name
    }
    norms = [module for module in backbone.trunk.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == 13 and not any(norm.training for norm in norms)
    before = copy.deepcopy(backbone.trunk.state_dict())
    backbone(torch.randint(0, 256, (2, 1, 3, 64, 96), dtype=torch.uint8)).sum().backward()
    assert all(torch.equal(value, before[name]) for name, value in backbone.trunk.state_dict().items())


def test_stochastic_depth_acts_in_trained_blocks_only() -> None:
    backbone = build("vit", tuning="last_block").train()
    modes = {name: m.training for name, m in backbone.trunk.named_modules() if type(m).__name__ == "DropPath"}
    assert modes and all(training == name.startswith("blocks.2.") for name, training in modes.items())
    images = torch.randint(0, 256, (1, 4, 3, 28, 42), dtype=torch.uint8)
    frozen = build("vit", tuning="frozen").train()
    assert torch.equal(frozen(images), frozen(images))


@pytest.mark.parametrize("network", NETWORKS)
def test_only_what_trains_moves(network: str) -> None:
    backbone = build(network, tuning="frozen").train()
    before = copy.deepcopy(dict(backbone.named_parameters()))
    optimiser = torch.optim.SGD(backbone.parameters(), lr=1.0, weight_decay=0.1)
    height, width = backbone.config.image_size
    backbone(torch.randint(0, 256, (1, 2, 3, height, width), dtype=torch.uint8)).square().sum().backward()
    optimiser.step()
    moved = {name for name, parameter in backbone.named_parameters() if not torch.equal(parameter, before[name])}
    neck = {f"neck.{name}" for name, _ in backbone.neck.named_parameters()}
    assert moved == neck | {f"trunk.{name}" for name in names(backbone, "norm.")}


def network_with_all_moods() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(nn.BatchNorm2d(4), nn.Dropout(0.5)), nn.Conv2d(4, 2, 1))


@pytest.mark.parametrize("treatment", TREATMENTS, ids=["again", "deepcopy", "pickle"])
def test_freeze_lasts(treatment: Callable[[Any], Any]) -> None:
    parent = network_with_all_moods()
    assert freeze(parent[1]) is parent[1]
    treated = treatment(parent.train()).train()
    assert [m.training for m in treated] == [True, False, True]
    assert not any(m.training for m in treated[1].modules())
    assert not any(p.requires_grad for p in treated[1].parameters())
    assert treated[1].train() is treated[1], "a copy speaks of itself, not of its original"
    images = torch.randn(2, 3, 4, 4)
    assert torch.equal(treated(images), treated(images))
    assert torch.equal(treated[1][0].running_mean, torch.zeros(4))


def test_freezing_leaves_the_state_dict_alone() -> None:
    assert freeze(network_with_all_moods()).state_dict().keys() == network_with_all_moods().state_dict().keys()


def test_networks_without_known_stages_are_told() -> None:
    with pytest.raises(ConfigError, match="stages of Sequential are not known"):
        tune(network_with_all_moods(), "last_block", frozen_stages=None, frozen_batch_norm=True)
