"""What a run starts from: whole slots of earlier stages, and pretrained trunks of the others."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from hdmap_core.checkpoint import load_checkpoint
from hdmap_core.errors import CheckpointError
from hdmap_core.models import MapModel, build_model
from hdmap_core.models.backbones.image_backbone import ImageBackbone
from hdmap_core.models.lidar.simulated import SimulatedLidarConfig
from training.config import TrainConfig
from training.fit import initial_weights as module
from training.fit.initial_weights import load_initial

Load = Callable[..., TrainConfig]
Save = Callable[..., Path]


@pytest.fixture
def trunks(monkeypatch: pytest.MonkeyPatch) -> list[ImageBackbone]:
    """Backbones whose trunks pretrained weights were asked for."""
    asked: list[ImageBackbone] = []

    def load(backbone: ImageBackbone, source: Any) -> str:
        asked.append(backbone)
        return f"trunk from {source}"

    monkeypatch.setattr(module, "load_pretrained", load)
    return asked


def weights(model: MapModel) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def slots_from(model: MapModel, path: Path) -> set[str]:
    """The slots that equal those of a checkpoint."""
    theirs = dict(load_checkpoint(path).model.named_children())
    return {
        name
        for name, slot in model.named_children()
        if name in theirs
        and all(
            torch.equal(a, b)
            for a, b in zip(slot.state_dict().values(), theirs[name].state_dict().values(), strict=True)
        )
    }


def test_a_second_stage_takes_both_checkpoints(dense_config: Load, saved: Save, trunks: list[ImageBackbone]) -> None:
    first, refiner = saved("pmapnet/lidar_sd"), saved("pmapnet/hd_pretrain")
    config = dense_config("pmapnet/lidar_sd_hd", f"start.model={first}", f"start.hd_refiner={refiner}")
    torch.manual_seed(0)
    model = build_model(config.model)
    reports = load_initial(model, config)
    before_refiner = {"backbone", "view_transform", "lidar", "sd_prior", "bev_encoder", "dense_heads"}
    assert slots_from(model, first) == before_refiner
    assert slots_from(model, refiner) == {"hd_refiner"}
    assert before_refiner | {"hd_refiner"} == {name for name, _ in model.named_children()}
    assert trunks == [], "the checkpoint brings the trunk"
    assert len(reports) == 2 and str(first) in reports[0] and "hd_refiner not from there" in reports[0]
    assert f"{refiner}: hd_refiner taken" in reports[1]


def test_a_refiner_leaves_the_rest(dense_config: Load, saved: Save, trunks: list[ImageBackbone]) -> None:
    whole = saved("pmapnet/camera_sd_hd")
    config = dense_config("pmapnet/camera_sd_hd", f"start.hd_refiner={whole}", "backbone_weights=trunk.safetensors")
    torch.manual_seed(0)
    model = build_model(config.model)
    before = weights(model)
    reports = load_initial(model, config)
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed and all(name.startswith("hd_refiner.") for name in changed)
    assert slots_from(model, whole) == {"hd_refiner"}, "of a whole model only that slot is taken"
    assert trunks == [model.backbone]
    assert sorted(reports)[-1] == "trunk from trunk.safetensors"


def test_a_camera_model_becomes_the_simulated_lidar(
    dense_config: Load, saved: Save, trunks: list[ImageBackbone]
) -> None:
    lidar = dense_config("pmapnet/simulated_sd").model.lidar
    assert isinstance(lidar, SimulatedLidarConfig)
    branch = saved(
        "hdmapnet/camera",
        f"model.backbone={lidar.backbone.model_dump_json()}",
        f"model.view_transform={lidar.lift_splat.model_dump_json()}",
    )
    config = dense_config("pmapnet/simulated_sd", f"start.lidar={branch}")
    torch.manual_seed(0)
    model = build_model(config.model)
    before = weights(model)
    (report, _) = load_initial(model, config)
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert {name.split(".")[1] for name in changed} == {"backbone", "lift_splat"}
    theirs = load_checkpoint(branch).model.state_dict()
    name = "depth_and_context.weight"
    assert torch.equal(model.state_dict()[f"lidar.lift_splat.{name}"], theirs[f"view_transform.{name}"])
    assert trunks == [model.backbone], "the checkpoint brings the branch's"
    assert f"{branch}: lidar.backbone, lidar.lift_splat taken; " in report and "settings" not in report


def test_a_lidar_branch_is_taken_as_it_is(dense_config: Load, saved: Save, trunks: list[ImageBackbone]) -> None:
    whole = saved("pmapnet/lidar_sd")
    model = build_model(dense_config("pmapnet/lidar_sd").model)
    load_initial(model, dense_config("pmapnet/lidar_sd", f"start.lidar={whole}"))
    assert slots_from(model, whole) == {"lidar"}
    for row in ("pmapnet/lidar_sd", "pmapnet/simulated_sd"):
        wrong = dense_config(row, f"start.lidar={saved('hdmapnet/camera')}")
        with pytest.raises(CheckpointError, match=r"no slot lidar, which start\.lidar takes"):
            load_initial(build_model(wrong.model), wrong)


def test_trunks_that_no_checkpoint_brings_are_pretrained(
    dense_config: Load, saved: Save, trunks: list[ImageBackbone]
) -> None:
    config = dense_config("pmapnet/simulated_sd")
    model = build_model(config.model)
    load_initial(model, config)
    assert trunks == [model.backbone, model.lidar.backbone], "each once"
    trunks.clear()
    refiner = saved("pmapnet/hd_pretrain")
    config = dense_config("pmapnet/camera_sd_hd", f"start.model={refiner}")
    model = build_model(config.model)
    load_initial(model, config)
    assert trunks == [model.backbone], "start.model has only a refiner"


def test_a_run_folder_is_a_checkpoint_too(dense_config: Load, saved: Save, tmp_path: Path) -> None:
    refiner = saved("pmapnet/hd_pretrain")
    folder = tmp_path / "run" / "checkpoints"
    folder.mkdir(parents=True)
    refiner.rename(folder / "last.safetensors")
    config = dense_config("pmapnet/camera_sd_hd", f"start.hd_refiner={tmp_path / 'run'}")
    model = build_model(config.model)
    load_initial(model, config)
    assert slots_from(model, folder / "last.safetensors") == {"hd_refiner"}


@pytest.mark.parametrize(
    ("key", "name", "overrides", "parts"),
    [
        ("model", "pmapnet/camera_sd", ["model.grid.resolution=0.5"], ["model.grid=", "resolution=0.5"]),
        ("model", "pmapnet/camera_sd", ["model.classes=[divider, boundary]"], ["model.classes=", "ped_crossing"]),
        ("hd_refiner", "pmapnet/hd_pretrain", ["model.classes=[boundary, divider]"], ["model.classes="]),
        ("hd_refiner", "pmapnet/camera_sd", [], ["no slot hd_refiner", "pmapnet-camera-sd", "has backbone"]),
        ("model", "pmapnet/lidar_sd", [], ["slot lidar", "has not"]),
        ("model", "pmapnet/camera_sd", ["model.sd_prior.layers=1"], ["slot sd_prior", "lacks", "layers.1"]),
        ("model", "pmapnet/camera_sd", ["model.sd_prior.layers=3"], ["slot sd_prior", "unknown", "layers.2"]),
        (
            "model",
            "pmapnet/camera_sd",
            ["model.dense.embedding=5"],
            ["slot dense_heads", "misshapen", "embedding.finish"],
        ),
        ("hd_refiner", "pmapnet/hd_pretrain", ["model.hd_refiner.depth=2"], ["slot hd_refiner", "unknown", "blocks.1"]),
        ("hd_refiner", "pmapnet/hd_pretrain", ["model.hd_refiner.heads=3"], ["model.hd_refiner.heads (2, was 3)"]),
        ("model", "pmapnet/camera_sd", ["model.sd_prior.heads=2"], ["model.sd_prior.heads (8, was 2)"]),
        (
            "hd_refiner",
            "pmapnet/hd_pretrain",
            ["model.hd_refiner.up_channels=8"],
            ["slot hd_refiner", "misshapen", "stem"],
        ),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_taken(
    dense_config: Load, saved: Save, key: str, name: str, overrides: list[str], parts: list[str]
) -> None:
    """The other start fits: it is not taken either."""
    good = {"model": "pmapnet/camera_sd", "hd_refiner": "pmapnet/hd_pretrain"}
    starts = {kind: saved(*((name, *overrides) if kind == key else (right,))) for kind, right in good.items()}
    config = dense_config("pmapnet/camera_sd_hd", *(f"start.{kind}={path}" for kind, path in starts.items()))
    model = build_model(config.model)
    before = weights(model)
    with pytest.raises(CheckpointError) as refused:
        load_initial(model, config)
    for part in (str(starts[key]), *parts):
        assert part in str(refused.value)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_settings_that_no_shape_shows_are_said(dense_config: Load, saved: Save, trunks: list[ImageBackbone]) -> None:
    first = saved("pmapnet/camera_sd", "model.dense.line_cells=5")
    config = dense_config("pmapnet/camera_sd", f"start.model={first}", "model.sd_prior.skip=true")
    (report,) = load_initial(build_model(config.model), config)
    assert report.endswith("settings: model.sd_prior.skip (True, was False), model.dense.line_cells (3, was 5)")
    (report,) = load_initial(build_model(config.model), dense_config("pmapnet/camera_sd", f"start.model={first}"))
    assert "sd_prior.skip" not in report


def test_a_rig_in_another_order_is_another_rig(dense_config: Load, saved: Save) -> None:
    """Weights per camera have the same shapes in any order."""
    first = saved("pmapnet/camera_sd")
    config = dense_config("pmapnet/camera_sd", f"start.model={first}")
    cameras = config.model.backbone.cameras[::-1]
    other = dense_config("pmapnet/camera_sd", f"start.model={first}", f"model.backbone.cameras={list(cameras)}")
    load_initial(build_model(config.model), config)
    with pytest.raises(CheckpointError, match=r"trained for the cameras CAM_FRONT_LEFT, .*not CAM_BACK_RIGHT"):
        load_initial(build_model(other.model), other)


def test_a_model_without_refiner_cannot_take_one(dense_config: Load, saved: Save) -> None:
    config = dense_config("pmapnet/camera_sd", f"start.hd_refiner={saved('pmapnet/hd_pretrain')}")
    with pytest.raises(CheckpointError, match="slot hd_refiner, which this model has not"):
        load_initial(build_model(config.model), config)


def test_a_checkpoint_that_is_not_there(dense_config: Load, tmp_path: Path) -> None:
    config = dense_config("pmapnet/camera_sd_hd", f"start.model={tmp_path / 'runs' / 'first'}")
    with pytest.raises(CheckpointError, match=r"no checkpoint at .*runs/first: it does not exist; give .* a run"):
        load_initial(build_model(config.model), config)
