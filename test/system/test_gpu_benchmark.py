"""benchmarks/gpu.py runs to its end where there is no device, in small, and says what it needs."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

from hdmap_core.inference.engine import AUTOCAST


@pytest.fixture(scope="module")
def script(load_module: Callable[[Path], ModuleType]) -> ModuleType:
    return load_module(Path(__file__).parents[2] / "benchmarks" / "gpu.py")


def test_on_a_cpu_it_writes_the_table(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "gpu.md"
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--device", "cpu", "-o", str(out)])
    script.main()
    text = out.read_text()
    assert "these figures mean nothing" in text and "not as on the CPU" not in text
    for section in text.split("\n## ")[1:]:
        rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")][1:]
        found = {row[0]: row[1:] for row in rows}
        without_floor = ("decode, CPU", "preprocess, CPU", "reduce, device", "trace, CPU", "end to end, eager")
        assert {*without_floor, "pixels in, if the CPU decodes"} <= found.keys()
        assert "runs on CUDA only" in found["network, cuda-graph"][0]
        for stage in ("network, eager", "copy out", "decode, device, damage looked for", "preprocess, device"):
            p50, p95, p99, floor, ratio = map(float, found[stage])
            assert 0 <= p50 <= p95 <= p99 and floor >= 0 and ratio > 0
        assert found["goal: inf ms"][0] == "reached by end to end, eager"
    assert len(text.split("\n## ")) == 1 + len(script.TINY)


def test_what_a_device_would_be_given(script: ModuleType) -> None:
    """The recipes are there, in precisions that PyTorch computes on CUDA; MapFM in bf16."""
    assert script.SUBJECTS["MapFM DINOv2-B"].precision == "bf16"
    for subject in script.SUBJECTS.values():
        assert subject.precision in AUTOCAST
        assert subject.recipe is None or (script.RECIPES / f"{subject.recipe}.yaml").is_file()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device")
def test_without_a_device_it_says_so(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    with pytest.raises(SystemExit, match="needs a CUDA device, and there is none; --device cpu runs it in small"):
        script.main()
