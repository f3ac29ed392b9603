"""Every family of networks behind the adapter: shapes, independence of cameras, gradients, counts, refusals."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hdmap_core.config import parse_config
from hdmap_core.errors import ConfigError
from hdmap_core.models.backbones.image_backbone import ImageBackbone, ImageBackboneConfig

VIT: dict[str, Any] = {"depth": 3, "embed_dim": 24, "num_heads": 3}
RESNET: dict[str, Any] = {"layers": (1, 1, 1, 1), "channels": (8, 12, 16, 20)}
SWIN: dict[str, Any] = {"embed_dim": 8, "depths": (1, 1, 2, 1), "num_heads": (1, 1, 2, 2)}
# family: (timm's name, small arguments, stride, small image, odd image)
FAMILIES: dict[str, tuple[str, dict[str, Any], int, tuple[int, int], tuple[int, int]]] = {
    "resnet": ("resnet18.tv_in1k", RESNET, 32, (64, 96), (96, 160)),
    "swin": ("swin_tiny_patch4_window7_224.ms_in1k", SWIN, 32, (64, 96), (96, 288)),
    "dinov2": ("vit_small_patch14_dinov2.lvd142m", VIT, 14, (28, 42), (42, 70)),
    "radio": ("naflexvit_base_patch16_radio_v3.c_radio", VIT, 16, (32, 48), (48, 80)),
    "dinov3": ("vit_small_patch16_dinov3.lvd1689m", VIT, 16, (32, 48), (48, 80)),
    "mobilenet": ("mobilenetv3_small_050", {}, 32, (64, 96), (96, 160)),
}
ALL = pytest.mark.parametrize("family", FAMILIES)


def build(family: str, *, odd: bool = False, **changes: Any) -> ImageBackbone:
    name, arguments, _, small, large = FAMILIES[family]
    torch.manual_seed(0)
    content = {"model": name, "arguments": arguments, "image_size": large if odd else small, "out_channels": 6}
    return ImageBackbone(ImageBackboneConfig(**(content | changes))).eval()


def random_images(backbone: ImageBackbone, batch: int = 2, cameras: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    shape = (batch, cameras, 3, *backbone.config.image_size)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def settle(backbone: nn.Module) -> None:
    """Moves layers that start at zero or almost (last norms of residual blocks, layer scales), so that all matter."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)


@ALL
@pytest.mark.parametrize(("odd", "cameras"), [(False, 1), (True, 7)])
def test_one_map_per_camera(family: str, odd: bool, cameras: int) -> None:
    backbone = build(family, odd=odd)
    images = random_images(backbone, cameras=cameras)
    before = images.clone()
    with torch.no_grad():
        features = backbone(images)
    stride = FAMILIES[family][2]
    height, width = backbone.config.image_size
    assert features.shape == (2, cameras, 6, height // stride, width // stride)
    assert (backbone.stride, backbone.out_channels) == (stride, 6)
    assert backbone.feature_size == features.shape[-2:]
    assert features.dtype == torch.float32 and features.isfinite().all()
    assert torch.equal(images, before)


@pytest.mark.parametrize(
    ("family", "size", "cells"),
    [
        ("dinov2", (448, 798), (32, 57)),
        ("radio", (480, 800), (30, 50)),
        ("dinov3", (480, 800), (30, 50)),
        ("swin", (480, 800), (15, 25)),
        ("resnet", (480, 800), (15, 25)),
    ],
)
def test_published_sizes(family: str, size: tuple[int, int], cells: tuple[int, int]) -> None:
    backbone = build(family, image_size=size)
    with torch.no_grad():
        assert backbone(random_images(backbone, 1, 1)).shape == (1, 1, 6, *cells)


@ALL
def test_cameras_and_samples_do_not_see_each_other(family: str) -> None:
    backbone = build(family)
    settle(backbone)
    images = random_images(backbone)
    with torch.no_grad():
        together = backbone(images)
        for sample in range(2):
            for camera in range(3):
                alone = backbone(images[sample : sample + 1, camera : camera + 1])
                torch.testing.assert_close(alone[0, 0], together[sample, camera], rtol=1e-4, atol=1e-4)
        order = [2, 0, 1]
        torch.testing.assert_close(backbone(images[:, order]), together[:, order], rtol=1e-4, atol=1e-4)
    assert (together[0] - together[1]).abs().max() > 1e-3, "the images matter"


@ALL
@pytest.mark.parametrize("aggregation", ["last", "concat", "cnn", "double_conv"])
def test_every_trainable_parameter_receives_a_gradient(family: str, aggregation: str) -> None:
    features = (-1,) if aggregation == "last" else (-3, -2)
    backbone = build(family, odd=True, aggregation=aggregation, features=features, frozen_batch_norm=False)
    settle(backbone)
    backbone.train()
    output = backbone(random_images(backbone))
    (output * torch.randn(output.shape, generator=torch.Generator().manual_seed(3))).sum().backward()
    silent = [
        name
        for name, parameter in backbone.named_parameters()
        if parameter.grad is None or not parameter.grad.isfinite().all() or not parameter.grad.any()
    ]
    assert silent == []


@pytest.mark.parametrize(("family", "stride"), [("resnet", 8), ("swin", 8), ("dinov2", 14)])
@pytest.mark.parametrize("aggregation", ["concat", "cnn", "double_conv"])
def test_several_maps_meet_at_the_finest(family: str, stride: int, aggregation: str) -> None:
    features = {"resnet": (2, 3, 4), "swin": (1, 2, 3), "dinov2": (0, 1, 2)}[family]
    backbone = build(family, odd=True, aggregation=aggregation, features=features)
    height, width = backbone.config.image_size
    assert backbone.stride == stride
    with torch.no_grad():
        assert backbone(random_images(backbone)).shape == (2, 3, 6, height // stride, width // stride)


def test_maps_of_a_vit_are_its_normalised_patch_tokens() -> None:
    """Class token dropped, final norm applied, rows before columns: against timm's own plain forward."""
    backbone = build("dinov2")
    settle(backbone)
    images = random_images(backbone, 1, 1)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    pixels = (images[0].float() / 255 - mean[:, None, None]) / std[:, None, None]
    with torch.no_grad():
        tokens = backbone.trunk.forward_features(pixels)
        expected = backbone.neck([tokens[0, 1:].reshape(2, 3, 24).permute(2, 0, 1)[None]])
        torch.testing.assert_close(backbone(images)[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("family", "mean"),
    [("resnet", (0.485, 0.456, 0.406)), ("radio", (0.48145466, 0.4578275, 0.40821073))],  # RADIO uses CLIP's
)
def test_each_network_has_its_own_normalisation(family: str, mean: tuple[float, ...]) -> None:
    torch.testing.assert_close(build(family).mean.flatten() / 255, torch.tensor(mean))


def vit_parameters(width: int, blocks: int, patch: int, cells: int) -> int:
    """Of a ViT with layer scale and one class token, from its layer sizes."""
    block = 12 * width**2 + 15 * width
    return blocks * block + (3 * patch**2 + 1) * width + width + (cells + 1) * width + 2 * width


@pytest.mark.parametrize(
    ("model", "size", "trunk", "width"),
    [
        # the classifiers of the published counts (11.69 M, 25.56 M, 28.29 M) taken off
        ("resnet18", (480, 800), 11_689_512 - 513_000, 512),
        ("resnet50", (480, 800), 25_557_032 - 2_049_000, 2048),
        ("swin_tiny_patch4_window7_224", (480, 800), 28_288_354 - 769_000, 768),
        ("vit_small_patch14_dinov2", (448, 798), vit_parameters(384, 12, 14, 32 * 57), 384),  # 22.2 M
        ("vit_base_patch14_dinov2", (448, 798), vit_parameters(768, 12, 14, 32 * 57), 768),  # 86.9 M
        ("vit_small_patch14_dinov2", (518, 518), vit_parameters(384, 12, 14, 37 * 37), 384),  # 22.06 M as released
    ],
)
def test_parameter_counts_of_the_published_networks(model: str, size: tuple[int, int], trunk: int, width: int) -> None:
    with torch.device("meta"):
        backbone = ImageBackbone(ImageBackboneConfig(model=model, image_size=size))
    assert sum(p.numel() for p in backbone.trunk.parameters()) == trunk
    assert sum(p.numel() for p in backbone.neck.parameters()) == (width + 1) * 256 + (9 * 256 + 1) * 256


@ALL
def test_bf16_autocast_is_finite(family: str) -> None:
    backbone = build(family)
    settle(backbone)
    backbone.train()
    with torch.autocast("cpu", torch.bfloat16):
        output = backbone(random_images(backbone))
    output.float().square().mean().backward()
    assert output.isfinite().all()
    assert all(p.grad.isfinite().all() for p in backbone.parameters() if p.grad is not None)


@pytest.mark.parametrize("family", ["resnet", "swin", "dinov2", "radio"])
def test_recomputed_activations_change_nothing(family: str) -> None:
    gradients = []
    for recompute in (False, True):
        backbone = build(family, checkpoint_gradients=recompute)
        settle(backbone)
        backbone.train()
        backbone(random_images(backbone)).square().mean().backward()
        gradients.append({n: p.grad for n, p in backbone.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, msg=name)


def test_layers_behind_the_last_map_are_cut_off() -> None:
    backbone = build("dinov2", features=(0,))
    assert len(backbone.trunk.blocks) == 1
    assert {key.split(".")[1] for key in backbone.cut_keys} == {"1", "2"}


@pytest.mark.parametrize("family", ["resnet", "swin", "dinov2", "radio"])
def test_exports_whole(family: str) -> None:
    backbone = build(family)
    images = random_images(backbone, 1, 2)
    program = torch.export.export(backbone, (images,)).module()
    with torch.no_grad():
        torch.testing.assert_close(program(images), backbone(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": [448, 800]}, "needs multiples of 14; nearest: height 448, width 798 or 812"),
        ({"model": "resnet18", "image_size": [450, 800]}, "multiples of 32; nearest: height 448 or 480, width 800"),
        ({"model": "resnet5O"}, "no network 'resnet5O'; did you mean"),
        ({"model": "hf-hub:timm/resnet18"}, "no network"),
        ({"model": "resnet18.imagenet"}, "unknown tag; there are"),
        ({"model": "vit_base_patch16_radio_v3.c_radio"}, "take naflexvit_base_patch16_radio_v3.c_radio"),
        ({"features": [12]}, "ascending numbers from 0 to 11"),
        ({"features": [3, 1], "aggregation": "cnn"}, "ascending numbers"),
        ({"features": [-1, 11], "aggregation": "concat"}, "ascending numbers"),
        ({"features": [3, 11]}, "'last' takes exactly one"),
        ({"aggregation": "cnn"}, "the others take several"),
        ({"features": []}, "features"),
        ({"frozen_stages": 13}, "has 12 stages"),
        ({"frozen_stages": 1, "tuning": "frozen"}, "frozen_stages is for tuning 'full'"),
        ({"cameras": ["front", "front"]}, "cameras names one twice"),
        ({"arguments": {"pretrained": True}}, "arguments may not hold ['pretrained']"),
        ({"arguments": {"depht": 2}}, "timm cannot build"),
        ({"image_size": [0, 14]}, "image_size.0"),
        ({"tuning": "lora"}, "tuning"),
    ],
)
def test_settings_that_cannot_work_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught, torch.device("meta"):
        ImageBackbone(parse_config(ImageBackboneConfig, change, "recipe"))
    assert message in str(caught.value)


def test_images_of_another_size_are_refused() -> None:
    backbone = build("resnet")
    with pytest.raises(ValueError, match=r"images are \(96, 64\), the backbone takes \(64, 96\)"):
        backbone(torch.zeros(1, 1, 3, 96, 64, dtype=torch.uint8))
