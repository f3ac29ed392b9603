"""What tests of the whole share: the demo as a module."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def demo(load_module: Callable[[Path], ModuleType]) -> ModuleType:
    """scripts/demo.py."""
    return load_module(Path(__file__).resolve().parents[2] / "scripts" / "demo.py")
