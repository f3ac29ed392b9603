"""Dense targets: which lines are seen, under which numbers, in which directions."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hdmap_core.elements import MapClass, MapElement
from hdmap_core.geometry import BEVGrid
from training.data.dense_targets import DenseTargets, build_dense_targets

GRID = BEVGrid((-15, 15), (-7.5, 7.5), 0.3)  # (50, 100)
DIVIDER, CROSSING, BOUNDARY, CENTERLINE = MapClass
CLASSES = (DIVIDER, CROSSING, BOUNDARY)


def line(label: MapClass, *points: tuple[float, float], closed: bool = False) -> MapElement:
    return MapElement(label, np.array(points), closed=closed)


def build(
    *elements: MapElement, classes: tuple[MapClass, ...] = CLASSES, thickness_cells: int = 5, directions: int = 36
) -> DenseTargets:
    return build_dense_targets(
        [elements], grid=GRID, classes=classes, thickness_cells=thickness_cells, directions=directions
    )


def cell(x: float, y: float) -> tuple[int, int]:
    column, row = np.round(GRID.to_cells(np.array([x, y]))).astype(int)
    return int(row), int(column)


def at(raster: torch.Tensor, x: float, y: float) -> torch.Tensor:
    row, column = cell(x, y)
    return raster[0, ..., row, column]


def test_a_line_is_as_wide_as_asked_and_its_ends_are_drawn() -> None:
    targets = build(line(DIVIDER, (-10, 0.15), (10.2, 0.15)))
    assert targets.semantic.shape == targets.instance.shape == (1, 50, 100) and targets.direction.shape == (
        1,
        2,
        50,
        100,
    )
    assert targets.semantic.dtype == targets.direction.dtype == torch.uint8 and targets.instance.dtype == torch.int16
    rows = targets.semantic[0, :, cell(0, 0.15)[1]]
    assert rows.nonzero().flatten().tolist() == [23, 24, 25, 26, 27] and rows.max() == 1
    columns = targets.semantic[0, 25].nonzero().flatten()
    last = cell(10.2, 0.15)[1]
    assert columns[-1] in (last + 2, last + 3), "up to its end and half its width"
    assert build(line(DIVIDER, (0, 0), (0.5, 0))).semantic.any(), "short lines as well"


def test_published_width() -> None:
    targets = build_dense_targets([[line(DIVIDER, (-10, 0.15), (10, 0.15))]], grid=GRID, classes=CLASSES)
    assert int((targets.semantic[0, :, 50] > 0).sum()) == 7, "what OpenCV makes of a thickness of 5"


def test_the_two_directions_of_a_line() -> None:
    targets = build(line(DIVIDER, (-10, 0), (-2, 0)), line(DIVIDER, (5, -5), (5, 5)), line(DIVIDER, (10, 5), (10, -5)))
    assert at(targets.direction, -6, 0).tolist() == [1, 19], "along x"
    assert at(targets.direction, 5, 0).tolist() == [10, 28], "along y"
    assert at(targets.direction, 10, 0).tolist() == [28, 10], "against y"
    assert torch.equal(targets.direction > 0, (targets.semantic > 0)[:, None].expand(-1, 2, -1, -1))
    few = build(line(DIVIDER, (-10, -5), (0, 5)), directions=8)
    assert at(few.direction, -5, 0).tolist() == [2, 6]


def test_a_bend_has_the_directions_of_its_segments() -> None:
    targets = build(line(BOUNDARY, (-10, 0), (0, 0), (0, 0), (0, 6)))
    assert at(targets.direction, -5, 0)[0] == 1 and at(targets.direction, 0, 4)[0] == 10
    assert set(targets.instance.unique().tolist()) == {0, 1}


@settings(deadline=None, max_examples=30)
@given(st.floats(0, 2 * np.pi), st.floats(3, 6), st.floats(-5, 5))
def test_a_mirrored_line_has_mirrored_rasters(angle: float, length: float, x: float) -> None:
    end = length * np.cos(angle), length * np.sin(angle)
    targets = build(line(DIVIDER, (x, 0), (x + end[0], end[1])))
    mirrored = build(line(DIVIDER, (x, 0), (x + end[0], -end[1]))).direction[0].flip(1).long()
    found = targets.direction[0].long()
    expected = torch.where(mirrored > 0, (1 - mirrored) % 36 + 1, 0)
    both = (found > 0) & (expected > 0)
    assert both.sum() >= 0.75 * torch.max((found > 0).sum(), (expected > 0).sum()), "the same cells, but for rounding"
    off = ((found - expected + 18) % 36 - 18).abs()[both]
    assert off.max() <= 1, "one bin where the angle is half way between two"


def test_boundaries_erase_crossings_and_those_dividers_in_a_halo() -> None:
    across = line(DIVIDER, (-10, 0.15), (10, 0.15))
    crossing = line(CROSSING, (0.15, -6), (0.15, 6))
    boundary = line(BOUNDARY, (-12, 3.15), (12, 3.15))
    for elements in ([across, crossing, boundary], [boundary, crossing, across]):
        row = build(*elements).semantic[0, 25].tolist()
        assert row[50 - 4 : 50 + 5] == [0, 0, 2, 2, 2, 2, 2, 0, 0], "the line and two cells on either side"
        assert row[50 - 5] == row[50 + 5] == 1
        column = build(*elements).semantic[0, :, 50].tolist()
        middle = cell(0.15, 3.15)[0]
        assert column[middle - 5 : middle + 6] == [2, 0, 0, 3, 3, 3, 3, 3, 0, 0, 2]


def test_instances_are_numbered_class_by_class() -> None:
    targets = build(line(DIVIDER, (0, -5), (0, 5)), line(BOUNDARY, (-10, 0), (10, 0)), classes=(BOUNDARY, DIVIDER))
    assert at(targets.semantic, 5, 0) == 1 and at(targets.semantic, 0, 4) == 2
    assert at(targets.instance, 5, 0) == 1 and at(targets.instance, 0, 4) == 2


def test_crossings_are_two_lines_and_islands_rings() -> None:
    crossing = line(CROSSING, (-12, -5), (-8, -5), (-8, 5), (-12, 5), closed=True)
    island = line(BOUNDARY, (2, -4), (10, -4), (10, 4), (2, 4), closed=True)
    targets = build(island, crossing)
    assert set(targets.instance[targets.semantic == 2].tolist()) == {1, 2}
    assert at(targets.semantic, -10, 5) == 0 and at(targets.semantic, -10, 0) == 0
    assert at(targets.instance, 2, 0) == 3, "the side that closes the ring"
    assert at(targets.semantic, 6, 0) == 0


def test_more_instances_than_a_byte_holds() -> None:
    lines = [line(DIVIDER, (x, y), (x + 0.1, y)) for y in np.arange(-7, 7, 0.9) for x in np.arange(-14.5, 14.5, 1.2)]
    assert len(lines) > 300
    targets = build(*lines, thickness_cells=1)
    assert set(targets.instance.unique().tolist()) == set(range(len(lines) + 1))


def test_frames_of_a_batch_are_independent() -> None:
    frames = [[line(DIVIDER, (-10, 0), (10, 0))], [], [line(CENTERLINE, (-10, 0), (10, 0))]]  # no class of the model
    targets = build_dense_targets(frames, grid=GRID, classes=CLASSES)
    assert targets.semantic.flatten(1).any(dim=1).tolist() == [True, False, False]
    assert torch.equal(targets.semantic[0], build_dense_targets(frames[:1], grid=GRID, classes=CLASSES).semantic[0])


def test_lines_outside_or_without_length_draw_nothing() -> None:
    targets = build(line(DIVIDER, (30, 0), (40, 0)), line(BOUNDARY, (0, 0), (0, 0)))
    assert not targets.instance.any() and not targets.direction.any()


def test_more_directions_than_the_raster_can_tell() -> None:
    with pytest.raises(ValueError, match="256 directions"):
        build(directions=256)
