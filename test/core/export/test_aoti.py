"""Packages of native code: they equal PyTorch, and nothing of a package that is not right is loaded or unpickled."""

import io
import json
import pickle
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from hdmap_core.errors import CheckpointError, ConfigError
from hdmap_core.inference import load_predictor
from hdmap_core.inference.sample import sample_observation
from hdmap_core.inference.sealed_file import ROOT, read_seal, sealed
from hdmap_core.model_io import ModelInput
from hdmap_core.preprocess import preprocess

if not hasattr(torch.cpu, "get_capabilities"):
    pytest.skip("needs a newer PyTorch", allow_module_level=True)

Hdmap = Callable[..., Any]
Write = Callable[..., Path]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, write_checkpoint: Write) -> Path:
    """A folder with a checkpoint and a package of it whose seal is right, its code a stand-in that nothing loads."""
    from hdmap_core.export.reference import reference
    from hdmap_core.inference.aoti_engine import made_for

    folder = tmp_path_factory.mktemp("exported")
    found = reference(write_checkpoint(folder, "student, vectors"))
    members = {f"{ROOT}archive_version": b"0", f"{ROOT}data/aotinductor/model/c.wrapper.so": bytes(range(256)) * 400}
    (folder / "model.pt2").write_bytes(sealed(members, found.header(), made_for(torch.device("cpu"))))
    return folder


def changed(exported: Path, folder: Path, change: Callable[[dict[str, bytes], dict[str, str]], None]) -> Path:
    """The package with other members or another purpose, sealed anew as whoever hands it over could."""
    seal = read_seal(exported / "model.pt2")
    with zipfile.ZipFile(exported / "model.pt2") as archive:
        members = {name: archive.read(name) for name in seal.members}
    made_for = dict(seal.made_for)
    change(members, made_for)
    path = folder / "other.pt2"
    path.write_bytes(sealed(members, seal.text, made_for))
    return path


@pytest.fixture
def never_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test fails if anything hands a package to PyTorch."""

    def load(*_: object, **__: object) -> None:
        raise AssertionError("a package was loaded")

    monkeypatch.setattr(torch._inductor, "aoti_load_package", load)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_it_equals_pytorch(tmp_path: Path, write_checkpoint: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled for real, which takes a compiler a quarter of a minute however small the model is."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    path = write_checkpoint(tmp_path, "student, vectors")
    command = [sys.executable, "-m", "hdmap_core", "export", str(path), "--format", "aoti"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0 and "differs from PyTorch by" in ended.stdout, ended.stderr
    ours = load_predictor(path.with_suffix(".pt2"), "cpu")
    eager = load_predictor(path, "cpu", engine="eager")
    assert (ours.info.engine, ours.info.engine_why, ours.info.device) == ("aoti", "the file's suffix", "cpu")
    assert replace(ours.info, engine="eager", engine_why=eager.info.engine_why) == eager.info
    assert ours.engine.source == eager.engine.source
    seen = sample_observation(size=(90, 160))
    found, wanted = ours.predict(seen), eager.predict(seen)
    assert len(found.elements) == len(wanted.elements) > 0
    for one, other in zip(found.elements, wanted.elements, strict=True):
        assert one.label == other.label and one.score == pytest.approx(other.score, abs=1e-4)
        assert one.points == pytest.approx(other.points, abs=1e-3)


def test_a_package_is_not_run_because_it_lies_somewhere(exported: Path, never_loaded: None) -> None:
    engine = load_predictor(exported / "model.safetensors", "cpu").engine
    assert (engine.name, engine.why) == ("eager", "no exported file beside the checkpoint")


def test_asking_what_it_is_runs_nothing(exported: Path, hdmap: Hdmap, never_loaded: None) -> None:
    told = json.loads(hdmap("info", exported / "model.pt2", "--json").out)
    assert told["kind"] == "a network that hdmap export made"
    assert told["facts"]["model"] == "student, native code by AOTInductor"
    assert told["facts"]["made for torch"] == torch.__version__.partition("+")[0]


def weights_of_pickles(members: dict[str, bytes], _: dict[str, str]) -> None:
    """What PyTorch's own loader would unpickle."""
    members[f"{ROOT}data/weights/w"] = pickle.dumps(print)


MISFITS: dict[str, tuple[Callable[[dict[str, bytes], dict[str, str]], None], str]] = {
    "torch": (lambda _, made: made.update(torch="1.0.0"), "was compiled for PyTorch 1.0.0, here is "),
    "machine": (lambda _, made: made.update(machine="Linux arm64"), "was compiled for Linux arm64, here is "),
    "cpu": (lambda _, made: made.update(cpu=made["cpu"] + " avx9"), "a processor with avx9, which this one lacks"),
    "nothing said": (lambda _, made: made.clear(), "was compiled for PyTorch None"),
    "pickles": (weights_of_pickles, f"it holds {ROOT}data/weights/w"),
    "a script": (lambda members, _: members.update({f"{ROOT}models/model.json": b"{}"}), "it holds network/models/"),
    "way out": (lambda members, _: members.update({f"{ROOT}../../x.so": b""}), "it holds network/../../x.so"),
}


@pytest.mark.parametrize("case", MISFITS)
def test_what_is_made_for_elsewhere_is_not_loaded(
    exported: Path, case: str, tmp_path: Path, never_loaded: None
) -> None:
    change, words = MISFITS[case]
    with pytest.raises(CheckpointError) as told:
        load_predictor(changed(exported, tmp_path, change), "cpu")
    assert words in str(told.value) and "other.pt2" in str(told.value)


def test_a_package_for_cuda_says_so(exported: Path, tmp_path: Path, never_loaded: None) -> None:
    path = changed(exported, tmp_path, lambda _, made: made.update(device="cuda"))
    with pytest.raises(
        ConfigError, match=r"other\.pt2 was compiled for cuda, not cpu; export it again with --device cpu"
    ):
        load_predictor(path, "cpu")
    if not torch.cuda.is_available():
        with pytest.raises(CheckpointError, match="was compiled for CUDA, of which there is no device here"):
            load_predictor(path)


def zipped(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def one_bit(content: bytes) -> bytes:
    """In the middle of the shared object."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


DAMAGE: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda _: b"", "empty"),
    "cut": (lambda content: content[: len(content) // 2], "cut off"),
    "one bit": (one_bit, "has changed"),
    "a page": (lambda _: b"<html>log in</html>", "a web page"),
    "zeros": (lambda content: bytes(len(content)), "zero bytes"),
    "another program's": (lambda _: zipped(x=b"1"), "a zip archive"),
    "pickle": (lambda _: zipped(**{"archive/data.pkl": pickle.dumps(print)}), "the pickle in it can run any code"),
    "no seal": (lambda _: zipped(**{f"{ROOT}extra/hdmap.json": b"{"}), "its seal cannot be read"),
    "odd seal": (lambda _: zipped(**{f"{ROOT}extra/hdmap.json": b"[]"}), "its seal cannot be read"),
    "less than sealed": (
        lambda _: zipped(**{f"{ROOT}extra/hdmap.json": b'{"header": "", "made_for": {}, "sha256": {"a": "b"}}'}),
        "does not hold the files that its seal names",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_package_is_one_line(
    exported: Path, damage: str, tmp_path: Path, hdmap: Hdmap, never_loaded: None
) -> None:
    change, words = DAMAGE[damage]
    path = tmp_path / "model.pt2"
    path.write_bytes(change((exported / "model.pt2").read_bytes()))
    hdmap("predict", path, tmp_path, "-o", tmp_path / "map.png").assert_refused("model.pt2", words)
    hdmap("info", path).assert_refused("model.pt2", words)


def test_a_damaged_package_with_its_checkpoint_beside_it(
    exported: Path, tmp_path: Path, never_loaded: None, caplog: pytest.LogCaptureFixture
) -> None:
    path = changed(exported, tmp_path, lambda _, made: made.update(torch="1.0.0"))
    shutil.copy(exported / "model.safetensors", path.with_suffix(".safetensors"))
    engine = load_predictor(path, "cpu").engine
    assert engine.name == "eager" and "other.safetensors in place of other.pt2" in engine.why
    assert "was compiled for PyTorch 1.0.0" in engine.why and engine.why in caplog.text
    with pytest.raises(CheckpointError, match=r"was compiled for PyTorch 1\.0\.0"):
        load_predictor(path, "cpu", engine="aoti")


def test_without_a_compiler(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hdmap: Hdmap) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    path = shutil.copy(exported / "model.safetensors", tmp_path)
    told = ("no-such-compiler is not there", "apt install g++")
    hdmap("export", path, "--format", "aoti").assert_refused(*told)
    hdmap("benchmark", path, "--engine", "compile", "--sets", 2).assert_refused(*told)
    assert [each.name for each in tmp_path.iterdir()] == ["model.safetensors"]


def test_torch_compile(exported: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As an engine: Dynamo and the checks for real; Inductor's part, which takes a minute, is `aot_eager`'s."""
    from hdmap_core.inference import compiled_engine

    compiled = torch.compile
    monkeypatch.setattr(compiled_engine.torch, "compile", lambda module: compiled(module, backend="aot_eager"))
    engine = load_predictor(exported / "model.safetensors", "cpu", engine="compile").engine
    assert engine.name == "compile" and engine.why.startswith("asked for; the first call took ")
    monkeypatch.setattr(compiled_engine, "TOLERANCE", {"fp32": -1.0})
    with pytest.raises(ConfigError, match=r"torch.compile of student disagrees with PyTorch by .*; take engine eager"):
        load_predictor(exported / "model.safetensors", "cpu", engine="compile")


@pytest.mark.parametrize("limit", [None, 3])
def test_torch_compile_reads_as_many_views_as_the_rig_asks_for(
    limit: int | None, tmp_path: Path, write_checkpoint: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the graph is made for; that Dynamo makes it takes minutes and is left out."""
    from hdmap_core.inference import compiled_engine

    monkeypatch.setattr(compiled_engine.torch, "compile", lambda module: module)
    engine = load_predictor(write_checkpoint(tmp_path, "mapfm"), "cpu", engine="compile").engine
    assert isinstance(engine, compiled_engine.CompiledEngine)
    transform, seen = engine._eager.model.view_transform, []
    transform.max_views = limit
    transform.register_forward_pre_hook(lambda module, _: seen.append(module.max_views))
    ring = sample_observation(size=(90, 160))
    poses = ring.rig.ego_from_camera.clone()
    poses[1:4] = poses[0]
    crowded = replace(ring, rig=replace(ring.rig, ego_from_camera=poses))
    for observation in (ring, ring, crowded, ring):
        engine(preprocess(observation, engine.source.config.model))
    assert seen[:2] == [2, 2] and seen[3] == 2 and (seen[2] == 3 if limit else seen[2] >= 4)
    assert transform.max_views == limit
    with engine._eager.as_many_views_as(ModelInput()) as views:
        assert views is None and transform.max_views == limit


def test_cuda_graphs_need_cuda(exported: Path) -> None:
    with pytest.raises(ConfigError, match="engine 'cuda-graph' runs on CUDA only"):
        load_predictor(exported / "model.safetensors", "cpu", engine="cuda-graph")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_cuda_graphs(exported: Path, precision: str) -> None:
    path = exported / "model.safetensors"
    eager = load_predictor(path, "cuda", precision, engine="eager")
    ours = load_predictor(path, "cuda", precision, engine="cuda-graph")
    seen = sample_observation(size=(90, 160))
    for observation in (seen, replace(seen, images=(None, *seen.images[1:]))):
        found, wanted = ours.predict(observation), eager.predict(observation)
        assert [each.label for each in found.elements] == [each.label for each in wanted.elements]
