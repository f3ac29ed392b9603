"""HDMapNet and P-MapNet, made small, on real batches of images, LiDAR points and SD maps, with their real losses."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hdmap_core.datasets.nuscenes import NuScenesDataset
from hdmap_core.geometry import CameraRig
from hdmap_core.model_io import DenseOutput, ModelInput, stack
from hdmap_core.models import MapModel, build_model
from hdmap_core.observation import Observation
from hdmap_core.preprocess import preprocess
from training.config import TrainConfig
from training.data.batches import Batch, make_batch
from training.data.keyframes import load_keyframes, sweeps_for
from training.fit.optimiser import build_optimizer
from training.objectives import masked_autoencoder, supervised

Load = Callable[..., TrainConfig]
ROWS = (
    *("hdmapnet/camera", "pmapnet/camera_sd", "pmapnet/camera_sd_hd", "pmapnet/lidar_sd", "pmapnet/lidar_sd_hd"),
    *("pmapnet/simulated_sd", "pmapnet/simulated_sd_hd"),
)
GROUND_PIXELS = ("model.backbone=null", "model.view_transform={kind: ground_pixels, channels: 8}")
"""The cameras by inverse perspective mapping, while the simulated LiDAR sees their images."""
TERMS = {"dense_semantic", "dense_variance", "dense_distance", "dense_direction"}


def batch_of(config: TrainConfig) -> Batch:
    """Both training keyframes; the second has sweeps before it."""
    frames = load_keyframes(
        config.data.root, "train", config.model, keep_inputs=False, sweeps=sweeps_for(config.model), workers=1
    )
    return make_batch([frames[0], frames[1]], config)


def rasters(output: DenseOutput | None) -> list[torch.Tensor]:
    assert output is not None
    return [output.semantic, output.embedding, output.direction]


@pytest.mark.parametrize(
    ("row", "overrides"), [*((row, ()) for row in ROWS), ("pmapnet/simulated_sd", GROUND_PIXELS)], ids=str
)
def test_every_parameter_has_a_gradient_within_two_steps(
    dense_config: Load, row: str, overrides: tuple[str, ...]
) -> None:
    """Two, since branches that start at zero let nothing through before their first step."""
    config = dense_config(row, *overrides, trunk="efficientnet")
    torch.manual_seed(0)
    model = build_model(config.model).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    batch = batch_of(config)
    for _ in range(2):
        optimizer.zero_grad()
        terms = supervised(model, batch, config)
        torch.stack(list(terms.values())).sum().backward()
        assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
        silent = {n for n, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())}
        optimizer.step()
    assert silent == set()
    refined = {f"{name}_unrefined" for name in TERMS} if row.endswith("_hd") and config.loss.dense.unrefined else set()
    assert set(terms) == TERMS | refined


@pytest.mark.parametrize("row", ["pmapnet/lidar_sd_hd", "pmapnet/simulated_sd_hd"])
def test_batched_is_single(dense_config: Load, row: str) -> None:
    config = dense_config(row)
    model = shaken(config)
    frames = [observed(config, index) for index in range(2)]
    with torch.inference_mode():
        together = rasters(model(stack(frames)).dense)
        alone = [rasters(model(frame).dense) for frame in frames]
    for index, single in enumerate(alone):
        for ours, theirs in zip(together, single, strict=True):
            torch.testing.assert_close(ours[index], theirs[0], atol=1e-4, rtol=1e-4)
    assert not torch.allclose(together[0][0], together[0][1], atol=1e-2), "the frames are not alike"


def shaken(config: TrainConfig) -> MapModel:
    """In evaluation mode; no weight is at its start, where much of a model lets nothing through."""
    torch.manual_seed(0)
    model = build_model(config.model).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model


def observed(config: TrainConfig, index: int, change: Callable[[Observation], Observation] = lambda o: o) -> ModelInput:
    dataset = NuScenesDataset(config.data.root)
    observation = dataset.observation(dataset.tokens[index], sweeps=max(1, sweeps_for(config.model)))
    return preprocess(change(observation), config.model)


@pytest.mark.parametrize("row", ["hdmapnet/camera", "pmapnet/simulated_sd"])
def test_the_order_of_the_rig_does_not_matter(dense_config: Load, row: str) -> None:
    def turned_round(o: Observation) -> Observation:
        rig = CameraRig(o.rig.names[::-1], o.rig.intrinsics.flip(0), o.rig.ego_from_camera.flip(0), o.rig.image_size)
        return replace(o, images=o.images[::-1], rig=rig, camera_stamps_ns=o.camera_stamps_ns[::-1])

    config = dense_config(row)
    assert config.model.backbone is not None and len(config.model.backbone.cameras) == 6
    model = shaken(config)
    with torch.inference_mode():
        ours, theirs = (rasters(model(observed(config, 0, change)).dense) for change in (lambda o: o, turned_round))
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("row", ["pmapnet/lidar_sd_hd", "pmapnet/simulated_sd", "pmapnet/hd_pretrain"])
def test_half_precision_gives_numbers(dense_config: Load, row: str) -> None:
    config = dense_config(row)
    torch.manual_seed(0)
    model, batch = build_model(config.model).train(), batch_of(config)
    objective = supervised
    if row == "pmapnet/hd_pretrain":
        objective = masked_autoencoder
        hidden = torch.rand(2, 3, *config.model.grid.shape) < 0.5
        batch = replace(batch, hidden=hidden)
    with torch.autocast("cpu", torch.bfloat16):
        terms = objective(model, batch, config)
    torch.stack(list(terms.values())).float().sum().backward()
    assert all(value.isfinite() for value in terms.values())
    assert [n for n, p in model.named_parameters() if p.grad is not None and not p.grad.isfinite().all()] == []


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_what_was_said_before_the_refiner_may_be_taught_too(dense_config: Load, weight: float) -> None:
    config = dense_config("pmapnet/camera_sd_hd", f"loss.dense.unrefined={weight}", "model.sd_prior.dropout=0")
    torch.manual_seed(0)
    model, batch = build_model(config.model).train(), batch_of(config)
    terms = supervised(model, batch, config)
    unrefined = {name for name in terms if name.endswith("_unrefined")}
    assert unrefined == ({f"{name}_unrefined" for name in TERMS} if weight else set())
    assert set(terms) >= TERMS
    if weight:
        twice = supervised(model, batch, dense_config("pmapnet/camera_sd_hd", "loss.dense.unrefined=1.0"))
        assert twice["dense_semantic_unrefined"].item() == pytest.approx(2 * terms["dense_semantic_unrefined"].item())


def test_position_codes_do_not_decay(dense_config: Load) -> None:
    config = dense_config("pmapnet/lidar_sd_hd", "optim.weight_decay=0.01")
    model = build_model(config.model)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = build_optimizer(model, config.optim).param_groups
    found = {names[id(p)]: group["weight_decay"] for group in groups for p in group["params"]}
    assert found.keys() == set(names.values())
    free = ("hd_refiner.places", "sd_prior.no_road", "lidar.norm.weight", "hd_refiner.norm.weight")
    assert [found[name] for name in free] == [0.0] * 4
    assert found["hd_refiner.embed.weight"] == found["lidar.linear.weight"] == 0.01


def test_the_folder_has_what_the_rows_look_at(sensor_world: Path, dense_config: Load) -> None:
    batch = batch_of(dense_config("pmapnet/lidar_sd"))
    inputs = batch.inputs
    assert inputs.points is not None and inputs.point_count is not None and inputs.sd_raster is not None
    first, second = (len(inputs.points[b, : inputs.point_count[b], 4].unique()) for b in range(2))
    assert (first, second) == (1, 3), "the scene's first keyframe has no sweep before it, the second has two"
    assert (inputs.sd_raster == 1).any() and (inputs.sd_raster == -1).any()
    assert batch.targets.dense is not None and batch.targets.dense.semantic.any()
