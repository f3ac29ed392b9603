"""A run that ends early, however it ends, goes on as if it had not."""

import io
import json
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from rich.console import Console
from safetensors.torch import load_file
from torch import nn

from hdmap_core.errors import CheckpointError, ConfigError
from hdmap_core.models import build_model
from hdmap_core.running.interruption import Interrupted
from training.config import TrainConfig
from training.data.batches import Batch, TrainBatches
from training.data.keyframes import Keyframe
from training.fit.launch import Hardware, make_fabric, per_process
from training.fit.loop import Evaluation, Terms, fit
from training.fit.run_folder import RunFolder
from training.objectives import supervised

Load = Callable[..., TrainConfig]
Make = Callable[[TrainConfig], list[Keyframe]]
STATE = "checkpoints/state.safetensors"
WORKER = Path(__file__).resolve().parents[1] / "ddp_worker.py"


def run(
    config: TrainConfig,
    frames: list[Keyframe],
    folder: Path,
    *,
    ask_at: int = 0,
    how: signal.Signals = signal.SIGTERM,
    whom: Callable[[], list[int]] = lambda: [os.getpid()],
    evaluate_at: Callable = dict,
    console: Console | None = None,
) -> nn.Module:
    """Trains with a noisy objective, which shows random numbers that differ; `how` comes in call `ask_at`."""
    torch.manual_seed(config.seed)
    calls = 0

    def objective(model: nn.Module, batch: Batch) -> Terms:
        nonlocal calls
        calls += 1
        if calls == ask_at:
            subprocess.run(["kill", f"-{how.value}", *map(str, whom())], check=True)
        return {name: value * (0.5 + torch.rand(())) for name, value in supervised(model, batch, config).items()}

    def evaluate(model: nn.Module) -> Evaluation:
        evaluate_at()
        return Evaluation({"mAP": float(next(model.parameters()).detach().abs().mean())})

    return fit(
        make_fabric(Hardware("cpu"), config.optim.precision),
        build_model(config.model),
        objective,
        TrainBatches(frames, per_process(config, 1)),
        config,
        RunFolder(folder, config, {}),
        evaluate,
        console or Console(quiet=True),
    )


def records(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "samples_per_s"} for line in lines]


def assert_same(one: Path, other: Path) -> None:
    states = [load_file(folder / STATE) for folder in (one, other)]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert records(one) == records(other)


def test_sigterm_ends_after_the_step_and_the_run_goes_on(tiny_config: Load, keyframes: Make, tmp_path: Path) -> None:
    config = tiny_config("optim.steps=8", "save_every=100", "evaluate_every=4", "log_every=1")
    frames = keyframes(config)
    run(config, frames, tmp_path / "whole")
    before = signal.getsignal(signal.SIGTERM)
    console = Console(file=io.StringIO())
    run(config, frames, tmp_path / "parts", ask_at=5, console=console)
    folder = tmp_path / "parts"
    assert (
        f"after step 5 as asked; hdmap train {folder / 'config.yaml'} --resume -o {folder}" in console.file.getvalue()
    )
    assert signal.getsignal(signal.SIGTERM) is before
    assert [record["step"] for record in records(tmp_path / "parts") if record["phase"] == "train"] == [1, 2, 3, 4, 5]
    run(config, frames, tmp_path / "parts", console=console)
    assert "going on after step 5\n" in console.file.getvalue()
    assert_same(tmp_path / "whole", tmp_path / "parts")


def test_sigterm_to_every_process_of_the_job(tiny_config: Load, keyframes: Make, tmp_path: Path) -> None:
    """As schedulers and service managers send it: the loader's workers leave it to the loop."""
    config = tiny_config("optim.steps=8", "save_every=100", "evaluate_every=4", "log_every=1", "data.workers=1")
    frames = keyframes(config)
    told: list[int] = []

    def everyone() -> list[int]:
        told.extend(child.pid for child in multiprocessing.active_children())
        return [*told, os.getpid()]

    run(config, frames, tmp_path, ask_at=2, whom=everyone)
    assert len(told) == 1
    assert [record["step"] for record in records(tmp_path) if record["phase"] == "train"] == [1, 2]
    assert (tmp_path / STATE).is_file()
    assert not multiprocessing.active_children()


def test_ctrl_c_ends_after_the_step_with_130(tiny_config: Load, keyframes: Make, tmp_path: Path) -> None:
    config = tiny_config("optim.steps=4", "save_every=100", "evaluate_every=4", "log_every=1")
    frames = keyframes(config)
    with pytest.raises(Interrupted) as ended:
        run(config, frames, tmp_path, ask_at=2, how=signal.SIGINT)
    assert (ended.value.code, ended.value.message) == (130, ""), "the loop's own line is enough"
    console = Console(file=io.StringIO())
    run(config, frames, tmp_path, console=console)
    assert "going on after step 2\n" in console.file.getvalue()


def test_kill_leaves_what_the_last_save_knows(tiny_config: Load, tmp_path: Path) -> None:
    """SIGKILL in step 7, saved at 4: lines 5 and 6 of the metrics go, and come again the same."""
    config = tiny_config("optim.steps=8", "save_every=4", "evaluate_every=3", "log_every=1")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(WORKER.parents[2])}

    def start(die_at: int, *folders: str) -> int:
        runs = [f"{recipe}:{tmp_path / folder}:ddp" for folder in folders]
        command = [sys.executable, str(WORKER), "1", str(die_at), *runs]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode in (0, -signal.SIGKILL), done.stderr[-3000:]
        return done.returncode

    assert start(7, "parts") == -signal.SIGKILL
    assert [line["step"] for line in records(tmp_path / "parts") if line["phase"] == "train"] == [1, 2, 3, 4, 5, 6]
    with (tmp_path / "parts" / "metrics.jsonl").open("a") as stream:
        stream.write('{"phase": "tra')  # as a kill in the middle of a write would leave it
    assert start(0, "parts", "whole") == 0
    assert_same(tmp_path / "whole", tmp_path / "parts")


def test_a_validation_that_was_cut_short_is_done_again(tiny_config: Load, keyframes: Make, tmp_path: Path) -> None:
    config = tiny_config("optim.steps=4", "save_every=2", "evaluate_every=2", "log_every=1")
    frames = keyframes(config)

    def cut() -> None:
        raise KeyboardInterrupt

    run(config, frames, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(config, frames, tmp_path / "parts", evaluate_at=cut)
    run(config, frames, tmp_path / "parts")
    assert_same(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("model.vectors.num_queries=7", r"model\.vectors\.num_queries \(7, was 6\)"),
        ("optim.batch_size=4", r"optim\.batch_size \(4, was 2\)"),
        ("seed=1", r"seed \(1, was 0\)"),
    ],
)
def test_another_recipe_is_named_and_leaves_the_folder(
    tiny_config: Load, keyframes: Make, tmp_path: Path, override: str, named: str
) -> None:
    config = tiny_config("optim.steps=1", "save_every=1", "evaluate_every=1", "log_every=1")
    run(config, keyframes(config), tmp_path)
    before = (tmp_path / "config.yaml").read_text(), (tmp_path / "metrics.jsonl").read_text()
    other = tiny_config("optim.steps=2", "save_every=1", "evaluate_every=1", "log_every=1", override)
    with pytest.raises(CheckpointError, match=named):
        run(other, keyframes(other), tmp_path)
    assert before == ((tmp_path / "config.yaml").read_text(), (tmp_path / "metrics.jsonl").read_text())


def test_micro_batches_are_shares_of_the_same_samples(tiny_config: Load, keyframes: Make) -> None:
    config = tiny_config("optim.batch_size=4", "optim.accumulate=2")
    frames = keyframes(config)
    whole = TrainBatches(frames, tiny_config("optim.batch_size=4"))
    parts = TrainBatches(frames, per_process(config, 2))
    assert whole[3].tokens == tuple(token for index in range(12, 16) for token in parts[index].tokens)
    with pytest.raises(ConfigError, match="multiple of 6"):
        per_process(config, 3)


def test_hardware_that_is_not_there() -> None:
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="2 GPUs wanted, this machine has 0"):
            make_fabric(Hardware("cuda", 2), "32-true")
    with pytest.raises(ConfigError, match="bf16-mixed"):
        make_fabric(Hardware("cpu", 2, 1, "fsdp"), "16-mixed")


def test_resume_needs_the_folder_only(
    tiny_config: Load, synthetic_root: Path, tmp_path: Path, hdmap: Callable[..., Any]
) -> None:
    recipe, folder = tmp_path / "recipe.yaml", tmp_path / "run"
    small = ("optim.steps=1", "save_every=1", "evaluate_frames=1", "log_every=1", "data.workers=1")
    config = tiny_config(*small, f"data.root={synthetic_root}", f"data.cache={tmp_path / 'cache'}")
    recipe.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    assert hdmap("train", recipe, "-o", folder).code == 0
    recipe.unlink()
    calls = [(folder, "--resume"), ("--resume", "-o", folder), ("--resume", "optim.steps=4", "-o", folder)]
    for steps, call in enumerate(calls, start=2):
        arguments = call if "optim.steps=4" in call else (*call, f"optim.steps={steps}")
        ended = hdmap("train", *arguments)
        assert ended.code == 0 and f"going on after step {steps - 1}\n" in ended.out, ended.err
    assert [record["step"] for record in records(folder) if record["phase"] == "train"] == [1, 2, 3, 4]
    hdmap("train", tmp_path / "nothing", "--resume").assert_refused("cannot read recipe")
    hdmap("train", "--resume", "-o", tmp_path / "nothing").assert_refused("holds no run to go on with")
    hdmap("train").assert_refused("name a recipe")


def test_sigterm_before_the_first_step_is_answered(
    tiny_config: Load, tmp_path: Path, hdmap: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, folder = tmp_path / "recipe.yaml", tmp_path / "run"
    recipe.write_text(yaml.safe_dump(tiny_config().model_dump(mode="json")))
    monkeypatch.setattr("training.train.build_model", lambda config: os.kill(os.getpid(), signal.SIGTERM))
    before = signal.getsignal(signal.SIGTERM)
    ended = hdmap("train", recipe, "-o", folder)
    assert ended.code == 0 and "stopped before a step as asked" in ended.err
    assert not folder.exists() and signal.getsignal(signal.SIGTERM) is before
