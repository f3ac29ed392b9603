"""A town seen through each lens model: ground and map are those of the same cameras without a lens."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from hdmap_core.elements import MapElement
from hdmap_core.geometry import BEVGrid
from hdmap_core.geometry.ground_view import ground_view
from hdmap_core.inference import load_predictor
from hdmap_core.inference.sample import sample_observation
from hdmap_core.metrics.chamfer_ap import chamfer_ap
from hdmap_core.observation import Observation
from hdmap_core.observation.undistortion import without_lenses

LENSES = ("plumb_bob", "rational_polynomial", "thin_prism", "equidistant", "equidistant, zeros")
GRID = BEVGrid(resolution=0.15)


@pytest.fixture(scope="module")
def seen(load_module: Callable[[Path], ModuleType]) -> dict[str, tuple[Observation, Observation]]:
    """Lens -> the town through it, and through pinholes as wide; warped by the benchmark."""
    lenses = load_module(Path(__file__).resolve().parents[3] / "benchmarks" / "lenses.py")
    town = sample_observation(size=(450, 800))
    return {name: lenses.through(town, lenses.LENSES[name]) for name in LENSES}


def as_pinholes(observation: Observation) -> Observation:
    """The lens ignored."""
    return replace(observation, rig=replace(observation.rig, lenses=()))


@pytest.mark.parametrize("name", LENSES)
def test_the_ground_is_the_same(name: str, seen: dict[str, tuple[Observation, Observation]]) -> None:
    bent, plain = seen[name]
    expected = ground_view(plain.images, plain.rig, GRID).astype(int)

    def difference(observation: Observation) -> float:
        """Mean of grey levels where both see."""
        found = ground_view(observation.images, observation.rig, GRID).astype(int)
        return float(np.abs(found - expected)[(found[..., 3] == 255) & (expected[..., 3] == 255)].mean())

    assert difference(bent) < 1.0
    assert difference(without_lenses(bent)) < 3.0, "black corners of undistorted images count as seen"
    assert difference(as_pinholes(bent)) > 3.5


def test_the_map_is_the_same(seen: dict[str, tuple[Observation, Observation]]) -> None:
    student = load_predictor(device="cpu", engine="eager")
    found, ignored, truth = ({name: [] for name in LENSES} for _ in range(3))
    sets: list[dict[str, list[MapElement]]] = [found, ignored, truth]
    for name, (bent, plain) in seen.items():
        for maps, observation in zip(sets, (bent, as_pinholes(bent), plain), strict=True):
            maps[name] = student.predict(observation).elements
        truth[name] = [element for element in truth[name] if element.score > 0.3]
    likeness, unlikeness = (chamfer_ap(maps, truth, "maptr").mean_ap for maps in (found, ignored))
    assert likeness > 0.9 and unlikeness < likeness - 0.05
