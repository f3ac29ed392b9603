"""What tests of the whole share: the demo as a module, the scene that they drive through."""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def demo(load_module: Callable[[Path], ModuleType]) -> ModuleType:
    """scripts/demo.py."""
    return load_module(Path(__file__).resolve().parents[2] / "scripts" / "demo.py")


@pytest.fixture(scope="session")
def scene(tiny_world: Path) -> str:
    """The name of the one scene to validate with."""
    (name,) = json.loads((tiny_world / "v1.0-mini" / "splits.json").read_text(encoding="utf-8"))["val"]
    return str(name)
