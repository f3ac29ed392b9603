"""Two processes (gloo, CPU) train as one does with the same global batch."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from training.config import TrainConfig

WORKER = Path(__file__).with_name("ddp_worker.py")
STEPS = 3


def start(folder: Path, config: TrainConfig, devices: int, strategy: str, launcher: list[str]) -> None:
    """Trains in other processes; fails with what they said."""
    recipe = folder.with_suffix(".yaml")
    recipe.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    command = [*launcher, str(WORKER), str(recipe), str(folder), str(devices), strategy]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(WORKER.parents[2])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def records(folder: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["phase"] == "train"]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., TrainConfig]:
    """The tiny recipe with a global batch of 4, every step logged."""
    from hdmap_core.config import load_config

    recipe = WORKER.parents[2] / "config" / "recipes" / "tiny" / "ground.yaml"
    smaller = (
        *("model.grid.x_range=[-7.2, 7.2]", "model.grid.y_range=[-4.8, 4.8]", "model.vectors.num_queries=6"),
        *("model.vectors.num_points=5", "optim.batch_size=4", "optim.warmup_steps=3", f"optim.steps={STEPS}"),
        *("log_every=1", "save_every=100", "evaluate_every=100", "evaluate_frames=3"),
    )
    return lambda *overrides: load_config(TrainConfig, recipe, [*smaller, *overrides])


@pytest.fixture(scope="module")
def alone(config: Callable[..., TrainConfig], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One process."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    start(folder, config(), 1, "ddp", [sys.executable])
    return folder


TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


@pytest.mark.parametrize(
    ("strategy", "launcher"),
    [("ddp", [sys.executable]), ("ddp", TORCHRUN), ("fsdp", [sys.executable])],
    ids=["ddp-fabric", "ddp-torchrun", "fsdp"],
)
def test_two_processes_are_one(
    config: Callable[..., TrainConfig], alone: Path, tmp_path: Path, strategy: str, launcher: list[str]
) -> None:
    """Every term, the gradient's norm and the weights, to float32 rounding of sums in another order."""
    start(tmp_path / "run", config(), 2, strategy, launcher)
    one, two = records(alone), records(tmp_path / "run")
    assert len(one) == len(two) == STEPS
    for a, b in zip(one, two, strict=True):
        assert a.keys() == b.keys() and {"class", "points", "mask_dice", "grad_norm"} <= a.keys()
        for name in a.keys() - {"samples_per_s"}:
            assert b[name] == pytest.approx(a[name], rel=2e-4, abs=2e-5), (a["step"], name)
    states = [load_file(folder / "checkpoints" / "state.safetensors") for folder in (alone, tmp_path / "run")]
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        if name.startswith(("model/", "average/")):
            torch.testing.assert_close(states[1][name], value, rtol=1e-3, atol=2e-4, msg=name)
