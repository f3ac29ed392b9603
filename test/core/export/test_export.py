"""Exported files: they equal PyTorch, carry what a checkpoint carries, and what is wrong with one is one line."""

import contextlib
import importlib.util
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hdmap_core.errors import CheckpointError, ConfigError
from hdmap_core.inference import load_predictor
from hdmap_core.inference.engine import EagerEngine
from hdmap_core.inference.openvino_engine import import_openvino
from hdmap_core.inference.sample import sample_observation
from hdmap_core.preprocess import preprocess

pytest.importorskip("onnxscript", reason="needs the extra export")
pytest.importorskip("onnxruntime", reason="needs the extra export")

Hdmap = Callable[..., Any]
Write = Callable[..., Path]
FAMILIES = (
    *("student, masks", "student, vectors", "mapfm", "mapqr", "mapfm, swin", "mapfm, dinov2", "mapfm, radio"),
    *("hdmapnet", "pmapnet, lidar, hd"),
)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, write_checkpoint: Write) -> Path:
    """A folder with a small student as checkpoint, ONNX and, where OpenVINO is installed, IR."""
    from hdmap_core.export.onnx_file import export_onnx
    from hdmap_core.export.openvino_file import export_openvino
    from hdmap_core.export.reference import reference
    from hdmap_core.required_packages import MissingDependencyError

    folder = tmp_path_factory.mktemp("exported")
    path = write_checkpoint(folder, "student, vectors")
    export_onnx(reference(path), folder / "model.onnx")
    with contextlib.suppress(MissingDependencyError):
        export_openvino(reference(path), folder / "model.xml")
    return folder


def openvino() -> Any:
    """The package, imported as the program does it; skips without it."""
    if importlib.util.find_spec("openvino") is None:
        pytest.skip("needs the extra openvino")
    return import_openvino()


def file_of(folder: Path, suffix: str) -> Path:
    if suffix == ".xml":
        openvino()
    return folder / f"model{suffix}"


ENGINES = {".onnx": "onnxruntime", ".xml": "openvino", ".safetensors": "auto"}
suffixes = pytest.mark.parametrize("suffix", [".onnx", ".xml"])


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        *((name, ".onnx") for name in FAMILIES),
        *((name, ".xml") for name in ("student, masks", "mapfm", "pmapnet, lidar, hd")),
    ],
)
def test_a_family_equals_pytorch(name: str, suffix: str, tmp_path: Path, hdmap: Hdmap, write_checkpoint: Write) -> None:
    """On other images than those of the export's own comparison: scaled ones, a camera and all LiDAR points missing."""
    out = file_of(tmp_path, suffix)
    path = write_checkpoint(tmp_path, name)
    ended = hdmap("export", path, "--format", "onnx" if suffix == ".onnx" else "openvino", "-o", out)
    assert ended.code == 0 and "differs from PyTorch by" in ended.out, ended.err
    seen = sample_observation(size=(90, 160))
    seen = replace(seen, images=(*seen.images[:-1], None))
    ours, eager = load_predictor(out, "cpu"), load_predictor(path, "cpu", engine="eager")
    assert (
        ours.info == replace(eager.info, engine=ours.info.engine, engine_why="the file's suffix")
        and ours.info.engine != "eager"
    )
    assert ours.engine.source.provenance == {"dataset": "synth-v1", "step": 3}
    found, wanted = ours.predict(seen), eager.predict(seen)
    assert len(found.elements) == len(wanted.elements) and (name != "student, vectors" or found.elements)
    for one, other in zip(found.elements, wanted.elements, strict=True):
        assert one.label == other.label and one.score == pytest.approx(other.score, abs=1e-4)
        np.testing.assert_allclose(one.points, other.points, atol=1e-3)
    assert (found.raster is None) == (wanted.raster is None)
    if found.raster is not None:
        assert (found.raster == wanted.raster).mean() > 0.999


@suffixes
def test_heads_that_nobody_publishes_are_not_in_the_file(exported: Path, suffix: str) -> None:
    predictor = load_predictor(file_of(exported, suffix), "cpu")
    output = predictor.engine(preprocess(sample_observation(size=(90, 160)), predictor.config.model))
    assert output.semantic is None and output.vectors.logits.shape[:2] == (1, 1)
    with pytest.raises(ConfigError, match=r"holds the head vectors alone, not 'masks'; export .* --head masks"):
        load_predictor(file_of(exported, suffix), "cpu", head="masks")


def flipped(content: bytes) -> bytes:
    """The largest run of weights, overwritten: the file stays readable."""
    middle = len(content) // 2
    return content[:middle] + b"\x7f\x41" * 200 + content[middle + 400 :]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "cut": lambda content: content[: len(content) // 3],
    "text": lambda content: b"<html>log in</html>",
    "zeros": lambda content: bytes(len(content)),
}


@suffixes
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_one_line(
    exported: Path, suffix: str, damage: str, tmp_path: Path, hdmap: Hdmap, tiny_world: Path
) -> None:
    whole = file_of(exported, suffix)
    for each in exported.glob("model.*"):
        shutil.copy(each, tmp_path)
    (tmp_path / "model.safetensors").unlink()  # or that one would be run in its place
    path = tmp_path / whole.name
    path.write_bytes(DAMAGE[damage](whole.read_bytes()))
    hdmap("predict", path, tiny_world, "-o", tmp_path / "map.png").assert_refused(path.name)


@suffixes
def test_changed_weights_are_found_by_the_sample(exported: Path, suffix: str, tmp_path: Path) -> None:
    for each in exported.glob("model.*"):
        shutil.copy(each, tmp_path)
    path = file_of(tmp_path, suffix)
    if suffix == ".xml":
        weights = path.with_suffix(".bin")
        weights.write_bytes(flipped(weights.read_bytes()))
    else:
        import onnx

        network = onnx.load(path)
        largest = max(network.graph.initializer, key=lambda each: len(each.raw_data))
        largest.raw_data = flipped(largest.raw_data)
        onnx.save(network, path)
    with pytest.raises(CheckpointError, match="disagrees with PyTorch on its own sample"):
        load_predictor(path, "cpu", engine="onnxruntime" if suffix == ".onnx" else "openvino")
    instead = load_predictor(path, "cpu").engine
    assert instead.name == "eager" and instead.why.startswith(f"model.safetensors in place of {path.name}: ")
    assert "disagrees with PyTorch on its own sample" in instead.why


def test_another_programs_files(tmp_path: Path) -> None:
    import onnx

    info = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", [info], [
        onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    ])  # fmt: skip
    foreign = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(foreign, tmp_path / "foreign.onnx")
    with pytest.raises(CheckpointError, match=r"foreign.onnx holds a network, but not of hdmap_ros"):
        load_predictor(tmp_path / "foreign.onnx", "cpu")
    openvino().save_model(openvino().Core().read_model(tmp_path / "foreign.onnx"), tmp_path / "foreign.xml")
    with pytest.raises(CheckpointError, match=r"foreign.xml holds a network, but not of hdmap_ros"):
        load_predictor(tmp_path / "foreign.xml", "cpu")
    (tmp_path / "foreign.bin").unlink()
    with pytest.raises(CheckpointError, match=r"has no foreign.bin beside it"):
        load_predictor(tmp_path / "foreign.xml", "cpu")


@pytest.mark.parametrize("header", ["{", "[]", '{"format": 1}', '{"format": 2}', '{"format": 1, "config": 3}'])
def test_a_damaged_header_is_told(exported: Path, tmp_path: Path, header: str) -> None:
    import onnx

    network = onnx.load(exported / "model.onnx")
    onnx.helper.set_model_props(network, {"hdmap": header})
    onnx.save(network, tmp_path / "model.onnx")
    with pytest.raises(CheckpointError, match=r"model\.onnx.*export it again|config in its metadata"):
        load_predictor(tmp_path / "model.onnx", "cpu")


@pytest.mark.parametrize(
    ("suffix", "arguments", "words"),
    [
        (".onnx", {"device": "cuda"}, "has no CUDAExecutionProvider .*onnxruntime-gpu"),
        (".onnx", {"device": "cuda", "engine": "onnxruntime-tensorrt"}, "has no TensorrtExecutionProvider"),
        (".onnx", {"device": "cpu", "engine": "onnxruntime-tensorrt"}, "runs on CUDA only"),
        (".onnx", {"device": "gpu"}, "device 'gpu'"),
        (".onnx", {"precision": "fp16"}, "precision 'fp16' of model.onnx: use fp32"),
        (".onnx", {"engine": "openvino"}, "does not run model.onnx; use onnxruntime"),
        (".onnx", {"engine": "eager"}, "does not run model.onnx"),
        (".xml", {"device": "cuda"}, "OpenVINO runs on cpu here"),
        (".xml", {"precision": "fp16"}, "use fp32 or bf16"),
        (".safetensors", {"engine": "onnxruntime"}, "give model.onnx .*hdmap export .* --format onnx"),
        (".safetensors", {"engine": "openvino"}, "give model.xml .*--format openvino"),
        (".safetensors", {"engine": "fast"}, "engine 'fast': use auto, eager, compile, cuda-graph, onnxruntime"),
    ],
)
def test_what_cannot_be_had(exported: Path, suffix: str, arguments: dict[str, str], words: str) -> None:
    if "CUDA" in words or "Tensorrt" in words:
        onnxruntime = pytest.importorskip("onnxruntime")
        if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
            pytest.skip("this ONNX Runtime has CUDA")
    with pytest.raises(ConfigError, match=words):
        load_predictor(file_of(exported, suffix), **{"device": "cpu", "engine": ENGINES[suffix], **arguments})  # type: ignore[arg-type]


def test_a_gpu_that_this_onnx_runtime_cannot_use_is_told(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As on a machine with a GPU and without onnxruntime-gpu; only what PyTorch says of its device is made up."""
    if "CUDAExecutionProvider" in pytest.importorskip("onnxruntime").get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    path = Path(shutil.copy(exported / "model.onnx", tmp_path))
    with pytest.raises(ConfigError, match="has no CUDAExecutionProvider"):
        load_predictor(path, "cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    engine = load_predictor(path).engine
    words = "on the CPU, as this ONNX Runtime has no CUDAExecutionProvider (onnxruntime-gpu does)"
    assert (engine.name, engine.device, engine.why) == ("onnxruntime", "cpu", f"the file's suffix; {words}")
    assert words in caplog.text


def test_another_number_of_cameras_is_told(tmp_path: Path, hdmap: Hdmap, write_checkpoint: Write) -> None:
    path = write_checkpoint(tmp_path, "mapfm")
    ended = hdmap("export", path, "--cameras", 2)
    assert ended.code == 0 and "cameras per cell" not in ended.out, "of two cameras nothing is known"
    predictor = load_predictor(path.with_suffix(".onnx"), "cpu")
    assert len(predictor.predict(sample_observation(("A", "B"), (90, 160))).elements) == 12
    with pytest.raises(ConfigError, match="was exported for 2 cameras, here are 6; export it again with --cameras 6"):
        predictor.predict(sample_observation(size=(90, 160)))


def test_auto_takes_what_lies_beside_only_if_it_is_of_this_checkpoint(
    exported: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, write_checkpoint: Write
) -> None:
    caplog.set_level(logging.INFO)
    path = Path(shutil.copy(exported / "model.safetensors", tmp_path))
    alone = load_predictor(path, "cpu").engine
    assert (alone.name, alone.why) == ("eager", "no exported file beside the checkpoint")
    shutil.copy(exported / "model.onnx", tmp_path)
    taken = load_predictor(path, "cpu").engine
    assert (taken.name, taken.why) == ("onnxruntime", "model.onnx lies beside the checkpoint")
    assert "model.safetensors runs in onnxruntime, fp32: model.onnx lies beside" in caplog.text
    assert load_predictor(path, "cpu", engine="eager").engine.name == "eager"
    masks = load_predictor(path, "cpu", head="masks").engine
    assert (masks.name, masks.why) == ("eager", "model.onnx publishes otherwise")
    (tmp_path / "model.onnx").write_bytes(b"")
    damaged = load_predictor(path, "cpu").engine
    assert damaged.name == "eager" and "no whole ONNX file" in damaged.why and damaged.why in caplog.text
    shutil.copy(exported / "model.onnx", tmp_path)
    write_checkpoint(tmp_path, "student, vectors", seed=1)
    other = load_predictor(path, "cpu").engine
    assert (other.name, other.why) == ("eager", "model.onnx was made of another checkpoint")


@suffixes
def test_threads_are_torchs(exported: Path, suffix: str) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        engine = load_predictor(file_of(exported, suffix), "cpu").engine
        if suffix == ".onnx":
            assert engine._session.get_session_options().intra_op_num_threads == 1  # type: ignore[attr-defined]
        else:
            assert engine._network.get_property("INFERENCE_NUM_THREADS") == 1  # type: ignore[attr-defined]
    finally:
        torch.set_num_threads(before)


@suffixes
def test_a_missing_runtime_is_one_line(
    exported: Path, suffix: str, monkeypatch: pytest.MonkeyPatch, hdmap: Hdmap, tiny_world: Path, tmp_path: Path
) -> None:
    module = "onnxruntime" if suffix == ".onnx" else "openvino"
    path, there = Path(shutil.copy(file_of(exported, suffix), tmp_path)), importlib.util.find_spec
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == module else there(name, *rest))
    ended = hdmap("predict", path, tiny_world, "-o", tmp_path / "map.png")
    ended.assert_refused(f"{module} is not installed", f"pip install '{module}")


def test_benchmark_of_a_model_with_lidar_and_roads(tmp_path: Path, hdmap: Hdmap, write_checkpoint: Write) -> None:
    """PyTorch alone: it is not run a second time to be compared with itself."""
    path = write_checkpoint(tmp_path, "pmapnet, lidar, hd")
    runs: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        once = EagerEngine.__call__
        patch.setattr(EagerEngine, "__call__", lambda *arguments: (runs.append(1), once(*arguments))[1])
        patch.setattr("hdmap_core.inference.benchmark.BUDGET_S", 1e-3)  # a model as slow as this leaves no time for 30
        patch.setattr("os.getloadavg", lambda: (50.0 * (os.cpu_count() or 1), 0.0, 0.0))
        ended = hdmap("benchmark", path)
    assert ended.code == 0 and len(runs) == 1 + 3, "one to warm up"
    assert "dense in eager: warming up" in ended.err and "3 sets, the first ones took" in ended.err
    assert "this machine is busy, 50.0 processes per core" in ended.out
    assert "this is PyTorch; `hdmap export` makes files" in ended.out


def test_views_of_a_model_that_has_none(exported: Path, hdmap: Hdmap) -> None:
    hdmap("export", exported / "model.safetensors", "--max-views", 2).assert_refused(
        "has no BEVFormer view transform", "leave out --max-views"
    )


def test_another_suffix_is_refused(tmp_path: Path, hdmap: Hdmap, write_checkpoint: Write) -> None:
    path = write_checkpoint(tmp_path, "student, vectors")
    hdmap("export", path, "-o", tmp_path / "x.engine").assert_refused("must end in .onnx")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["model.safetensors"]


def test_what_disagrees_is_not_written(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hdmap_core.export.onnx_file import export_onnx
    from hdmap_core.export.reference import reference
    from hdmap_core.inference import exported_file

    monkeypatch.setitem(exported_file.TOLERANCE, "fp32", -1.0)
    with pytest.raises(ConfigError, match="student is not exported: onnxruntime disagrees with PyTorch by"):
        export_onnx(reference(exported / "model.safetensors"), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_openvino_tells_nobody_that_it_is_used() -> None:
    """Its telemetry speaks to a server at import; in a process of its own, where nothing has imported it before."""
    openvino()
    program = """
import socket, sys
def refuse(*_): print("network"); raise OSError
socket.getaddrinfo = socket.socket.connect = refuse
from hdmap_core.inference.openvino_engine import import_openvino
import_openvino().Core()
print([name for name, module in sys.modules.items() if name.startswith("openvino_telemetry")])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
