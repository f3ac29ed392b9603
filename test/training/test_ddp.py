"""Two processes (gloo, CPU) train as one does with the same global batch."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from hdmap_core.checkpoint import load_checkpoint
from training.config import TrainConfig

ROOT = Path(__file__).resolve().parents[2]
STEPS = 3
PATIENCE_S = 900
"""Of processes whose start alone takes seconds on a free machine, and minutes on a busy one."""
# The agent's own address: a machine's name may stand for none that can be reached.
TORCHRUN = ("torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1", "--nproc-per-node", "2")


def start(*command: object) -> str:
    """Runs Python in another process; fails with what it said."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    called = [sys.executable, *map(str, command)]
    done = subprocess.run(called, env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    return done.stdout


def records(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["phase"] == "train"]


@pytest.fixture
def config(tiny_config: Callable[..., TrainConfig]) -> TrainConfig:
    """The tiny recipe with a global batch of 4, every step logged."""
    return tiny_config("optim.batch_size=4", f"optim.steps={STEPS}", "log_every=1", "save_every=100", "data.workers=1")


def test_two_processes_are_one(config: TrainConfig, ddp_worker: ModuleType, tmp_path: Path) -> None:
    """DDP and FSDP, started by torchrun: every term, the gradient's norm and the weights are those of one process.

    To float32 rounding of sums in another order, that is, which AdamW makes larger where gradients are nearly nothing.
    """
    ddp_worker.train(config, tmp_path / "alone", 1, "ddp")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    start("-m", *TORCHRUN, ddp_worker.__file__, recipe, tmp_path, 2, "ddp,fsdp")
    one = records(tmp_path / "alone")
    state = load_file(tmp_path / "alone" / "checkpoints" / "state.safetensors")
    assert len({record["loss"] for record in one}) == STEPS
    for strategy in ("ddp", "fsdp"):
        two = records(tmp_path / strategy)
        for a, b in zip(one, two, strict=True):
            assert a.keys() == b.keys() and {"class", "points", "mask_dice", "grad_norm"} <= a.keys()
            for name in a.keys() - {"samples_per_s", "phase"}:
                assert b[name] == pytest.approx(a[name], rel=2e-4, abs=2e-5), (strategy, a["step"], name)
        other = load_file(tmp_path / strategy / "checkpoints" / "state.safetensors")
        assert state.keys() == other.keys()
        for name, value in state.items():
            if name.startswith(("model/", "average/")):
                torch.testing.assert_close(
                    other[name], value, rtol=1e-3, atol=2e-4, msg=lambda text, at=(strategy, name): f"{at}: {text}"
                )


def test_hdmap_train_starts_its_second_process(synthetic_root: Path, recipe: Path, tmp_path: Path) -> None:
    smaller = ("optim.steps=2", "optim.batch_size=2", "optim.warmup_steps=0", "log_every=1", "evaluate_frames=1")
    places = (f"data.root={synthetic_root}", f"data.cache={tmp_path / 'cache'}", "data.workers=1")
    command = ("-m", "hdmap_core", "train", recipe, *places, *smaller, "--devices", 2, "--accelerator", "cpu")
    said = start(*command, "-o", tmp_path / "run")
    assert [record["step"] for record in records(tmp_path / "run")] == [1, 2]
    assert said.count("training and") == 1, "only the first process speaks"
    with (tmp_path / "run" / "metrics.jsonl").open() as stream:
        assert [json.loads(line)["phase"] for line in stream] == ["train", "train", "val"]
    assert load_checkpoint(tmp_path / "run" / "checkpoints" / "last.safetensors").provenance["step"] == 2
