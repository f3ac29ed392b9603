"""The slots one by one and together: shapes, batch independence, gradients, untouched inputs."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hdmap_core.config import parse_config
from hdmap_core.elements import MapClass
from hdmap_core.errors import ConfigError
from hdmap_core.geometry import BEVGrid
from hdmap_core.model_io import ModelInput, ModelOutput
from hdmap_core.models import MapModel, ModelConfig, build_model
from hdmap_core.models.bev_bottleneck import BEVBottleneck, BEVBottleneckConfig
from hdmap_core.models.bev_encoder import BEVEncoderConfig, BEVUNet
from hdmap_core.models.build import tap_channels
from hdmap_core.models.heads.segmentation import SegmentationConfig, SegmentationHead
from hdmap_core.models.heads.vector_decoder import VectorDecoder, VectorDecoderConfig
from hdmap_core.models.view_transforms.ground_pixels import GroundPixels, GroundPixelsConfig

GRIDS = [BEVGrid((-9.0, 9.0), (-4.5, 4.5), 0.5), BEVGrid((0.0, 8.8), (-3.0, 4.2), 0.4)]  # even and odd numbers of cells


DENSE = {"bev_encoder": {"kind": "resnet18"}, "dense": {}, "vectors": None, "segmentation": None}


def config(grid: BEVGrid = GRIDS[0], **changes: Any) -> ModelConfig:
    content = {
        "name": "small",
        "grid": grid,
        "view_transform": GroundPixelsConfig(channels=8, blocks=1),
        "bev_encoder": BEVEncoderConfig(channels=(12, 16), blocks=(1, 2), out_channels=8),
        "vectors": VectorDecoderConfig(num_queries=7, num_points=5, channels=16, layers=2),
    }
    return ModelConfig(**(content | changes))


def build(**changes: Any) -> MapModel:
    torch.manual_seed(0)
    return build_model(config(**changes))


def random_input(grid: BEVGrid, batch: int, seed: int = 0) -> ModelInput:
    rows, columns = grid.shape
    generator = torch.Generator().manual_seed(seed)
    return ModelInput(torch.randint(0, 256, (batch, 4, 2 * rows, 2 * columns), dtype=torch.uint8, generator=generator))


def settle(model: nn.Module, inputs: ModelInput) -> None:
    """Gives batch norms statistics and zero-initialised layers weights, so that outputs depend on the input."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
        for _ in range(3):
            model(inputs)
    model.eval()


def tensors_of(output: ModelOutput) -> dict[str, Tensor]:
    assert output.vectors is not None and output.semantic is not None
    vectors = {"logits": output.vectors.logits.transpose(0, 1), "points": output.vectors.points.transpose(0, 1)}
    return {**vectors, "semantic": output.semantic, **output.taps}


@pytest.mark.parametrize("grid", GRIDS, ids=["even", "odd"])
@pytest.mark.parametrize("batch", [1, 3])
def test_shapes(grid: BEVGrid, batch: int) -> None:
    model = build(grid=grid).eval()
    rows, columns = grid.shape
    with torch.no_grad():
        output = model(random_input(grid, batch))
    assert output.vectors is not None and output.semantic is not None
    assert output.vectors.logits.shape == (2, batch, 7, 3)
    assert output.vectors.points.shape == (2, batch, 7, 5, 2)
    assert output.semantic.shape == (batch, 3, 2 * rows, 2 * columns)
    assert output.taps["camera"].shape == output.taps["bev"].shape == (batch, 8, rows, columns)
    points = output.vectors.points
    assert points.min() >= 0 and points.max() <= 1


def test_batched_is_single() -> None:
    model = build()
    settle(model, random_input(GRIDS[0], 4, seed=1))
    batch = random_input(GRIDS[0], 3)
    assert batch.ground is not None
    with torch.no_grad():
        together = tensors_of(model(batch))
        for index in range(3):
            alone = tensors_of(model(ModelInput(batch.ground[index : index + 1])))
            for name, value in alone.items():
                torch.testing.assert_close(value[0], together[name][index], rtol=1e-4, atol=1e-4, msg=name)
    assert (together["semantic"][0] - together["semantic"][1]).abs().max() > 1e-3, "the inputs matter"
    assert (together["points"][0] - together["points"][1]).abs().max() > 1e-5


def test_every_parameter_receives_a_gradient() -> None:
    model = build()
    settle(model, random_input(GRIDS[0], 2, seed=1))
    model.train()
    output = model(random_input(GRIDS[0], 2))
    assert output.vectors is not None and output.semantic is not None
    generator = torch.Generator().manual_seed(5)
    loss = sum(
        (value * torch.randn(value.shape, generator=generator)).sum()
        for value in (output.vectors.logits, output.vectors.points, output.semantic)
    )
    assert isinstance(loss, Tensor)
    loss.backward()
    silent = [
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is None or not torch.isfinite(parameter.grad).all() or not parameter.grad.any()
    ]
    assert silent == []


def test_inputs_are_left_as_they_were() -> None:
    model = build()
    inputs = random_input(GRIDS[0], 2)
    assert inputs.ground is not None
    before = inputs.ground.clone()
    model(inputs)
    assert torch.equal(inputs.ground, before)


@pytest.mark.parametrize("slot", ["bev_encoder", "vector_head", "segmentation_head"])
def test_slots_leave_their_inputs_alone(slot: str) -> None:
    model = build()
    bev = torch.randn(2, 8, 18, 36)
    before = bev.clone()
    argument = bev if slot != "vector_head" else [bev, torch.randn(2, 8, 9, 18), torch.randn(2, 8, 5, 9)]
    getattr(model, slot)(argument)
    assert torch.equal(bev, before)


@pytest.mark.parametrize("missing", ["vectors", "segmentation"])
def test_a_head_that_is_null_leaves_its_output_none(missing: str) -> None:
    output = build(**{missing: None}).eval()(random_input(GRIDS[0], 1))
    assert (output.vectors is None) == (missing == "vectors")
    assert (output.semantic is None) == (missing == "segmentation")


def test_what_the_view_transform_needs_is_named() -> None:
    with pytest.raises(ConfigError, match=r"view_transform .* needs ModelInput\.ground"):
        build()(ModelInput())


def test_a_backbone_needs_images() -> None:
    backbone = {"model": "resnet18.tv_in1k", "image_size": [64, 96], "features": [2]}
    content = {"name": "x", "grid": GRIDS[0], "backbone": backbone, "view_transform": {"kind": "lift_splat"}}
    with pytest.raises(ConfigError, match=r"backbone needs ModelInput\.images"):
        build_model(parse_config(ModelConfig, content, "recipe"))(ModelInput())


def test_grid_and_classes_shape_the_model() -> None:
    model = build(classes=(MapClass.DIVIDER, MapClass.CENTERLINE))
    output = model.eval()(random_input(GRIDS[0], 1))
    assert output.vectors is not None and output.semantic is not None
    assert (output.vectors.logits.shape[-1], output.semantic.shape[1]) == (2, 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vectors": None, "segmentation": None}, "a model needs a head"),
        ({"vectors": {"kind": "scatter_gather", "levels": [5]}}, "vectors.levels is [5], but the BEV encoder makes 4"),
        ({"vectors": {"kind": "scatter_gather", "channels": 30}}, "multiple of attention_heads"),
        ({"bev_encoder": {"kind": "unet", "channels": [8, 8]}}, "channels has 2 levels, blocks 3"),
        ({"classes": []}, "at least one class"),
        ({"classes": ["divider", "divider"]}, "none twice"),
        ({"classes": ["kerb"]}, "classes.0"),
        ({"vectors": {"kind": "detr"}}, "vectors"),
        ({"vectors": {"num_queries": 9}}, "vectors needs kind: one of 'scatter_gather', 'mapqr'"),
        ({"view_transform": {"kind": "bevformer"}}, "every other one needs a backbone"),
        ({"backbone": {}}, "needs backbone: null"),
        ({**DENSE, "classes": ["divider", "centerline"]}, "dense heads cannot have the class centerline"),
        ({"sd_prior": {}, "grid": {"x_range": [-150, 150]}}, "the grid reaches 151 m, roads are known up to 130 m"),
    ],
)
def test_configs_that_cannot_work_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(ModelConfig, {"name": "x", **change}, "recipe")
    assert message in str(caught.value)


def test_ground_pixels_sees_every_pixel_of_its_cell_and_no_other() -> None:
    grid = GRIDS[0]
    module = GroundPixels(GroundPixelsConfig(channels=8), grid=grid).eval()
    with torch.no_grad():  # a 1x1 view of the stem: mean over the cell's sub-pixels of every channel
        module.stem[0].weight.zero_()
        module.stem[0].weight[:, :16, 1, 1] = 1.0
    base = torch.full((1, 4, 36, 72), 128, dtype=torch.uint8)
    with torch.no_grad():
        still = module(None, ModelInput(base))
        for row, column in [(10, 20), (11, 20), (10, 21), (11, 21)]:
            changed = base.clone()
            changed[0, 1, row, column] = 255
            moved = (module(None, ModelInput(changed)) - still).abs().sum(dim=1)[0]
            assert moved.nonzero().tolist() == [[5, 10]]


def test_position_grows_with_x_along_columns_and_y_along_rows() -> None:
    position = GroundPixels(GroundPixelsConfig(), grid=GRIDS[0]).position[0]
    assert position.shape == (3, 18, 36)
    assert (position[0].diff(dim=1) > 0).all() and (position[1].diff(dim=0) > 0).all()
    assert position[:2].abs().max() < 1
    assert "position" not in GroundPixels(GroundPixelsConfig(), grid=GRIDS[0]).state_dict()


def test_encoder_pyramid_is_finest_first() -> None:
    encoder = BEVUNet(BEVEncoderConfig(channels=(12, 16), blocks=(1, 0), out_channels=6), in_channels=5)
    pyramid = encoder(torch.randn(2, 5, 19, 30))
    assert [tuple(level.shape) for level in pyramid] == [(2, 6, 19, 30), (2, 6, 10, 15), (2, 6, 5, 8)]


@pytest.mark.parametrize("upscale", [1, 2, 3])
def test_segmentation_upscale(upscale: int) -> None:
    head = SegmentationHead(SegmentationConfig(upscale=upscale), in_channels=4, num_classes=3)
    assert head(torch.randn(2, 4, 6, 7)).shape == (2, 3, 6 * upscale, 7 * upscale)


def test_decoder_reads_the_features_where_its_points_are() -> None:
    """A bump under one query's points changes that query's class, and the layout (x, y) = (column, row) holds."""
    torch.manual_seed(3)
    settings = VectorDecoderConfig(num_queries=1, num_points=3, channels=8, layers=1, levels=(0,), attention_heads=2)
    decoder = VectorDecoder(settings, in_channels=4, num_classes=2).eval()
    with torch.no_grad():
        decoder.layers[0].offset.bias.zero_()
        decoder.reference[:] = torch.tensor([0.8, 0.2]).logit()  # x towards the end of a row, y near the first rows
    bev = torch.zeros(1, 4, 10, 20, requires_grad=True)
    decoder([bev]).logits.sum().backward()
    assert bev.grad is not None
    touched = bev.grad.abs().sum(dim=(0, 1)).nonzero()
    assert set(touched[:, 0].tolist()) <= {1, 2} and set(touched[:, 1].tolist()) <= {15, 16}
    assert len(touched)


def test_first_points_lie_inside_and_apart() -> None:
    decoder = VectorDecoder(VectorDecoderConfig(), in_channels=4, num_classes=3)
    place = decoder.reference.sigmoid()
    assert place.shape == (40, 20, 2) and place.min() > 0.01 and place.max() < 0.99
    middles = place.mean(dim=1)
    assert torch.pdist(middles).min() > 0.01


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"bev_encoder": None, "vectors": {"kind": "scatter_gather", "levels": [0]}},
        {"bottleneck": {"channels": 12, "hidden": 6}, "view_transform": {"kind": "ground_pixels", "channels": 8}},
        {**DENSE, "bottleneck": {"channels": 12, "hidden": 6, "skip": True}},
        {**DENSE, "sd_prior": {"channels": 16}},
    ],
)
@pytest.mark.parametrize("grid", GRIDS)
def test_taps_are_as_wide_as_announced(changes: dict[str, Any], grid: BEVGrid) -> None:
    chosen = config(grid, **changes)
    inputs = random_input(grid, 1)
    inputs.sd_raster = torch.ones(1, 1, *grid.shape)
    with torch.no_grad():
        taps = build_model(chosen)(inputs).taps
    assert {name: tap.shape[1] for name, tap in taps.items()} == tap_channels(chosen)
    eighth = tuple(-(-side // 8) for side in grid.shape)
    for name, tap in taps.items():
        assert name == "bev" or tap.shape[-2:] == (eighth if name in ("bev_small", "bev_out") else grid.shape), name


def test_bottleneck_by_hand() -> None:
    """The skip adds what went in, widened; the border is padded, then cut."""
    torch.manual_seed(0)
    plain = BEVBottleneck(BEVBottleneckConfig(channels=4, hidden=3), in_channels=2, size=(10, 19)).eval()
    skipping = BEVBottleneck(BEVBottleneckConfig(channels=4, hidden=3, skip=True), in_channels=2, size=(10, 19)).eval()
    skipping.load_state_dict(plain.state_dict())
    features = torch.randn(1, 2, 10, 19)
    bev, small = plain(features)
    assert bev.shape == (1, 4, 10, 19) and small.shape == (1, 4, 2, 3)
    torch.testing.assert_close(skipping(features).bev, bev + plain.widen(features))
    torch.testing.assert_close(bev[..., 0, 0], small[..., 0, 0])  # corners lie on corners
    with pytest.raises(ConfigError, match="only one of sd_prior and bottleneck"):
        parse_config(ModelConfig, {"name": "two", "sd_prior": {}, "bottleneck": {}}, "recipe")


def test_bottleneck_leads_to_the_grid_as_published() -> None:
    """MapKD's student: whatever comes in, the rasters have the grid's cells, read with unaligned corners."""
    torch.manual_seed(0)
    sizes = BEVBottleneckConfig(channels=4, hidden=3, aligned_corners=False)
    bev, small = BEVBottleneck(sizes, in_channels=2, size=(40, 80)).eval()(torch.randn(1, 2, 16, 32))
    wanted = torch.nn.functional.interpolate(small, size=(40, 80), mode="bilinear", align_corners=False)
    torch.testing.assert_close(bev, wanted)
    dense: dict[str, Any] = {"bev_encoder": {"kind": "resnet18"}, "vectors": None, "segmentation": None, "dense": {}}
    backbone = {"model": "resnet18.tv_in1k", "image_size": [64, 96], "cameras": ["A"]}
    view = {"kind": "mlp_ipm", "cell": 1.2}
    model = {"name": "m", "backbone": backbone, "view_transform": view, **dense}
    with pytest.raises(ConfigError, match="needs a bottleneck"):
        parse_config(ModelConfig, model, "recipe")
    chosen = parse_config(ModelConfig, {**model, "bottleneck": {}}, "recipe")
    assert build_model(chosen).view_transform.shape == (25, 50)  # type: ignore[union-attr]
