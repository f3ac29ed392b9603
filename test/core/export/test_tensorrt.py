"""What of TensorRT needs none: the graph that it is given, and files that are refused before it would run them."""

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from hdmap_core.errors import CheckpointError, ConfigError, MissingDependencyError
from hdmap_core.export.reference import reference
from hdmap_core.inference import load_predictor, tensorrt_engine
from hdmap_core.inference.engine import input_tensors
from hdmap_core.inference.exported_file import TOLERANCE
from hdmap_core.inference.sealed_file import ROOT, sealed

Hdmap = Callable[..., Any]
Write = Callable[..., Path]
without_tensorrt = pytest.mark.skipif(tensorrt_engine.is_installed(), reason="TensorRT is here")
MADE_FOR = {"TensorRT": "10.9.0", "GPU": "NVIDIA H100", "precision": "fp16"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, write_checkpoint: Write) -> Path:
    """A checkpoint, and an engine whose seal is right, its plan a stand-in."""
    folder = tmp_path_factory.mktemp("exported")
    found = reference(write_checkpoint(folder, "mapfm"))
    content = sealed({tensorrt_engine.PLAN: b"plan"}, found.header(), MADE_FOR)
    (folder / "model.engine").write_bytes(content)
    return folder


def test_the_graph_in_fp16_equals_pytorch(folder: Path) -> None:
    """In ONNX Runtime; products in fp16, geometry in fp32."""
    onnx = pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    from hdmap_core.export.half_precision import in_half_precision
    from hdmap_core.export.onnx_file import onnx_bytes

    found = reference(folder / "model.safetensors")
    whole = onnx_bytes(found)
    content = in_half_precision(whole)
    assert len(content) < len(whole)
    types = {each.data_type for each in onnx.load_from_string(content).graph.initializer}
    assert onnx.TensorProto.FLOAT16 in types
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    for sample in (found.sample, found.other):
        given = {name: value.numpy() for name, value in input_tensors(sample.inputs).items()}
        outputs = dict(zip(sample.values, map(torch.from_numpy, session.run(list(sample.values), given)), strict=True))
        assert 0 < sample.deviation(outputs) < TOLERANCE["fp16"] / 10


@without_tensorrt
def test_without_the_library(folder: Path, tmp_path: Path, hdmap: Hdmap) -> None:
    told = ("TensorRT is not installed", "pip install tensorrt")
    checkpoint, engine = (folder / f"model{suffix}" for suffix in (".safetensors", ".engine"))
    hdmap("export", checkpoint, "--format", "tensorrt", "-o", tmp_path / "x.engine").assert_refused(*told)
    assert not list(tmp_path.iterdir())
    with pytest.raises(MissingDependencyError, match="TensorRT is not installed"):
        load_predictor(engine, engine="tensorrt")
    instead = load_predictor(engine, "cpu").engine
    assert instead.name == "eager" and "model.safetensors in place of model.engine: TensorRT is not" in instead.why
    assert load_predictor(checkpoint, "cpu").engine.why == "no exported file beside the checkpoint"


@pytest.mark.parametrize(
    ("here", "words"),
    [
        ({"TensorRT": "11.4.0"}, "was built for TensorRT 10.9.0, here is 11.4.0; export the checkpoint again here"),
        ({"GPU": "NVIDIA L4"}, "was built for GPU NVIDIA H100, here is NVIDIA L4"),
    ],
)
def test_an_engine_of_another_version_or_gpu(
    folder: Path, here: dict[str, str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library and the GPU are stand-ins that say their names alone."""
    there = MADE_FOR | here
    library = SimpleNamespace(__version__=there["TensorRT"])
    monkeypatch.setattr(tensorrt_engine, "import_tensorrt", lambda: library)
    monkeypatch.setattr(tensorrt_engine, "cuda_device", lambda _: torch.device("cuda", 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: there["GPU"])
    with pytest.raises(CheckpointError) as told:
        load_predictor(folder / "model.engine", engine="tensorrt")
    assert words in str(told.value)
    with pytest.raises(ConfigError, match=r"precision 'bf16' of model\.engine: use fp32 or fp16"):
        load_predictor(folder / "model.engine", precision="bf16")


OTHERS = {
    "a plan": (b"ftrt" + bytes(64), "it is a TensorRT engine"),
    "empty": (b"", "it is empty"),
    "no plan": (sealed({f"{ROOT}x": b"1"}, "", {}), f"holds no {tensorrt_engine.PLAN}"),
    "header": (sealed({tensorrt_engine.PLAN: b"1"}, "{", {}), "its metadata cannot be read"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_files_of_others(case: str, tmp_path: Path, hdmap: Hdmap) -> None:
    content, words = OTHERS[case]
    path = tmp_path / "other.engine"
    path.write_bytes(content)
    hdmap("benchmark", path).assert_refused("other.engine", words)


@pytest.mark.tensorrt
@pytest.mark.skipif(
    not (tensorrt_engine.is_installed() and torch.cuda.is_available()), reason="needs TensorRT and a CUDA device"
)
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_an_engine_equals_pytorch(folder: Path, precision: str, tmp_path: Path, hdmap: Hdmap) -> None:
    path = shutil.copy(folder / "model.safetensors", tmp_path)
    assert hdmap("export", path, "--format", "tensorrt", "--precision", precision).code == 0
    assert load_predictor(path, "cuda").engine.name == "tensorrt"
