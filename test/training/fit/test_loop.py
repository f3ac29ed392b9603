"""The loop and its run folder on five frames of noise, a few seconds of one core."""

import errno
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from hdmap_core.checkpoint import find_checkpoint, load_checkpoint
from hdmap_core.config import load_config
from hdmap_core.errors import CheckpointError, OutputError
from hdmap_core.models import build_model
from training.config import TrainConfig
from training.data.batches import Batch, TrainBatches
from training.data.keyframes import Keyframe
from training.evaluation.pictures import picture_predictions
from training.evaluation.quick_score import quick_score
from training.fit.launch import Hardware, make_fabric, per_process
from training.fit.loop import DivergedError, Evaluation, Terms, fit
from training.fit.run_folder import RunFolder, metrics_of
from training.objectives import supervised
from training.train import train

Load = Callable[..., TrainConfig]
Make = Callable[[TrainConfig], list[Keyframe]]
STATE = "checkpoints/state.safetensors"


def run(
    config: TrainConfig,
    frames: list[Keyframe],
    folder: Path,
    objective: Callable[[nn.Module, Batch], Terms] | None = None,
    stop_after: int | None = None,
) -> nn.Module:
    """Trains as `hdmap train` does; `stop_after` interrupts in that step, as Ctrl-C would."""
    torch.manual_seed(config.seed)
    calls = 0

    def counted(model: nn.Module, batch: Batch) -> Terms:
        nonlocal calls
        calls += 1
        if stop_after is not None and calls > stop_after:
            raise KeyboardInterrupt
        return supervised(model, batch, config)

    return fit(
        make_fabric(Hardware("cpu"), config.optim.precision),
        build_model(config.model),
        objective or counted,
        TrainBatches(frames, per_process(config, 1)),
        config,
        RunFolder(folder, config, {"dataset": "noise"}),
        lambda model: Evaluation(quick_score(model, frames, config), picture_predictions(model, frames, config)),
        Console(quiet=True),
    )


def lines(folder: Path, phase: str) -> list[dict[str, Any]]:
    return [record for record in metrics_of(folder) if record["phase"] == phase]


def test_twenty_steps_leave_everything_behind(tiny_config: Load, keyframes: Make, tmp_path: Path) -> None:
    config = tiny_config()
    average = run(config, keyframes(config), tmp_path)
    assert [record["step"] for record in lines(tmp_path, "train")] == [4, 8, 12, 16, 20]
    assert [record["step"] for record in lines(tmp_path, "val")] == [10, 20]
    for record in lines(tmp_path, "train"):
        assert {"loss", "lr", "grad_norm", "samples_per_s", "class", "points", "mask_bce", "mask_dice"} <= set(record)
        parts = ("class", "points", "direction", "mask_bce", "mask_dice")
        assert record["loss"] == pytest.approx(sum(record[name] for name in parts), abs=1e-4)
    assert {"mAP", "mAP_vectors", "mAP_masks"} <= set(lines(tmp_path, "val")[0])
    assert load_config(TrainConfig, tmp_path / "config.yaml") == config
    assert f"torch {torch.__version__}" in (tmp_path / "environment.txt").read_text()
    assert any((tmp_path / "tensorboard").iterdir())
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == [
        "best.safetensors",
        "last.safetensors",
        "state.safetensors",
    ]
    last = load_checkpoint(tmp_path / "checkpoints" / "last.safetensors")
    assert (last.provenance["step"], last.provenance["dataset"]) == (20, "noise")
    for name, value in average.state_dict().items():
        assert torch.equal(last.model.state_dict()[name], value), name
    assert load_checkpoint(find_checkpoint(tmp_path)).provenance["metrics"]["mAP"] >= 0


def test_loss_falls(tiny_config: Load, keyframes: Make, tmp_path: Path) -> None:
    config = tiny_config("optim.steps=50", "optim.lr=5e-3", "evaluate_every=50", "save_every=50", "log_every=5")
    run(config, keyframes(config), tmp_path)
    losses = [record["loss"] for record in lines(tmp_path, "train")]
    assert sum(losses[-3:]) < 0.75 * sum(losses[:3])


def test_resume_is_bit_equal(tiny_config: Load, keyframes: Make, tmp_path: Path) -> None:
    """Interrupted in step 12, the run goes on from its save at 8 and ends as if nothing had happened."""
    config = tiny_config()
    frames = keyframes(config)
    whole = run(config, frames, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(config, frames, tmp_path / "parts", stop_after=11)
    assert load_checkpoint(tmp_path / "parts" / "checkpoints" / "last.safetensors").provenance["step"] == 8
    resumed = run(config, frames, tmp_path / "parts")
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name
    states = [load_file(tmp_path / name / STATE) for name in ("whole", "parts")]
    assert states[0].keys() == states[1].keys() and any("exp_avg" in key for key in states[0])
    for key, value in states[0].items():
        assert torch.equal(value, states[1][key]), key
    whole_log, parts_log = (lines(tmp_path / name, "train")[-1] for name in ("whole", "parts"))
    assert (whole_log["loss"], whole_log["step"]) == (parts_log["loss"], parts_log["step"])


def test_a_finished_run_does_not_go_on(tiny_config: Load, keyframes: Make, tmp_path: Path) -> None:
    config = tiny_config("optim.steps=4", "evaluate_every=4", "save_every=4")
    first = run(config, keyframes(config), tmp_path)
    again = run(config, keyframes(config), tmp_path, stop_after=0)
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), again.state_dict().values(), strict=True))


def test_a_finished_run_can_be_prolonged(tiny_config: Load, keyframes: Make, tmp_path: Path) -> None:
    config = tiny_config("optim.steps=4", "evaluate_every=4", "save_every=4")
    run(config, keyframes(config), tmp_path)
    longer = tiny_config("optim.steps=6", "evaluate_every=4", "save_every=4", "log_every=1")
    run(longer, keyframes(config), tmp_path)
    assert [record["step"] for record in lines(tmp_path, "train")] == [4, 5, 6]


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_numbers_that_are_none_stop_the_run(tiny_config: Load, keyframes: Make, tmp_path: Path, what: str) -> None:
    config = tiny_config("save_every=4")
    frames = keyframes(config)
    steps = 0

    def poisoned(model: nn.Module, batch: Batch) -> Terms:
        nonlocal steps
        steps += 1
        terms = supervised(model, batch, config)
        if steps == 6:
            zero = terms["class"] * 0.0
            terms["class"] = terms["class"] * math.nan if what == "loss" else terms["class"] + zero.sqrt()
        return terms

    with pytest.raises(DivergedError) as caught:
        run(config, frames, tmp_path, poisoned)
    message = str(caught.value)
    assert "at step 6" in message and what in message and str(tmp_path) in message
    assert all(token in message for token in TrainBatches(frames, config)[5].tokens)
    kept = load_checkpoint(tmp_path / "checkpoints" / "last.safetensors")
    assert kept.provenance["step"] == 4
    assert all(torch.isfinite(value).all() for value in kept.model.state_dict().values())


def test_a_model_that_went_astray_itself_is_named_as_such(tiny_config: Load, keyframes: Make, tmp_path: Path) -> None:
    """NaN weights make NaN logits and points, which the matching must not trip over."""
    config = tiny_config()

    def broken(model: nn.Module, batch: Batch) -> Terms:
        with torch.no_grad():
            next(model.parameters()).fill_(math.nan)
        return supervised(model, batch, config)

    with pytest.raises(DivergedError, match="at step 1 "):
        run(config, keyframes(config), tmp_path, broken)


def test_full_disk_is_an_output_error_and_keeps_the_last_state(
    tiny_config: Load, keyframes: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config("optim.steps=8", "save_every=4", "evaluate_every=8")
    frames = keyframes(config)
    with pytest.raises(KeyboardInterrupt):
        run(config, frames, tmp_path, stop_after=5)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left on device"):
        run(config, frames, tmp_path)
    monkeypatch.undo()
    assert load_checkpoint(tmp_path / "checkpoints" / "last.safetensors").provenance["step"] == 4
    run(config, frames, tmp_path)
    assert load_checkpoint(tmp_path / "checkpoints" / "last.safetensors").provenance["step"] == 8


def test_a_folder_that_cannot_be_made(tiny_config: Load, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    config = tiny_config(f"data.root={tmp_path / 'nowhere'}")
    with pytest.raises(OutputError, match="cannot write"):  # told before the keyframes are looked for
        train(config, tmp_path / "file" / "run", Console(quiet=True))


@pytest.mark.parametrize("damage", ["truncated", "foreign", "incomplete", "headless"])
def test_a_damaged_state_is_named(tiny_config: Load, keyframes: Make, tmp_path: Path, damage: str) -> None:
    config = tiny_config("optim.steps=2", "save_every=2", "evaluate_every=2")
    run(config, keyframes(config), tmp_path)
    state = tmp_path / STATE
    tensors = load_file(state)
    with safe_open(state, framework="pt") as file:
        header = file.metadata()
    if damage == "truncated":
        state.write_bytes(state.read_bytes()[:1000])
    elif damage == "foreign":
        save_file({"model/other": torch.zeros(1)}, state, header)
    elif damage == "incomplete":
        del tensors[next(name for name in tensors if name.startswith("average/"))]
        save_file(tensors, state, header)
    else:
        save_file(tensors, state)
    with pytest.raises(CheckpointError, match=r"cannot continue from .*state\.safetensors"):
        run(config, keyframes(config), tmp_path)


def test_the_average_lags_behind_and_is_what_is_saved(tiny_config: Load, keyframes: Make, tmp_path: Path) -> None:
    config = tiny_config("optim.steps=8", "save_every=8", "evaluate_every=8")
    average = run(config, keyframes(config), tmp_path)
    state = load_file(tmp_path / STATE)
    name = next(name for name, value in average.state_dict().items() if value.ndim > 1)
    assert torch.equal(state[f"average/{name}"], average.state_dict()[name])
    assert not torch.equal(state[f"model/{name}"], state[f"average/{name}"])
    assert not average.training and not any(parameter.requires_grad for parameter in average.parameters())


def test_best_is_kept_by_map(tiny_config: Load, tmp_path: Path) -> None:
    config = tiny_config()
    folder = RunFolder(tmp_path, config, {})
    model = build_model(config.model)
    for step, score in [(1, 0.1), (2, 0.4), (3, 0.2)]:
        folder.evaluated(step, {"mAP": score}, model)
    best = load_checkpoint(tmp_path / "checkpoints" / "best.safetensors").provenance
    assert (best["step"], best["metrics"]) == (2, {"mAP": 0.4})


def test_objective_weighs_the_terms_of_the_heads_that_are_there(tiny_config: Load, keyframes: Make) -> None:
    config = tiny_config()
    batch = TrainBatches(keyframes(config), config)[0]
    torch.manual_seed(0)
    model = build_model(config.model)
    once = supervised(model, batch, config)
    heavier = config.loss.model_copy(update={"mask_dice": 2 * config.loss.mask_dice})
    twice = supervised(model, batch, config.model_copy(update={"loss": heavier}))
    assert twice["mask_dice"].item() == pytest.approx(2 * once["mask_dice"].item(), rel=1e-4)
    assert twice["mask_bce"].item() == pytest.approx(once["mask_bce"].item(), rel=1e-4)
    masks_only = tiny_config("model.vectors=null", "decode.head=masks")
    batch = TrainBatches(keyframes(masks_only), masks_only)[0]
    assert set(supervised(build_model(masks_only.model), batch, masks_only)) == {"mask_bce", "mask_dice"}
