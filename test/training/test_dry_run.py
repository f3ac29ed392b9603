"""`hdmap train --dry-run`: parameters, memory and schedule, and nothing written."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from hdmap_core.model_io import ModelInput
from training.dry_run import kept_for_backward

OVERRIDES = ("optim.steps=100", "optim.batch_size=8", "optim.accumulate=2", "optim.warmup_steps=10", "optim.lr=1e-3")
# Of tiny/ground.yaml, by hand; a 3 x 3 convolution from a to b channels with its norm has 9ab + 2b. Ground pixels come
# as 16 channels and 3 of position. The encoder: two steps down of a convolution and a block of two, three laterals with
# bias, three smoothings. Masks: 1 x 1 with bias, three classes, 2 x 2 cells each.
VIEW_TRANSFORM = 9 * 19 * 8 + 2 * 8
SAME = 9 * 16 * 16 + 2 * 16
BEV_ENCODER = (9 * 8 * 16 + 2 * 16 + 2 * SAME) + 3 * SAME + (8 * 16 + 16) + 2 * (16 * 16 + 16) + 3 * SAME
SEGMENTATION = 16 * 12 + 12


def contents(*folders: Path) -> dict[Path, int]:
    """Every file and when it was changed."""
    return {path: path.stat().st_mtime_ns for folder in folders for path in folder.rglob("*")}


def row(said: str, label: str) -> list[str]:
    """The other cells of the table row that begins with a label."""
    (line,) = [line for line in said.splitlines() if re.match(rf"\W*{re.escape(label)}\s*│", line)]
    return [cell.strip() for cell in re.split("[│┃]", line)[2:-1]]


@pytest.fixture
def dry_run(
    synthetic_root: Path, recipe: Path, hdmap: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., str]:
    """What it says; fails if a file appears or changes, here or in the data."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str, root: Path = synthetic_root) -> str:
        before = contents(tmp_path, synthetic_root)
        ended = hdmap("train", recipe, f"data.root={root}", *OVERRIDES, "--accelerator", "cpu", "--dry-run", *arguments)
        assert ended.code == 0, ended.err
        assert contents(tmp_path, synthetic_root) == before
        return ended.out

    return call


def test_parameters_memory_and_schedule(dry_run: Callable[..., str]) -> None:
    said = dry_run()
    assert row(said, "view_transform") == ["GroundPixels", f"{VIEW_TRANSFORM:,}", "0"]
    assert row(said, "bev_encoder") == ["BEVUNet", f"{BEV_ENCODER:,}", "0"]
    assert row(said, "segmentation_head") == ["SegmentationHead", f"{SEGMENTATION:,}", "0"]
    parts = VIEW_TRANSFORM + BEV_ENCODER + SEGMENTATION + int(row(said, "vector_head")[1].replace(",", ""))
    assert row(said, "all")[1:] == [f"{parts:,}", "0"]
    assert row(said, "gradients") == [f"{4 * parts / 2**20:,.1f}"]
    assert row(said, "AdamW's two moments") == [f"{8 * parts / 2**20:,.1f}"]
    assert "DDP's buckets" not in said
    measured = re.search(r"activations, 4 samples \(1 measured: ([\d.]+) MiB\)\W+([\d.]+)", said)
    assert measured is not None and float(measured[1]) > 1
    assert float(measured[2]) == pytest.approx(4 * float(measured[1]), abs=0.3)
    assert row(said, "steps") == ["100 (10 of warm-up, then cosine)"]
    assert row(said, "batch") == ["8 = 1 processes x 2 x 4 samples"]
    assert row(said, "epochs") == ["400.00 of 2 keyframes"]
    # A tenth of the rate at the first of ten steps of warm-up; a hundredth of it at the end.
    assert row(said, "lr at step 1") == ["1.00e-04"]
    assert float(row(said, "lr at step 100")[0]) == pytest.approx(1e-5, rel=0.05)
    rates = [float(row(said, f"lr at step {step}")[0]) for step in (26, 51, 76, 100)]
    assert rates == sorted(rates, reverse=True)


def test_two_processes_share_the_batch(dry_run: Callable[..., str]) -> None:
    said = dry_run("--devices", "2")
    assert row(said, "batch") == ["8 = 2 processes x 2 x 2 samples"]
    assert row(said, "DDP's buckets") == row(said, "gradients")


def test_epochs_are_of_all_folders(dry_run: Callable[..., str], synthetic_root: Path) -> None:
    said = dry_run(f"data.more=[{synthetic_root}, {synthetic_root}]")
    assert row(said, "epochs") == ["133.33 of 6 keyframes"]


def test_without_data_only_what_needs_it_is_missing(dry_run: Callable[..., str], tmp_path: Path) -> None:
    said = dry_run(root=tmp_path / "none")
    assert "not measured: " in row(said, "activations")[0] and "none" in row(said, "activations")[0]
    assert row(said, "epochs") == ["unknown: no data"]
    assert row(said, "sum without activations")


def test_an_earlier_stage_that_is_not_there_is_named(dry_run: Callable[..., str]) -> None:
    assert "start.model: no checkpoint at first-stage" in dry_run("start.model=first-stage")


def test_what_is_kept_for_the_way_back() -> None:
    """The input of each linear map and what is squared, each storage once, weights not."""

    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(8, 16), nn.Linear(16, 4)

        def forward(self, inputs: ModelInput) -> torch.Tensor:
            assert inputs.ground is not None
            hidden = self.first(inputs.ground)
            return self.second(hidden * hidden)

    model = Small()
    kept = kept_for_backward(model, ModelInput(ground=torch.ones(32, 8)), "32-true")
    assert kept == 4 * 32 * (8 + 16 + 16)
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("name", ["hdmapnet/camera", "pmapnet/lidar_sd", "pmapnet/hd_pretrain"])
def test_dense_models(
    name: str, dense_config: Callable[..., Any], sensor_world: Path, hdmap: Callable[..., Any], tmp_path: Path
) -> None:
    dense_config(name)
    recipe = sensor_world.parent / f"{name.replace('/', '-')}-resnet.yaml"
    ended = hdmap("train", recipe, "-o", tmp_path / "run", "--accelerator", "cpu", "--dry-run")
    assert ended.code == 0, ended.err
    slots = {"hdmapnet/camera": ["MlpIPM", "ResNetEncoder", "DenseHeads"], "pmapnet/lidar_sd": ["Pillars", "SDFusion"]}
    for module in slots.get(name, ["HDRefiner"]):
        assert module in ended.out
    measured = re.search(r"activations, 2 samples \(1 measured: ([\d.]+) MiB\)", ended.out)
    assert measured is not None and float(measured[1]) > 0.1, ended.out
    assert row(ended.out, "epochs") == ["2.00 of 2 keyframes"]
    assert not (tmp_path / "run").exists()
