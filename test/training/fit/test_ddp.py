"""Two processes (gloo, CPU) train as one does with the same global batch."""

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

from hdmap_core.checkpoint import CheckpointConfig, load_checkpoint, save_checkpoint
from hdmap_core.models import build_model
from training.config import TrainConfig
from training.fit.run_folder import metrics_of

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
STEPS = 3
PATIENCE_S = 900
"""Of processes whose start alone takes seconds on a free machine, and minutes on a busy one."""
# Of another test in this process, they would make the child wait for a group that never comes.
GROUP_VARIABLES = ("LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE")
# The agent's own address: a machine's name may stand for none that can be reached.
TORCHRUN = ("torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1", "--nproc-per-node", "2")


def start(*command: object) -> str:
    """Runs Python in another process; fails with what it said."""
    inherited = {name: value for name, value in os.environ.items() if name not in GROUP_VARIABLES}
    environment = {**inherited, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    called = [sys.executable, *map(str, command)]
    done = subprocess.run(called, env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    return done.stdout


def records(folder: Path) -> list[dict[str, Any]]:
    return [record for record in metrics_of(folder) if record["phase"] == "train"]


def assert_same_run(alone: Path, shared: Path, terms: set[str], atol: float = 2e-4) -> None:
    """Every record and all weights, within rounding."""
    one, two = records(alone), records(shared)
    assert len({record["loss"] for record in one}) == STEPS
    for a, b in zip(one, two, strict=True):
        assert a.keys() == b.keys() and terms <= a.keys()
        for name in a.keys() - {"samples_per_s", "phase"}:
            assert b[name] == pytest.approx(a[name], rel=2e-4, abs=2e-5), (shared.name, a["step"], name)
    state, other = (load_file(folder / "checkpoints" / "state.safetensors") for folder in (alone, shared))
    assert state.keys() == other.keys()
    for name, value in state.items():
        if not name.startswith("optimizer/"):
            torch.testing.assert_close(
                other[name], value, rtol=1e-3, atol=atol, msg=lambda text, at=(shared.name, name): f"{at}: {text}"
            )


@pytest.fixture(scope="module")
def runs(
    tiny_config: Callable[..., TrainConfig], ddp_worker: ModuleType, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder with runs of two recipes, by one process (`…/alone`) and by two of one torchrun (`…/ddp`, `…/fsdp`).

    `plain` is the tiny recipe with a global batch of 4, `taught` the same with a teacher. Every step is logged.
    """
    folder = tmp_path_factory.mktemp("runs")
    teacher = folder / "teacher.safetensors"
    larger = tiny_config("model.bev_encoder.out_channels=24", "model.view_transform.channels=12")
    torch.manual_seed(5)
    save_checkpoint(teacher, build_model(larger.model), CheckpointConfig(model=larger.model), {})
    terms = (
        *("{kind: tgpd, taps: [bev], patches: [2, 3]", "{kind: msrd, mask: soft", "{kind: bev_features, where: lines"),
        *("{kind: bevdistill, width: 16, points: 8", "{kind: unidistill, boxes: 2", "{kind: vector_relation"),
        "{kind: vector_response, min_score: 0.04",
    )
    taught = f"distillation=[{', '.join(term + ', source: teacher}' for term in terms)}]"
    changes = {"plain": (), "taught": (taught, "objective=distillation", f"sources.teacher={teacher}")}
    for name, change in changes.items():
        settings = ("optim.batch_size=4", f"optim.steps={STEPS}", "log_every=1", "save_every=100", "data.workers=1")
        config = tiny_config(*settings, *change)
        ddp_worker.train(config, folder / name / "alone", 1, "ddp")
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    shared = (("plain", "ddp"), ("plain", "fsdp"), ("taught", "ddp"))
    places = [f"{folder / name}.yaml:{folder / name / strategy}:{strategy}" for name, strategy in shared]
    start("-m", *TORCHRUN, ddp_worker.__file__, 2, 0, *places)
    return folder


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_are_one(runs: Path, strategy: str) -> None:
    """Every term, the gradient's norm and the weights are those of one process.

    To float32 rounding of sums in another order, that is, which AdamW makes larger where gradients are nearly nothing.
    """
    terms = {"class", "points", "mask_dice", "grad_norm"}
    assert_same_run(runs / "plain" / "alone", runs / "plain" / strategy, terms)


def test_two_processes_teach_as_one(runs: Path) -> None:
    """Every term that masks and polylines have, and the projections, whose gradients Fabric does not know."""
    # More terms, so more weights whose gradients are nearly nothing; a step moves a weight by up to 1.5e-3.
    terms = {"bevdistill_teacher", "vector_response_teacher"}
    assert_same_run(runs / "taught" / "alone", runs / "taught" / "ddp", terms, 1e-3)
    state = load_file(runs / "taught" / "ddp" / "checkpoints" / "state.safetensors")
    assert any(name.startswith("learned/") for name in state)


def test_hdmap_train_starts_its_second_process(synthetic_root: Path, recipe: Path, tmp_path: Path) -> None:
    smaller = ("optim.steps=2", "optim.batch_size=2", "optim.warmup_steps=0", "log_every=1", "evaluate_frames=1")
    places = (f"data.root={synthetic_root}", f"data.cache={tmp_path / 'cache'}", "data.workers=1")
    command = ("-m", "hdmap_core", "train", recipe, *places, *smaller, "--devices", 2, "--accelerator", "cpu")
    said = start(*command, "-o", tmp_path / "run")
    assert [record["step"] for record in records(tmp_path / "run")] == [1, 2]
    assert said.count("training and") == 1, "only the first process speaks"
    assert [record["phase"] for record in metrics_of(tmp_path / "run")] == ["train", "train", "val"]
    assert load_checkpoint(tmp_path / "run" / "checkpoints" / "last.safetensors").provenance["step"] == 2
