"""The slow reference that the benchmark measures against, for the tests of the dense outputs' decoder."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def published() -> ModuleType:
    """benchmarks/published_vectorisation.py, which is in no package."""
    pytest.importorskip("sklearn", reason="scikit-learn, which it needs, is not installed; make setup brings it")
    path = Path(__file__).resolve().parents[3] / "benchmarks" / "published_vectorisation.py"
    spec = importlib.util.spec_from_file_location("published_vectorisation", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module
