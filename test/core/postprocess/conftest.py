"""The slow reference that the benchmark measures against, for the tests of the dense outputs' decoder."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def published(load_module: Callable[[Path], ModuleType]) -> ModuleType:
    """benchmarks/published_vectorisation.py, which is in no package."""
    pytest.importorskip("sklearn", reason="scikit-learn, which it needs, is not installed; make setup brings it")
    return load_module(Path(__file__).resolve().parents[3] / "benchmarks" / "published_vectorisation.py")
