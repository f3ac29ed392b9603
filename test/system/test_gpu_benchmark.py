"""benchmarks/gpu.py runs to its end where there is no device, in small, and says what it needs."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu_benchmark", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


def test_a_dry_run_writes_the_table(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "gpu.md"
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--dry", "-o", str(out)])
    script.main()
    rows = [line.strip("| ").split(" | ") for line in out.read_text().splitlines() if line.startswith("| ")][1:]
    found = {row[0]: row[1:] for row in rows}
    assert {"decode, CPU", "decode, device", "preprocess, CPU", "copy in", "copy out", "postprocess"} <= found.keys()
    assert "runs on CUDA only" in found["network, cuda-graph"][0]
    for stage in ("network, eager", "copy in", "copy out", "decode, device"):
        p50, p99, floor, ratio = map(float, found[stage])
        assert 0 <= p50 <= p99 and floor >= 0 and ratio > 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device")
def test_without_a_device_it_says_so(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    with pytest.raises(SystemExit, match="needs a CUDA device, and there is none; --dry runs it in small"):
        script.main()
