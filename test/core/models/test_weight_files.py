"""Weights of a safetensors file, and what else such a file may hold. What is none: test_file_kinds.py."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from hdmap_core.checkpoint import load_checkpoint
from hdmap_core.errors import CheckpointError
from hdmap_core.files.kinds import what_it_is
from hdmap_core.models.weight_files import read_weights

STATE = {"module.conv.weight": torch.arange(64.0), "module.conv.bias": torch.zeros(4)}
OURS = save(STATE, metadata={"hdmap": "{}"})


def test_another_programs_weights(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    path.write_bytes(save(STATE, metadata={"format": "pt"}))
    assert what_it_is(path) is None
    with pytest.raises(CheckpointError, match=r"not of hdmap_ros .* 2 tensors, such as module.conv.bias, module.conv"):
        load_checkpoint(path)


def test_the_state_of_a_run(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    path.write_bytes(save(STATE, metadata={"hdmap_state": "{}"}))
    with pytest.raises(CheckpointError, match=r"--resume.*give best.safetensors"):
        load_checkpoint(path)


@pytest.mark.parametrize("entry", ["", "[]", "{"])
def test_a_damaged_entry_of_ours(entry: str, tmp_path: Path) -> None:
    path = tmp_path / "ours.safetensors"
    path.write_bytes(save(STATE, metadata={"hdmap": entry}))
    with pytest.raises(CheckpointError, match="is damaged: the 'hdmap' entry"):
        load_checkpoint(path)


def test_a_whole_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "ours.safetensors"
    path.write_bytes(OURS)
    metadata, tensors = read_weights(path, "")
    assert metadata == {"hdmap": "{}"} and tensors.keys() == STATE.keys()
    assert torch.equal(tensors["module.conv.weight"], STATE["module.conv.weight"])


def test_a_missing_file_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist; give another"):
        read_weights(tmp_path / "none.safetensors", "give another")
