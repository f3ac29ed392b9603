"""Every kind of file that somebody hands over as weights is named, and no pickle is run."""

import gzip
import io
import os
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save
from torch import nn

from hdmap_core.checkpoint import load_checkpoint
from hdmap_core.errors import CheckpointError
from hdmap_core.files.kinds import what_it_is

onnx_helper = pytest.importorskip("onnx.helper")

STATE = {"module.conv.weight": torch.arange(64.0), "module.conv.bias": torch.zeros(4)}
OURS = save(STATE, metadata={"hdmap": "{}"})


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.place),)


def torch_zip(trap: Trap) -> bytes:
    stream = io.BytesIO()
    torch.save({"state_dict": STATE, "meta": trap}, stream)
    return stream.getvalue()


def torch_legacy(trap: Trap) -> bytes:
    stream = io.BytesIO()
    torch.save({"state_dict": STATE, "meta": trap}, stream, _use_new_zipfile_serialization=False)
    return stream.getvalue()


def torch_script(_: Trap) -> bytes:
    stream = io.BytesIO()
    torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)), stream)
    return stream.getvalue()


def onnx_model(_: Trap) -> bytes:
    graph = onnx_helper.make_graph([], "empty", [], [])
    return onnx_helper.make_model(graph, producer_name="pytorch").SerializeToString()


def tar_archive(_: Trap) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("weights"))
    return stream.getvalue()


KINDS: dict[str, tuple[Callable[[Trap], bytes], str]] = {
    "PyTorch's zip": (torch_zip, r"a PyTorch file \(.pth.*which is not read: the pickle in it can run any code"),
    "PyTorch's zip, cut": (lambda trap: torch_zip(trap)[:-200], "a zip archive that is cut off"),
    "PyTorch's old format": (torch_legacy, r"a Python pickle \(.*PyTorch .pth.*which is not read"),
    **{
        f"pickle {protocol}": (lambda trap, protocol=protocol: pickle.dumps(trap, protocol), "a Python pickle")
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
        if protocol != 1  # without any mark of its own
    },
    "pickle of the issues": (lambda _: b"cos\nsystem\n(S'exit 1'\ntR.", "a Python pickle"),
    "TorchScript": (torch_script, "a TorchScript archive"),
    "ONNX": (onnx_model, "an ONNX model, not a checkpoint"),
    "TensorRT": (lambda _: b"ftrt\0\0\0\0" + bytes(range(256)), "a TensorRT engine"),
    "a page": (lambda _: b"\n<!DOCTYPE html><html>Please log in</html>", "a web page"),
    "a page, in capitals": (lambda _: b"<HTML><HEAD>", "a web page"),
    "Git LFS": (lambda _: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "`git lfs pull`"),
    "git-annex": (lambda _: b"/annex/objects/SHA256E-s1--0.safetensors\n", "`git annex get`"),
    "nothing": (lambda _: b"", r"empty \(0 bytes\)"),
    "zeros": (lambda _: bytes(9000), "9000 zero bytes"),
    "gzip": (lambda _: gzip.compress(OURS), "a gzip archive, to be unpacked first"),
    "tar": (tar_archive, "a tar archive, to be unpacked first"),
    "JSON": (lambda _: b'{"error": "Access to model is restricted"}', r"a text file \(JSON\)"),
    "YAML": (lambda _: "model:\n  name: größer\n".encode(), "a text file"),
    "ours, cut in its header": (lambda _: OURS[:40], "cut off in its header, after 40 bytes; copy it again"),
    "ours, cut": (lambda _: OURS[:-5], r"a checkpoint of hdmap_ros that is cut off: \d+ of \d+ bytes"),
    "another's, cut": (lambda _: save(STATE)[:-5], r"a safetensors file that is cut off: \d+ of \d+ bytes"),
    "noise": (lambda _: b"\x91\xe3" * 700, "not a readable safetensors file"),
    "a few bytes": (lambda _: b"\x10\xff", "not a readable safetensors file"),
    "ours, header overwritten": (lambda _: OURS[:9] + b"\xfe" * 30 + OURS[39:], "not a readable safetensors file"),
}


@pytest.mark.parametrize("name", ["model.pth", "model.safetensors"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_checkpoint_is_named_and_never_run(kind: str, name: str, tmp_path: Path) -> None:
    make, words = KINDS[kind]
    path = tmp_path / name
    path.write_bytes(make(Trap(tmp_path / "sprung")))
    with pytest.raises(CheckpointError, match=words) as caught:
        load_checkpoint(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "sprung").exists()


def test_the_trap_works(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Trap(tmp_path / "sprung")))
    assert (tmp_path / "sprung").is_dir()


@pytest.mark.parametrize(("suffix", "words"), [(".engine", "TensorRT"), (".plan", "TensorRT"), (".onnx", "ONNX")])
def test_a_name_tells_where_the_content_does_not(suffix: str, words: str, tmp_path: Path) -> None:
    path = (tmp_path / "model").with_suffix(suffix)
    path.write_bytes(b"\x91\xe3" * 700)
    assert words in str(what_it_is(path))
