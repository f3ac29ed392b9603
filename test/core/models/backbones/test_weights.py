"""Pretrained weights: what is loaded is what the file holds, and everything that is not as expected is told."""

from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from hdmap_core.errors import CheckpointError
from hdmap_core.models.backbones.image_backbone import ImageBackbone, ImageBackboneConfig
from hdmap_core.models.backbones.weights import load_pretrained

SMALL: dict[str, dict[str, Any]] = {
    "vit_small_patch14_dinov2.lvd142m": {"depth": 3, "embed_dim": 24, "num_heads": 3},
    "naflexvit_base_patch16_radio_v3.c_radio": {"depth": 2, "embed_dim": 24, "num_heads": 3},
    "swin_tiny_patch4_window7_224.ms_in1k": {"embed_dim": 8, "depths": (1, 1, 2, 1), "num_heads": (1, 1, 2, 2)},
    "resnet18.tv_in1k": {"layers": (1, 1, 1, 1), "channels": (8, 12, 16, 20)},
}
VIT, RADIO, SWIN, RESNET = SMALL
SIZES = {VIT: (28, 42), RADIO: (32, 48), SWIN: (224, 288), RESNET: (64, 96)}
ALL = pytest.mark.parametrize("model", SMALL)


def build(model: str, **changes: Any) -> ImageBackbone:
    torch.manual_seed(0)
    content = {"model": model, "arguments": SMALL[model], "image_size": SIZES[model], "out_channels": 6}
    return ImageBackbone(ImageBackboneConfig(**(content | changes))).eval()


def pretrained(model: str, **changes: Any) -> dict[str, Tensor]:
    """What timm would publish of this network: other random weights, with a classifier, at a square size."""
    torch.manual_seed(7)
    size = {VIT: {"img_size": 70}, SWIN: {"img_size": 224}}.get(model, {})
    source = timm.create_model(model, pretrained=False, **({"num_classes": 5} | size | SMALL[model] | changes))
    found = source.state_dict()
    return {name: tensor + (0.01 * torch.rand_like(tensor) if tensor.ndim else 3) for name, tensor in found.items()}


def written(tmp_path: Path, tensors: dict[str, Tensor], **options: Any) -> Path:
    path = tmp_path / "weights.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, **options)
    return path


def state(backbone: ImageBackbone) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in backbone.trunk.state_dict().items()}


@ALL
def test_every_tensor_comes_from_the_file(model: str, tmp_path: Path) -> None:
    backbone, source = build(model), pretrained(model)
    neck = [parameter.clone() for parameter in backbone.neck.parameters()]
    report = load_pretrained(backbone, written(tmp_path, source))
    loaded = state(backbone)
    classifier = {"fc.weight", "fc.bias", "head.weight", "head.bias", "head.fc.weight", "head.fc.bias"}
    assert loaded.keys() == source.keys() - classifier
    for name in loaded.keys() - {"pos_embed"}:
        assert torch.equal(loaded[name], source[name]), name
    assert f"{len(loaded)} tensors" in report and str(tmp_path) in report
    assert "left out the classifier: " in report and report.count("left out") == 1
    assert all(torch.equal(a, b) for a, b in zip(neck, backbone.neck.parameters(), strict=True))


def test_position_embedding_is_resized_to_our_grid(tmp_path: Path) -> None:
    backbone, source = build(VIT), pretrained(VIT)
    report = load_pretrained(backbone, written(tmp_path, source))
    grid = source["pos_embed"][:, 1:].reshape(1, 5, 5, 24).permute(0, 3, 1, 2)
    resized = F.interpolate(grid, size=(2, 3), mode="bicubic", antialias=True).permute(0, 2, 3, 1).reshape(1, 6, 24)
    expected = torch.cat([source["pos_embed"][:, :1], resized], dim=1)  # the class token's place stays
    torch.testing.assert_close(state(backbone)["pos_embed"], expected)
    assert "resized pos_embed (1, 26, 24) -> (1, 7, 24)" in report


def test_our_own_grid_loads_unchanged(tmp_path: Path) -> None:
    backbone, source = build(VIT), pretrained(VIT, img_size=(28, 42))
    report = load_pretrained(backbone, written(tmp_path, source))
    assert torch.equal(state(backbone)["pos_embed"], source["pos_embed"]) and "resized" not in report


def test_radio_keeps_its_grid_and_places_it_for_the_image() -> None:
    """The whole square grid is a parameter; another image size is another view of it, not other weights."""
    small, wide = build(RADIO), build(RADIO, image_size=(32, 96))
    assert small.trunk.state_dict().keys() == wide.trunk.state_dict().keys()
    shapes = {name: tensor.shape for name, tensor in wide.trunk.state_dict().items()}
    assert shapes["embeds.pos_embed"] == (1, 128, 128, 24)
    assert all(tensor.shape == shapes[name] for name, tensor in small.trunk.state_dict().items())


def test_layout_of_the_original_dinov2(tmp_path: Path) -> None:
    source = pretrained(VIT) | {"mask_token": torch.zeros(1, 24)}
    report = load_pretrained(build(VIT), written(tmp_path, source))
    assert "timm's conversion dropped mask_token" in report


def test_layout_of_the_original_swin(tmp_path: Path) -> None:
    """There a stage ends with its downsampling, and buffers were saved as well."""
    backbone, source = build(SWIN), pretrained(SWIN)
    original = {}
    for name, tensor in source.items():
        parts = name.replace("head.fc.", "head.").split(".")
        if "downsample" in parts:
            parts[1] = str(int(parts[1]) - 1)
        original[".".join(parts)] = tensor
    original["layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(49, 49)
    report = load_pretrained(backbone, written(tmp_path, original))
    assert all(torch.equal(tensor, source[name]) for name, tensor in state(backbone).items())
    assert "timm's conversion renamed" in report and "left out the classifier: head.fc.bias, head.fc.weight" in report


def test_window_tables_follow_windows_that_an_image_makes_smaller(tmp_path: Path) -> None:
    backbone = build(SWIN, image_size=(64, 96))  # 2 x 3 cells in the last stage, its window is 7 x 7
    report = load_pretrained(backbone, written(tmp_path, pretrained(SWIN)))
    assert "resized layers.2.blocks.0.attn.relative_position_bias_table (169, 2) -> (77, 2)" in report


@pytest.mark.parametrize(("model", "features"), [(VIT, (0,)), (SWIN, (1,)), (RESNET, (2,)), (RADIO, (0,))])
def test_parts_behind_the_last_map_are_left_out_and_named(model: str, features: tuple[int], tmp_path: Path) -> None:
    backbone, source = build(model, features=features), pretrained(model)
    report = load_pretrained(backbone, written(tmp_path, source))
    assert all(torch.equal(t, source[name]) for name, t in state(backbone).items() if name != "pos_embed")
    assert "left out parts this backbone does without: " in report


def test_batch_norm_counters_may_be_absent(tmp_path: Path) -> None:
    source = {k: v for k, v in pretrained(RESNET).items() if not k.endswith("num_batches_tracked")}
    backbone = build(RESNET)
    load_pretrained(backbone, written(tmp_path, source))
    assert torch.equal(backbone.trunk.bn1.running_mean, source["bn1.running_mean"])


def test_half_precision_files_fill_float32_parameters(tmp_path: Path) -> None:
    source = {k: v.half() if v.is_floating_point() else v for k, v in pretrained(RESNET).items()}
    backbone = build(RESNET)
    load_pretrained(backbone, written(tmp_path, source))
    assert backbone.trunk.conv1.weight.dtype == torch.float32
    assert torch.equal(backbone.trunk.conv1.weight, source["conv1.weight"].float())


def test_what_is_frozen_stays_frozen(tmp_path: Path) -> None:
    backbone = build(RESNET, tuning="frozen")
    load_pretrained(backbone, written(tmp_path, pretrained(RESNET)))
    assert not any(parameter.requires_grad for parameter in backbone.trunk.parameters())


def test_random_is_said_aloud() -> None:
    backbone = build(RESNET)
    before = state(backbone)
    assert "random weights, as asked for" in load_pretrained(backbone, "random")
    assert all(torch.equal(tensor, before[name]) for name, tensor in state(backbone).items())


@pytest.mark.parametrize(
    ("model", "change", "message"),
    [
        (VIT, {"blocks.1.attn.qkv.weight": None}, "lacks 1 tensor: blocks.1.attn.qkv.weight"),
        (VIT, {"blocks.9.norm1.weight": torch.ones(24)}, "has unknown 1 tensor: blocks.9.norm1.weight"),
        (VIT, {"norm.weight": torch.ones(25)}, "has misshapen 1 tensor: norm.weight"),
        (VIT, {"pos_embed": torch.ones(1, 8, 24)}, "cannot be brought to the layout of VisionTransformer"),
        (VIT, {"pos_embed": torch.ones(1, 26, 25)}, "has misshapen 1 tensor: pos_embed"),
        (RESNET, {"bn1.running_var": None}, "lacks 1 tensor: bn1.running_var"),
        (RESNET, {"layer5.weight": torch.ones(1)}, "has unknown 1 tensor: layer5.weight"),
        (SWIN, {"layers.0.blocks.7.attn.relative_position_bias_table": torch.ones(169, 1)}, "has unknown 1 tensor"),
    ],
)
def test_files_that_do_not_fit_are_refused(
    model: str, change: dict[str, Tensor | None], message: str, tmp_path: Path
) -> None:
    changed = {name: tensor for name, tensor in (pretrained(model) | change).items() if tensor is not None}
    backbone = build(model)
    before = state(backbone)
    with pytest.raises(CheckpointError) as caught:
        load_pretrained(backbone, written(tmp_path, changed))
    assert message in str(caught.value)
    assert all(torch.equal(tensor, before[name]) for name, tensor in state(backbone).items()), "nothing half loaded"


@pytest.mark.parametrize("model", [VIT, SWIN, RESNET])
@pytest.mark.parametrize("other", [VIT, SWIN, RESNET, RADIO])
def test_weights_of_another_network_are_refused(model: str, other: str, tmp_path: Path) -> None:
    if model == other:
        return
    with pytest.raises(CheckpointError, match=r"does not fit|cannot be brought"):
        load_pretrained(build(model), written(tmp_path, pretrained(other)))


@pytest.mark.parametrize("name", ["weights.pth", "weights.bin", "hubb"])
def test_pickles_are_refused_unread(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    with pytest.raises(CheckpointError, match=r"pickle .*, which is not read: .*; convert .*save_file"):
        load_pretrained(build(RESNET), tmp_path / name)


def test_files_that_are_no_weights_are_refused(tmp_path: Path) -> None:
    backbone = build(RESNET)
    with pytest.raises(CheckpointError, match="does not exist"):
        load_pretrained(backbone, str(tmp_path / "none.safetensors"))
    (tmp_path / "broken.safetensors").write_bytes(b"\x10\x00")
    with pytest.raises(CheckpointError, match="not a readable safetensors file"):
        load_pretrained(backbone, tmp_path / "broken.safetensors")
    ours = written(tmp_path, pretrained(RESNET), metadata={"hdmap": "{}"})
    with pytest.raises(CheckpointError, match="a checkpoint of hdmap_ros"):
        load_pretrained(backbone, ours)


def test_the_hub_is_asked_for_timms_safetensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, asked = written(tmp_path, pretrained(RESNET)), []

    def download(repository: str, filename: str, **options: Any) -> str:
        asked.append((repository, filename))
        return str(source)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    backbone = build(RESNET)
    load_pretrained(backbone, "hub")
    assert asked == [("timm/resnet18.tv_in1k", "model.safetensors")]
    assert torch.equal(backbone.trunk.conv1.weight, pretrained(RESNET)["conv1.weight"])


def test_a_missing_network_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError) as caught:
        load_pretrained(build(RESNET), "hub")
    message = str(caught.value)
    assert "switched off (HF_HUB_OFFLINE)" in message and "or say 'random'" in message
    assert "hf download timm/resnet18.tv_in1k model.safetensors" in message


def test_an_unreachable_hub_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    with pytest.raises(CheckpointError, match=r"the hub cannot be reached .* bring the file here and give its path"):
        load_pretrained(build(RESNET), "hub")


def test_networks_without_published_weights_are_told() -> None:
    backbone = build(RESNET)
    backbone.trunk.pretrained_cfg = {}
    with pytest.raises(CheckpointError, match="timm knows no weights"):
        load_pretrained(backbone, "hub")
