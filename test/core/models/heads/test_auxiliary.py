"""The heads that only training has: shapes, batch independence, gradients, untouched inputs, any subset of them."""

from itertools import product

import pytest
import torch
from torch import Tensor

from hdmap_core.config import parse_config
from hdmap_core.errors import ConfigError
from hdmap_core.models import ModelConfig
from hdmap_core.models.heads.auxiliary import AuxiliaryConfig, AuxiliaryHeads, DepthConfig

SMALL_DEPTH = DepthConfig(min_depth=1.0, max_depth=7.0, bin_size=2.0)
ALL = AuxiliaryConfig(surface=("ped_crossing", "drivable_area"), depth=SMALL_DEPTH, channels=6)
CHANNELS = {"image_channels": 5, "bev_channels": 4}


def build(config: AuxiliaryConfig = ALL) -> AuxiliaryHeads:
    torch.manual_seed(0)
    return AuxiliaryHeads(config, **CHANNELS)


def random_features(batch: int = 2, cameras: int = 3, grid: tuple[int, int] = (6, 9)) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(batch, cameras, CHANNELS["image_channels"], 4, 7, generator=generator)
    return features, torch.randn(batch, CHANNELS["bev_channels"], *grid, generator=generator)


@pytest.mark.parametrize("grid", [(6, 9), (11, 8)])
@pytest.mark.parametrize("cameras", [1, 3])
def test_shapes(grid: tuple[int, int], cameras: int) -> None:
    output = build()(*random_features(2, cameras, grid))
    assert output.surface is not None and output.surface.shape == (2, 2, *grid)
    assert output.bev_lines is not None and output.bev_lines.shape == (2, 1, *grid)
    assert output.image_lines is not None and output.image_lines.shape == (2, cameras, 1, 4, 7)
    assert output.depth is not None and output.depth.shape == (2, cameras, 3, 4, 7)


@pytest.mark.parametrize(("surface", "bev", "image", "depth"), list(product([False, True], repeat=4)))
def test_any_subset(surface: bool, bev: bool, image: bool, depth: bool) -> None:
    config = AuxiliaryConfig(
        surface=("drivable_area",) if surface else (),
        bev_lines=bev,
        image_lines=image,
        depth=SMALL_DEPTH if depth else None,
        channels=6,
    )
    heads = build(config)
    features, bev_features = random_features()
    output = heads(features if image or depth else None, bev_features)
    asked = {"surface": surface, "bev_lines": bev, "image_lines": image, "depth": depth}
    assert {name: getattr(output, name) is not None for name in asked} == asked
    assert len(list(heads.parameters())) == 3 * sum(asked.values())  # what is not asked for has no weights


def test_batched_is_single() -> None:
    heads, (features, bev) = build(), random_features()
    together = heads(features, bev)
    for index in range(2):
        alone = heads(features[index : index + 1], bev[index : index + 1])
        for name in ("surface", "bev_lines", "image_lines", "depth"):
            torch.testing.assert_close(getattr(together, name)[index], getattr(alone, name)[0])


def test_cameras_in_any_order() -> None:
    heads, (features, bev) = build(), random_features()
    straight, turned = heads(features, bev), heads(features[:, [2, 0, 1]], bev)
    torch.testing.assert_close(straight.image_lines[:, [2, 0, 1]], turned.image_lines)
    torch.testing.assert_close(straight.depth[:, [2, 0, 1]], turned.depth)


def test_gradients_reach_everything_and_inputs_stay() -> None:
    heads, inputs = build(), random_features()
    before = [value.clone() for value in inputs]
    for value in inputs:
        value.requires_grad_()
    output = heads(*inputs)
    sum(getattr(output, name).square().sum() for name in ("surface", "bev_lines", "image_lines", "depth")).backward()
    for name, parameter in heads.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
    for value, copy in zip(inputs, before, strict=True):
        assert torch.equal(value, copy) and value.grad is not None and value.grad.abs().sum() > 0


def test_published_sizes() -> None:
    """Two line heads have 1.18 M parameters, the surface head 0.59 M; MapTRv2 has 68 depth bins."""
    heads = AuxiliaryHeads(
        AuxiliaryConfig(surface=("ped_crossing", "drivable_area")), image_channels=256, bev_channels=256
    )
    counts = {name: sum(p.numel() for p in head.parameters()) for name, head in heads.named_children()}
    assert counts == {"surface": 590_338, "bev_lines": 590_081, "image_lines": 590_081}
    assert DepthConfig().num_bins == 68


def test_depth_of_the_view_transform_is_handed_on() -> None:
    config = ALL.model_copy(update={"depth": SMALL_DEPTH.model_copy(update={"said_by": "view_transform"})})
    heads, features = build(config), random_features()
    given = torch.randn(2, 3, 3, 4, 7)
    assert heads(*features, given).depth is given and heads.depth is None
    with pytest.raises(ValueError, match="not given"):
        heads(*features)


@pytest.mark.parametrize(
    ("view", "depth", "message"),
    [
        ({"kind": "bevformer"}, {}, "needs the view transform depth_lift_splat"),
        ({"kind": "depth_lift_splat"}, {"max_depth": 45.0}, "from 1.0 to 45.0 m by 0.5 m, the view transform from 1.0"),
        ({"kind": "depth_lift_splat", "depth_step": 1.0}, {}, "to 35.0 m by 1.0 m; give both the same"),
    ],
)
def test_depth_of_a_view_transform_must_be_there_and_have_the_same_bins(view: dict, depth: dict, message: str) -> None:
    content = {"name": "x", "backbone": {}, "view_transform": view}
    auxiliary = {"depth": {"said_by": "view_transform", **depth}}
    with pytest.raises(ConfigError, match=message):
        parse_config(ModelConfig, {**content, "auxiliary": auxiliary}, "recipe.yaml")


def test_image_heads_need_a_backbone() -> None:
    with pytest.raises(ConfigError, match=r"auxiliary\.image_lines reads image features"):
        AuxiliaryHeads(AuxiliaryConfig(), image_channels=None, bev_channels=4)
    with pytest.raises(ConfigError, match=r"auxiliary\.depth reads image features"):
        AuxiliaryHeads(AuxiliaryConfig(image_lines=False, depth=SMALL_DEPTH), image_channels=None, bev_channels=4)
    heads = AuxiliaryHeads(AuxiliaryConfig(image_lines=False, channels=6), image_channels=None, bev_channels=4)
    assert heads(None, random_features()[1]).bev_lines is not None
    with pytest.raises(ValueError, match="features were not given"):
        build()(None, random_features()[1])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"surface": ["drivable_area", "drivable_area"]}, "names a layer twice"),
        ({"surface": ["grass"]}, "'ped_crossing', 'drivable_area' or 'road_segment'"),
        ({"depth": {"bin_size": 0.7}}, "not a whole number of bins"),
        ({"bev_line": True}, "did you mean 'bev_lines'"),
    ],
)
def test_wrong_configs_say_what_is_wrong(content: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config(AuxiliaryConfig, content, "recipe.yaml")
