"""Frames of elements and predictions that say the truth, for the tests of matching and losses."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from hdmap_core.elements import MapClass, MapElement
from hdmap_core.geometry import BEVGrid
from hdmap_core.model_io import VectorOutput
from training.data.targets import Targets, build_targets

CLASSES = tuple(MapClass)
NUM_POINTS = 6


@pytest.fixture(scope="session")
def elements() -> dict[str, MapElement]:
    """One element of each kind, by name."""
    line = np.array([[-20.0, 2], [-5, 3], [10, 1], [25, 2]])
    crossing = np.array([[5.0, -6], [9, -6], [9, 6], [5, 6]])
    return {
        "divider": MapElement(MapClass.DIVIDER, line),
        "boundary": MapElement(MapClass.BOUNDARY, np.array([[-25.0, 8], [25, 9]])),
        "crossing": MapElement(MapClass.PED_CROSSING, crossing, closed=True),
        "centerline": MapElement(MapClass.CENTERLINE, line - np.array([0, 9])),
    }


@pytest.fixture(scope="session")
def targets_of(elements: dict[str, MapElement]) -> Callable[..., Targets]:
    """Targets of frames given as names of elements in one string each."""

    def make(*frames: str, num_points: int = NUM_POINTS, **options: str) -> Targets:
        grid = BEVGrid()
        found = [[elements[name] for name in frame.split()] for frame in frames]
        return build_targets(
            found, grid=grid, mask_grid=grid, classes=CLASSES, num_points=num_points, line_width=0.45, **options
        )

    return make


@pytest.fixture(scope="session")
def perfect() -> Callable[..., VectorOutput]:
    """Queries that say the truth, each element `repeat` times, in a scrambled order; the rest is noise."""

    def make(
        targets: Targets, num_queries: int = 10, layers: int = 2, confidence: float = 20.0, repeat: int = 1
    ) -> VectorOutput:
        batch, num_points = len(targets.labels), targets.orders.shape[2]
        generator = torch.Generator().manual_seed(0)
        logits = torch.full((layers, batch, num_queries, len(CLASSES)), -confidence)
        points = torch.rand(layers, batch, num_queries, num_points, 2, generator=generator)
        for b in range(batch):
            queries = iter(torch.randperm(num_queries, generator=generator).tolist())
            for g, label in enumerate(targets.labels[b].tolist()):
                for _ in range(repeat if label >= 0 else 0):
                    query = next(queries)
                    logits[:, b, query, label] = confidence
                    points[:, b, query] = targets.orders[b, targets.owners[b].tolist().index(g)]
        return VectorOutput(logits, points)

    return make
