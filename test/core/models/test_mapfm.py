"""MapFM as a whole, from camera images to polylines: order of the cameras, missing ones, batches, heads of training."""

import functools
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hdmap_core.geometry import BEVGrid, CameraRig, se3
from hdmap_core.model_io import ModelInput, ModelOutput, stack
from hdmap_core.models import MapModel, ModelConfig, build_model
from hdmap_core.models.backbones.image_backbone import ImageBackboneConfig
from hdmap_core.models.heads.auxiliary import AuxiliaryConfig, DepthConfig
from hdmap_core.models.heads.mapqr_decoder import MapQRDecoderConfig
from hdmap_core.models.view_transforms.bevformer import BEVFormerConfig
from hdmap_core.observation import Observation
from hdmap_core.preprocess import preprocess

GRIDS = [BEVGrid((-9.0, 9.0), (-6.0, 6.0), 1.5), BEVGrid((0.0, 9.0), (-3.0, 4.0), 1.0)]
SIZE = (48, 80)
BACKBONES = {
    "resnet": ImageBackboneConfig(
        model="resnet18.tv_in1k",
        image_size=(64, 96),
        features=(3, 4),
        aggregation="cnn",
        frozen_batch_norm=False,
        out_channels=12,
        arguments={"layers": [1, 1, 1, 1], "channels": [8, 8, 12, 16]},
    ),
    "vit": ImageBackboneConfig(
        image_size=(42, 70), out_channels=12, arguments={"embed_dim": 24, "num_heads": 2, "depth": 2}
    ),
}
FAMILIES = sorted(BACKBONES)


def config(family: str, grid: BEVGrid = GRIDS[0], **changes: Any) -> ModelConfig:
    content = {
        "backbone": BACKBONES[family],
        "view_transform": BEVFormerConfig(channels=16, layers=1, heads=4, feedforward=32, max_views=2),
        "vectors": MapQRDecoderConfig(
            num_queries=6, num_points=5, channels=16, layers=2, attention_heads=4, feedforward=32, one_to_many=2
        ),
        "auxiliary": AuxiliaryConfig(
            surface=("drivable_area",), depth=DepthConfig(max_depth=9.0, bin_size=2.0), channels=8
        ),
    }
    return ModelConfig(name="small", grid=grid, bev_encoder=None, segmentation=None, **(content | changes))


@functools.cache
def settled(family: str) -> MapModel:
    """A model in eval mode whose norms have statistics and whose zero-initialised layers have weights.

    Tests share it and leave it as it is.
    """
    torch.manual_seed(0)
    model = build_model(config(family))
    noise = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=noise)
        for seed in range(3):
            model(inputs(family, seed=10 + seed))
    return model.eval()


def surround(count: int = 4, seed: int = 0, missing: tuple[int, ...] = (), order: tuple[int, ...] = ()) -> Observation:
    """Cameras that look around at equal angles, each with noise of its own, listed in this order."""
    names, images, intrinsics, poses = [], [], [], []
    for number in order or range(count):
        yaw = 2 * np.pi * number / count
        forward, left = np.array([np.cos(yaw), np.sin(yaw), 0]), np.array([-np.sin(yaw), np.cos(yaw), 0])
        rotation = np.stack([-left, [0.0, 0.0, -1.0], forward], axis=1)
        noise = np.random.default_rng((seed, number)).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
        names.append(f"CAM_{number}")
        images.append(None if number in missing else noise)
        poses.append(se3.se3(rotation, 0.3 * forward + [0, 0, 1.6]))
        intrinsics.append(np.array([[30.0 + number + seed, 0, 39.5], [0, 30.0 + number, 20.0], [0, 0, 1]]))
    return Observation(tuple(images), CameraRig.from_arrays(names, intrinsics, poses, SIZE), stamp_ns=0, token="a")


def inputs(family: str, **options: Any) -> ModelInput:
    return preprocess(surround(**options), config(family))


def run(model: nn.Module, batch: ModelInput) -> dict[str, Tensor]:
    """All that an output holds, batch first; every number finite."""
    with torch.no_grad():
        output = model(batch)
    assert isinstance(output, ModelOutput) and output.vectors is not None
    vectors = {"logits": output.vectors.logits.transpose(0, 1), "points": output.vectors.points.transpose(0, 1)}
    tensors = {**vectors, **output.taps}
    assert all(torch.isfinite(value).all() for value in tensors.values())
    return tensors


def assert_equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def assert_close(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-4, atol=1e-5, msg=lambda text, name=name: name + text)


def assert_different(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    """All outputs, by much more than rounding."""
    for name in a:
        assert (a[name] - b[name]).abs().max() > 1e-3, name


def with_pixels(batch: ModelInput, camera: int, value: int) -> ModelInput:
    assert batch.images is not None
    images = batch.images.clone()
    images[:, camera] = value
    return replace(batch, images=images)


def masked(batch: ModelInput, *cameras: int) -> ModelInput:
    assert batch.camera_mask is not None
    mask = batch.camera_mask.clone()
    mask[:, list(cameras)] = False
    return replace(batch, camera_mask=mask)


def picked(batch: ModelInput, cameras: list[int]) -> ModelInput:
    """The batch with these cameras in this order."""
    return ModelInput(**{f.name: v[:, cameras] for f in fields(batch) if (v := getattr(batch, f.name)) is not None})


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("grid", GRIDS, ids=["around", "ahead"])
@pytest.mark.parametrize("cameras", [2, 5])
def test_shapes(family: str, grid: BEVGrid, cameras: int) -> None:
    settings = config(family, grid)
    model = build_model(settings)
    batch = stack([preprocess(surround(cameras, seed), settings) for seed in range(2)])
    rows, columns = grid.shape
    output = model.eval()(batch)
    assert output.vectors is not None and output.semantic is None
    assert output.vectors.logits.shape == (2, 2, 6, 3)
    assert output.vectors.points.shape == (2, 2, 6, 5, 2)
    assert output.taps["camera"].shape == output.taps["bev"].shape == (2, 16, rows, columns)
    found = model.train()(batch).auxiliary
    assert found is not None
    h, w = model.backbone.feature_size  # type: ignore[union-attr]
    assert found.surface.shape == (2, 1, rows, columns) and found.bev_lines.shape == (2, 1, rows, columns)
    assert found.image_lines.shape == (2, cameras, 1, h, w) and found.depth.shape == (2, cameras, 4, h, w)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("order", [(3, 2, 1, 0), (2, 0, 3, 1)])
def test_the_same_result_whichever_order_the_cameras_come_in(family: str, order: tuple[int, ...]) -> None:
    model = settled(family)
    expected = run(model, inputs(family))
    assert_equal(run(model, inputs(family, order=order)), expected)
    assert_equal(run(model, inputs(family, order=order, missing=(2,))), run(model, inputs(family, missing=(2,))))
    assert_different(run(model, inputs(family, seed=1)), expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_network_itself_has_no_order_either(family: str) -> None:
    """Without the sorting that `preprocess` does: only rounding differs."""
    model, batch = settled(family), masked(inputs(family), 1)
    assert_close(run(model, picked(batch, [2, 0, 3, 1])), run(model, batch))
    assert batch.images is not None  # pixels of one camera with the calibration of another are another thing
    assert_different(run(model, replace(batch, images=batch.images[:, [2, 0, 3, 1]])), run(model, batch))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("lost", [0, 2])
def test_a_masked_camera_is_one_that_is_not_there(family: str, lost: int) -> None:
    model, whole = settled(family), inputs(family)
    batch = masked(whole, lost)
    expected = run(model, batch)
    assert_equal(run(model, with_pixels(batch, lost, 255)), expected)
    assert_equal(run(model, with_pixels(batch, lost, 0)), expected)
    assert_different(run(model, with_pixels(whole, lost, 255)), run(model, whole))
    assert_different(expected, run(model, whole))
    others = [camera for camera in range(4) if camera != lost]
    assert_close(run(model, picked(whole, others)), expected)
    assert_equal(run(model, inputs(family, missing=(lost,))), expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_camera_that_the_rig_does_not_have_is_one_that_is_masked(family: str) -> None:
    """Its projection is all zeros."""
    model, settings = settled(family), config(family)
    assert settings.backbone is not None
    backbone = settings.backbone.model_copy(update={"cameras": ("CAM_0", "CAM_9", "CAM_3", "CAM_1", "CAM_2")})
    batch = preprocess(surround(), settings.model_copy(update={"backbone": backbone}))
    assert batch.camera_mask is not None and batch.camera_mask.tolist() == [[True, False, True, True, True]]
    assert_close(run(model, batch), run(model, inputs(family)))


@pytest.mark.parametrize("family", FAMILIES)
def test_no_camera_at_all_gives_numbers_and_the_same_ones_whatever_the_pixels(family: str) -> None:
    model = settled(family)
    blind = run(model, inputs(family, missing=(0, 1, 2, 3)))
    assert_equal(blind, run(model, masked(inputs(family), 0, 1, 2, 3)))
    assert_different(blind, run(model, inputs(family)))
    both = stack([inputs(family, missing=(0, 1, 2, 3)), inputs(family)])
    assert_close({name: value[:1] for name, value in run(model, both).items()}, blind)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_step_of_training_without_any_camera_is_finite(family: str) -> None:
    torch.manual_seed(0)
    model = build_model(config(family)).train()
    output = model(inputs(family, missing=(0, 1, 2, 3)))
    assert output.vectors is not None
    (output.vectors.logits.square().mean() + output.vectors.points.square().mean()).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("family", FAMILIES)
def test_batched_is_single(family: str) -> None:
    model = settled(family)
    singles = [inputs(family), inputs(family, seed=1, missing=(1,)), inputs(family, seed=2)]
    together = run(model, stack(singles))
    for index, single in enumerate(singles):
        assert_close({name: value[index : index + 1] for name, value in together.items()}, run(model, single))
    assert_different({name: value[:1] for name, value in together.items()}, run(model, singles[2]))


@pytest.mark.parametrize("family", FAMILIES)
def test_inputs_are_left_as_they_were(family: str) -> None:
    torch.manual_seed(0)
    model, batch = build_model(config(family)).train(), inputs(family, missing=(1,))
    before = {f.name: v.clone() for f in fields(batch) if (v := getattr(batch, f.name)) is not None}
    assert set(before) == {"images", "projection", "camera_mask"}
    for mode in (True, False):
        model.train(mode)(batch)
        assert all(torch.equal(getattr(batch, name), value) for name, value in before.items())


@pytest.mark.parametrize("family", FAMILIES)
def test_inference_neither_has_nor_runs_what_training_only_has(family: str) -> None:
    torch.manual_seed(0)
    model, batch = build_model(config(family)), inputs(family)
    assert model.auxiliary_heads is not None
    ran: list[nn.Module] = []
    for module in model.auxiliary_heads.modules():
        module.register_forward_hook(lambda module, _inputs, _output: ran.append(module))
    output = model.eval()(batch)
    assert output.auxiliary is None and output.vectors is not None and output.vectors.one_to_many is None
    assert ran == []
    output = model.train()(batch)
    assert output.auxiliary is not None and output.vectors is not None
    many = output.vectors.one_to_many
    assert many is not None and many.logits.shape == (2, 1, 12, 3) and many.points.shape == (2, 1, 12, 5, 2)
    assert len(ran) == 1 + 4 * 4, "the slot, and of each of its four heads a sequence of three layers"


def test_the_heads_of_training_change_no_prediction() -> None:
    """A checkpoint's auxiliary heads may be dropped."""
    model = settled("resnet")
    bare = build_model(config("resnet", auxiliary=None)).eval()
    missing, further = bare.load_state_dict(model.state_dict(), strict=False)
    assert missing == [] and further and all(name.startswith("auxiliary_heads.") for name in further)
    assert_equal(run(bare, inputs("resnet")), run(model, inputs("resnet")))
