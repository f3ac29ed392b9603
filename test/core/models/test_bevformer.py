"""The BEV encoder as a whole: what every view transform must keep, heights, rigs, precision, export."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hdmap_core.errors import ConfigError
from hdmap_core.geometry import BEVGrid, CameraRig
from hdmap_core.model_io import ModelInput
from hdmap_core.models.view_transforms.bevformer import BEVFormer, BEVFormerConfig
from hdmap_core.models.view_transforms.pillar_projection import (
    PairViews,
    PillarPairs,
    project_pairs,
)

GRIDS = [BEVGrid((-9.0, 9.0), (-4.5, 4.5), 1.5), BEVGrid((0.0, 8.8), (-3.0, 4.2), 0.8)]  # even and odd numbers of cells
KINDS = ["height_kernel", "kernel", "nearest_kernel", "deformable"]
SIZE = (48, 80)
IN_CHANNELS = 6


def rig(cameras: int, seed: int, image_size: tuple[int, int] = SIZE) -> CameraRig:
    """A ring of tilted cameras with overlapping views."""
    rng = np.random.default_rng(seed)
    poses, intrinsics = [], []
    for index in range(cameras):
        yaw, tilt = 2 * np.pi * index / cameras + rng.uniform(-0.3, 0.3), rng.uniform(0.05, 0.25)
        turn = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
        down = np.array([[np.cos(tilt), 0, np.sin(tilt)], [0, 1, 0], [-np.sin(tilt), 0, np.cos(tilt)]])
        pose = np.eye(4)
        pose[:3, :3] = turn @ down @ np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
        pose[:3, 3] = [np.cos(yaw), np.sin(yaw), rng.uniform(1.4, 2.0)]
        focal = image_size[1] * rng.uniform(0.4, 0.6)
        intrinsics.append(np.array([[focal, 0, image_size[1] / 2], [0, focal, image_size[0] / 2], [0, 0, 1]]))
        poses.append(pose)
    return CameraRig.from_arrays([f"camera_{i}" for i in range(cameras)], intrinsics, poses, image_size)


def build(grid: BEVGrid = GRIDS[0], **changes: Any) -> BEVFormer:
    """A small one with all parameters away from their zeros."""
    torch.manual_seed(0)
    small = {"channels": 16, "layers": 2, "heads": 4, "feedforward": 24, "kernel_size": (2, 3)}
    module = BEVFormer(BEVFormerConfig(**(small | changes)), grid=grid, in_channels=IN_CHANNELS).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.1 * torch.randn(parameter.shape)
    return module


def batch_of(rigs: list[CameraRig], seed: int = 0) -> tuple[Tensor, ModelInput]:
    generator = torch.Generator().manual_seed(seed)
    cameras = rigs[0].num_cameras
    features = torch.randn(len(rigs), cameras, IN_CHANNELS, 6, 10, generator=generator)
    projection = torch.stack([r.projection() for r in rigs]).float()
    images = torch.zeros(len(rigs), cameras, 3, *SIZE, dtype=torch.uint8)
    return features, ModelInput(images=images, projection=projection)


def test_published_size() -> None:
    """The published encoder layer has 644,616 parameters (counted from its layer sizes), and so has ours."""
    module = BEVFormer(BEVFormerConfig(), grid=BEVGrid(), in_channels=256)
    assert [sum(p.numel() for p in layer.parameters()) for layer in module.layers] == [644_616] * 3
    assert sum(p.numel() for p in module.parameters()) == 3 * 644_616 + 20_000 * 256 + (200 + 100) * 128
    torch.testing.assert_close(module.anchors, torch.linspace(-0.16, 3.84, 8))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("grid", GRIDS, ids=["even", "odd"])
@pytest.mark.parametrize("cameras", [2, 5])
def test_shapes(kind: str, grid: BEVGrid, cameras: int) -> None:
    module = build(grid, cross_attention=kind)
    with torch.no_grad():
        bev = module(*batch_of([rig(cameras, 1), rig(cameras, 2)]))
    assert bev.shape == (2, 16, *grid.shape) and bev.dtype == torch.float32 and module.out_channels == 16
    assert torch.isfinite(bev).all()


@pytest.mark.parametrize("kind", KINDS)
def test_batched_is_single_with_different_calibrations(kind: str) -> None:
    module = build(cross_attention=kind)
    features, inputs = batch_of([rig(3, seed) for seed in (1, 2, 3)])
    inputs.camera_mask = torch.tensor([[True, True, True], [True, False, True], [True, True, False]])
    with torch.no_grad():
        together = module(features, inputs)
        for b in range(3):
            single = ModelInput(**{k: None if v is None else v[b : b + 1] for k, v in vars(inputs).items()})
            torch.testing.assert_close(module(features[b : b + 1], single)[0], together[b], rtol=1e-4, atol=1e-5)
    assert (together[0] - together[1]).abs().max() > 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_a_masked_camera_is_one_that_is_not_there(kind: str) -> None:
    module = build(cross_attention=kind)
    full = rig(4, 5)
    features, inputs = batch_of([full])
    assert inputs.projection is not None
    masked = replace(inputs, camera_mask=torch.tensor([[True, True, False, True]]))
    nothing = replace(masked, projection=inputs.projection.index_fill(1, torch.tensor([2]), 0.0))
    keep = [0, 1, 3]
    _, fewer = batch_of([full.select([full.names[i] for i in keep])])
    with torch.no_grad():
        without = module(features[:, keep], fewer)
        torch.testing.assert_close(module(features, masked), without, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(module(features, nothing), without, rtol=1e-4, atol=1e-5)
        assert (module(features, inputs) - without).abs().max() > 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_the_cameras_does_not_matter(kind: str) -> None:
    module = build(cross_attention=kind)
    features, inputs = batch_of([rig(4, 5), rig(4, 6)])
    assert inputs.projection is not None and inputs.images is not None
    inputs.camera_mask = torch.tensor([[True, True, False, True]] * 2)
    order = [2, 0, 3, 1]
    turned = replace(inputs, projection=inputs.projection[:, order], camera_mask=inputs.camera_mask[:, order])
    with torch.no_grad():
        torch.testing.assert_close(module(features[:, order], turned), module(features, inputs), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_enough_views_are_as_good_as_all(kind: str) -> None:
    features, inputs = batch_of([rig(5, 5), rig(5, 6)])
    outputs = []
    for views in (None, 3, 1):
        with torch.no_grad():
            outputs.append(build(cross_attention=kind, max_views=views)(features, inputs))
    torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-4, atol=1e-5)
    assert (outputs[2] - outputs[0]).abs().max() > 0.05, "one view is less where two cameras see a cell"


def dense(module: BEVFormer, features: Tensor, inputs: ModelInput) -> Tensor:
    """What exports and GPUs compute: every cell in every camera."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("layers.deformable_attention", "view_transforms.bevformer", "view_transforms.bev_self_attention"):
            patch.setattr(f"hdmap_core.models.{name}.eager_on_cpu", lambda _: False)
        return module(features, inputs)


def surround(seed: int) -> list[CameraRig]:
    """A ring, one that overlaps in threes, one whose cameras all look the same way, in one batch."""
    ring, wide, same = rig(6, seed), rig(6, seed + 1), rig(6, seed + 2)
    wide.intrinsics[:, :2, :2] *= 0.4
    poses = [same.ego_from_camera[0].double().numpy()] * 6
    one_way = CameraRig.from_arrays(list(same.names), [same.intrinsics[0].double().numpy()] * 6, poses, SIZE)
    return [ring, wide, one_way]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("views", [None, 2, 6])
def test_existing_pairs_are_as_good_as_all(kind: str, views: int | None) -> None:
    """Outputs and gradients, of different rigs in a batch, of which cameras are missing."""
    module = build(cross_attention=kind, max_views=views)
    features, inputs = batch_of(surround(7))
    inputs.camera_mask = torch.tensor([[True] * 6, [True, True, False, True, True, True], [True, False] * 3])
    gradients, outputs = [], []
    for run in (module, lambda *arguments: dense(module, *arguments)):
        module.zero_grad()
        leaf = features.clone().requires_grad_()
        bev = run(leaf, inputs)
        (bev * torch.randn(bev.shape, generator=torch.Generator().manual_seed(1))).sum().backward()
        gradients.append([leaf.grad, *(p.grad for p in module.parameters())])
        outputs.append(bev.detach())
        with torch.inference_mode():
            torch.testing.assert_close(run(features, inputs), bev.detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-4, atol=1e-5)
    for got, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-3)


def test_no_camera_leaves_the_learned_map() -> None:
    module = build()
    features, inputs = batch_of([rig(3, 1), rig(3, 1)])
    inputs.camera_mask = torch.tensor([[False] * 3, [True] * 3])
    with torch.no_grad():
        blind = module(features, inputs)[0]
        blind_too = module(torch.randn(2, 3, IN_CHANNELS, 6, 10), inputs)[0]
    assert torch.equal(blind, blind_too) and torch.isfinite(blind).all()


def test_heights_stay_within_their_bound_and_add_up_over_the_layers() -> None:
    module = build(height_bound=0.5, layers=3)
    seen: list[Tensor] = []
    for layer in module.layers:
        layer.register_forward_pre_hook(lambda _, args, kwargs: seen.append(args[1]), with_kwargs=True, prepend=True)
    heights: list[Tensor] = []

    def record(pairs: PillarPairs, anchors: Tensor, image_size: tuple[int, int]) -> PairViews:
        heights.append(anchors)
        return project_pairs(pairs, anchors, image_size)

    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr("hdmap_core.models.view_transforms.bevformer.project_pairs", record)
        for layer in module.layers:
            layer.height.bias += torch.tensor([30.0, -30.0, 0.1, 0.1])
        module(*batch_of([rig(3, 1)]))
    assert len(heights) == 3 and not seen[0].any()
    moved = torch.stack(heights) - module.anchors
    assert moved.abs().max() <= 0.5 + 1e-5
    assert (moved[..., 0] > 0.49).all() and (moved[..., 1] < -0.49).all()
    torch.testing.assert_close(moved[0], 0.5 * (seen[1] / 0.5).tanh(), atol=1e-5, rtol=0)
    assert seen[2][..., 0].mean() > 1.5 * seen[1][..., 0].mean()


def silent_parameters(module: nn.Module) -> list[str]:
    return [
        name
        for name, p in module.named_parameters()
        if p.grad is None or not torch.isfinite(p.grad).all() or not p.grad.any()
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_receives_a_gradient(kind: str) -> None:
    module = build(cross_attention=kind, camera_embeddings=3).train()
    features, inputs = batch_of([rig(3, 1), rig(3, 2)])
    features.requires_grad_()
    bev = module(features, inputs)
    (bev * torch.randn(bev.shape, generator=torch.Generator().manual_seed(1))).sum().backward()
    assert silent_parameters(module) == []
    assert features.grad is not None and features.grad.any()


def test_first_step_moves_the_heights() -> None:
    """Heights and tap weights start at zero and must learn all the same; only the positions, which nothing but the
    zero-initialised offsets of the self-attention look at, have to wait for the second step, as published.
    """
    torch.manual_seed(0)
    settings = BEVFormerConfig(channels=16, layers=2, heads=4, feedforward=24)
    module = BEVFormer(settings, grid=GRIDS[0], in_channels=IN_CHANNELS)
    bev = module(*batch_of([rig(3, 1)]))
    (bev * torch.randn(bev.shape)).sum().backward()
    assert silent_parameters(module) == ["column_position", "row_position"]
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.grad is not None:
                parameter -= 0.1 * parameter.grad
    (module(*batch_of([rig(3, 1)])) * torch.randn(bev.shape)).sum().backward()
    assert silent_parameters(module) == []


@pytest.mark.parametrize("kind", KINDS)
def test_inputs_are_left_as_they_were(kind: str) -> None:
    features, inputs = batch_of([rig(3, 1), rig(3, 2)])
    inputs.camera_mask = torch.tensor([[True, False, True]] * 2)
    before = features.clone(), {k: None if v is None else v.clone() for k, v in vars(inputs).items()}
    build(cross_attention=kind)(features, inputs)
    assert torch.equal(features, before[0])
    for name, value in before[1].items():
        assert value is None or torch.equal(getattr(inputs, name), value), name


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
def test_half_precision(kind: str, dtype: torch.dtype) -> None:
    """Finite forward and backward, also with extreme features; near the float32 result with ordinary ones."""
    module = build(cross_attention=kind).train()
    features, inputs = batch_of([rig(3, 1), rig(3, 2)])
    with torch.no_grad():
        exact = module.eval()(features, inputs)
        with torch.autocast("cpu", dtype=dtype):
            rounded = module(features, inputs)
    assert (rounded.float() - exact).abs().mean() < 0.05
    with torch.autocast("cpu", dtype=dtype):
        bev = module.train()(100 * features, inputs)
    bev.float().square().mean().backward()
    assert torch.isfinite(bev).all() and silent_parameters(module) == []


@pytest.mark.parametrize("missing", ["images", "projection", "features"])
def test_what_is_missing_is_named(missing: str) -> None:
    features, inputs = batch_of([rig(3, 1)])
    with pytest.raises(ConfigError, match=missing):
        build()(
            None if missing == "features" else features,
            replace(inputs, **{missing: None} if missing != "features" else {}),
        )


def test_camera_embeddings_know_their_number() -> None:
    with pytest.raises(ConfigError, match="camera_embeddings is 4, but 3 cameras came"):
        build(camera_embeddings=4)(*batch_of([rig(3, 1)]))


class Exported(nn.Module):
    """Tensors in, tensors out."""

    def __init__(self, module: BEVFormer) -> None:
        super().__init__()
        self.module = module

    def forward(self, features: Tensor, images: Tensor, projection: Tensor, mask: Tensor) -> Tensor:
        return self.module(features, ModelInput(images=images, projection=projection, camera_mask=mask))


@pytest.mark.parametrize("kind", KINDS)
def test_it_exports(kind: str) -> None:
    module = Exported(build(cross_attention=kind, max_views=2))
    features, inputs = batch_of([rig(3, 1)])
    mask = torch.ones(1, 3, dtype=torch.bool)
    assert inputs.images is not None and inputs.projection is not None
    program = torch.export.export(module, (features, inputs.images, inputs.projection, mask))
    features, other = batch_of([rig(3, 7)], seed=3)
    assert other.images is not None and other.projection is not None
    arguments = features, other.images, other.projection, mask.logical_and(torch.tensor([True, False, True]))
    with torch.no_grad():
        torch.testing.assert_close(program.module()(*arguments), module(*arguments), rtol=1e-4, atol=1e-5)


def test_unbounded_heights_move_as_far_as_they_say() -> None:
    """Anchors lie where the offsets of the layers add up to, and what sees them is found however high they are."""
    module = build(height_bound=None)
    for layer in module.layers:
        torch.nn.init.constant_(layer.height.bias, 1.5)  # type: ignore[union-attr, arg-type]
        torch.nn.init.zeros_(layer.height.weight)  # type: ignore[union-attr, arg-type]
    features, inputs = batch_of(surround(1))
    looked: list[Tensor] = []
    original = module._look

    def watched(given: Any) -> Any:
        look = original(given)
        return lambda offsets: looked.append(offsets) or look(offsets)  # type: ignore[func-returns-value]

    module._look = watched  # type: ignore[method-assign]
    with torch.no_grad():
        module(features, inputs)
    assert [float(offsets.max()) for offsets in looked] == [1.5, 3.0]
    torch.testing.assert_close(dense(module, features, inputs), module(features, inputs).detach(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_unseen_cells_get_the_bias_where_that_is_asked_for(kind: str) -> None:
    module, published = build(cross_attention=kind), build(cross_attention=kind, unseen_bias=True)
    published.load_state_dict(module.state_dict())
    features, inputs = batch_of([rig(1, 0)])
    assert inputs.projection is not None
    blind = replace(inputs, camera_mask=torch.zeros(1, 1, dtype=torch.bool))
    attention = published.layers[0].cross_attention
    views = published._look((inputs.projection, SIZE, blind.camera_mask))(published.anchors.new_zeros(1, 72, 4))
    query = torch.randn(1, 72, 16)
    with torch.no_grad():
        given = attention(query, features, views)  # type: ignore[operator]
        torch.testing.assert_close(given, attention.output.bias.expand_as(given))  # type: ignore[union-attr, operator]
        assert module.layers[0].cross_attention(query, features, views).abs().max() == 0  # type: ignore[operator]
        assert (published(features, blind) - module(features, blind)).abs().max() > 1e-4


def test_halves_of_the_position_code_can_be_exchanged() -> None:
    module, other = build(GRIDS[1]), build(GRIDS[1], position_halves="row_column")
    first, second = module._position().chunk(2, dim=-1)
    torch.testing.assert_close(other._position(), torch.cat([second, first], dim=-1))


def test_without_the_half_pixel_places_are_shares_of_the_image() -> None:
    """Published: u / W. Here (u + 0.5) / W, so a projection that is half a pixel farther gives the same."""
    module, published = build(), build(half_pixel=False)
    features, inputs = batch_of(surround(2))
    assert inputs.projection is not None
    farther = inputs.projection.clone()
    farther[..., :2, :] += 0.5 * farther[..., 2:, :]
    with torch.no_grad():
        wanted = module(features, inputs)
        torch.testing.assert_close(
            published(features, replace(inputs, projection=farther)), wanted, atol=1e-4, rtol=1e-4
        )
        assert (published(features, inputs) - wanted).abs().max() > 1e-4


def test_nearest_kernels_read_whole_pixels_and_the_border_for_what_lies_beyond() -> None:
    """By hand, one cell and one camera; and pairs agree with all."""
    module = build(cross_attention="nearest_kernel", kernel_size=(3, 5), kernel_heads=2, layers=1)
    assert len(module.anchors) == 2 and module.anchors[0] - BEVFormerConfig().z_range[0] == pytest.approx(0.5)
    attention = module.layers[0].cross_attention
    value = torch.randn(1, 1, IN_CHANNELS, 6, 10)
    points = torch.tensor([[0.93, 0.04], [0.349, 0.75]])  # of the two anchors
    views = PairViews(
        pillar=torch.tensor([0]),
        camera=torch.tensor([0]),
        points=points[None],
        share=torch.ones(1),
        seen=torch.ones(1, 1).bool(),
    )
    query = torch.randn(1, 1, 16)
    wanted = torch.zeros(16)
    with torch.no_grad():
        weights = attention.weight(query).view(2, 15).softmax(-1)  # type: ignore[operator]
        maps = attention.value(value[0])[0].view(2, 8, 6, 10)  # type: ignore[operator]
        for head in range(2):
            for tap, (dy, dx) in enumerate((dy, dx) for dy in (-1, 0, 1) for dx in (-2, -1, 0, 1, 2)):
                x = min(max(round(float(points[head, 0]) * 10 + dx), 0), 9)
                y = min(max(round(float(points[head, 1]) * 6 + dy), 0), 5)
                wanted[8 * head : 8 * head + 8] += weights[head, tap] * maps[head, :, y, x]
        found = attention(query, value, views)  # type: ignore[operator]
        torch.testing.assert_close(found[0, 0], attention.output(wanted), atol=1e-4, rtol=1e-4)  # type: ignore[operator]
