"""Sums over processes: with one, the value itself; with two, the value and the gradient of the whole batch."""

import importlib
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from training.losses.global_sum import global_mean, global_sum

SAMPLES = [[0.3, -1.2, 2.0], [0.7, 0.1, -0.4]]
WEIGHT = [1.5, -0.5, 0.8]
# In a file of its own: processes that are spawned must be able to import what they run.
PROCESS = f"""
import torch
from safetensors.torch import save_file
from torch import distributed

from training.losses.global_sum import global_mean, global_sum

def work(rank, folder):
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{{folder}}/meeting", rank=rank, world_size=2)
    weight = torch.tensor({WEIGHT}, requires_grad=True)
    overlap = global_sum((weight * torch.tensor({SAMPLES}[rank])).exp())
    loss = (overlap / global_sum(weight.square() * (rank + 1))).sum() + global_mean(weight.sum() * rank)
    loss.backward()
    gradient = weight.grad.clone()
    distributed.all_reduce(gradient)  # what DDP does: the mean over processes
    save_file({{"loss": loss.detach(), "gradient": gradient / 2}}, f"{{folder}}/{{rank}}.safetensors")
    distributed.destroy_process_group()
"""


def loss_of_the_whole(weight: Tensor) -> Tensor:
    """What the two processes compute together, without them."""
    overlap = (weight * torch.tensor(SAMPLES)).exp().sum(dim=0)
    return (overlap / (3 * weight.square())).sum() + weight.sum() / 2


def test_one_process_is_the_identity() -> None:
    value = torch.tensor([1.0, -2.0], requires_grad=True)
    assert global_sum(value) is value and global_mean(value) is value
    global_sum(value * value).sum().backward()
    assert value.grad is not None and value.grad.tolist() == [2.0, -4.0]


def test_two_processes_are_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "summing_process.py").write_text(PROCESS)
    monkeypatch.syspath_prepend(str(tmp_path))
    torch.multiprocessing.spawn(importlib.import_module("summing_process").work, (str(tmp_path),), nprocs=2)
    sys.modules.pop("summing_process")
    weight = torch.tensor(WEIGHT, requires_grad=True)
    loss = loss_of_the_whole(weight)
    loss.backward()
    for rank in (0, 1):
        found = load_file(tmp_path / f"{rank}.safetensors")
        torch.testing.assert_close(found["loss"], loss.detach())
        torch.testing.assert_close(found["gradient"], weight.grad)
