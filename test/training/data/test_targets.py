import numpy as np
import pytest
import torch

from hdmap_core.elements import MapClass, MapElement
from hdmap_core.geometry import BEVGrid
from hdmap_core.model_io import ModelOutput, VectorOutput
from hdmap_core.postprocess import DecodeConfig, MaskDecodeConfig
from hdmap_core.postprocess.decode import decode
from hdmap_core.postprocess.masks import decode_masks
from training.data.point_orders import ClosedOrders
from training.data.targets import Targets, build_targets

GRID = BEVGrid()
FINE = BEVGrid(resolution=0.15)
CLASSES = (MapClass.DIVIDER, MapClass.PED_CROSSING, MapClass.BOUNDARY)
DIVIDER = MapElement(MapClass.DIVIDER, np.array([[-20.0, 2], [-5, 3], [10, 1], [25, 2]]))
BOUNDARY = MapElement(MapClass.BOUNDARY, np.array([[-25.0, 8], [25, 9]]))
ISLAND = MapElement(MapClass.BOUNDARY, np.array([[-10.0, -9], [0, -9], [0, -6], [-10, -6]]), closed=True)
CROSSING = MapElement(MapClass.PED_CROSSING, np.array([[5.0, -6], [9, -6], [9, 6], [5, 6]]), closed=True)


def build(
    *frames: list[MapElement], classes: tuple[MapClass, ...] = CLASSES, closed_orders: ClosedOrders = "all"
) -> Targets:
    return build_targets(
        frames,
        grid=GRID,
        mask_grid=FINE,
        classes=classes,
        num_points=20,
        line_width=0.45,
        closed_orders=closed_orders,
    )


def test_shapes_and_padding() -> None:
    targets = build([DIVIDER, CROSSING, ISLAND], [], [BOUNDARY])
    assert targets.masks.shape == (3, 3, 200, 400) and targets.masks.dtype == torch.uint8
    assert targets.labels.tolist() == [[0, 1, 2], [-1, -1, -1], [2, -1, -1]]
    assert targets.orders.shape == (3, 2 + 40 + 40, 20, 2), "as many rows as the fullest frame has orders"
    assert targets.orders.min() >= 0 and targets.orders.max() <= 1
    assert targets.owners[0].tolist() == [0] * 2 + [1] * 40 + [2] * 40
    assert targets.owners[1:].tolist() == [[-1] * 82, [0] * 2 + [-1] * 80]
    assert targets.extent.tolist() == [60, 30]


def test_no_element_at_all() -> None:
    targets = build([], [])
    assert targets.labels.tolist() == [[-1], [-1]] and not targets.masks.any()
    assert targets.owners.tolist() == [[-1], [-1]] and targets.orders.shape == (2, 1, 20, 2)


def test_published_orders_of_closed_elements() -> None:
    targets = build([DIVIDER, CROSSING, ISLAND], closed_orders="published")
    assert targets.owners.tolist() == [[0] * 2 + [1] * 4 + [2] * 4], "one per vertex"


def test_classes_that_the_model_does_not_know_are_left_out() -> None:
    targets = build([DIVIDER, CROSSING], classes=(MapClass.BOUNDARY, MapClass.PED_CROSSING))
    assert targets.labels.tolist() == [[1]]
    assert targets.masks.shape[1] == 2 and not targets.masks[:, 0].any() and targets.masks[:, 1].any()


def test_a_centerline_has_one_order_and_a_layer_of_its_own() -> None:
    lane = MapElement(MapClass.CENTERLINE, DIVIDER.points[::-1])
    targets = build([DIVIDER, lane], classes=(*CLASSES, MapClass.CENTERLINE))
    assert targets.labels.tolist() == [[0, 3]]
    assert targets.owners.tolist() == [[0, 0, 1]], "both ways for the divider, one for the lane"
    start, end = (np.array([[25.0, 2], [-20, 2]]) - (-30, -15)) / (60, 30)
    np.testing.assert_allclose(targets.orders[0, 2, [0, -1]], [start, end], atol=1e-5)
    assert targets.masks[0, 3].any() and torch.equal(targets.masks[0, 3], targets.masks[0, 0])


def test_perfect_vectors_decode_to_the_truth() -> None:
    targets = build([DIVIDER, CROSSING, BOUNDARY])
    logits = torch.full((3, 3), -9.0).scatter(1, targets.labels[0][:, None], 9.0)
    points = targets.orders[0, [targets.owners[0].tolist().index(g) for g in range(3)]]
    output = ModelOutput(vectors=VectorOutput(logits[None, None], points[None, None]))
    found = decode(output, DecodeConfig(max_elements=3), classes=CLASSES, grid=GRID)
    for element, truth in zip(found, [DIVIDER, CROSSING, BOUNDARY], strict=True):
        assert (element.label, element.closed) == (truth.label, truth.closed)
        for corner in truth.points[[0, -1]]:
            assert np.linalg.norm(element.points - corner, axis=1).min() < 1.1
        if not truth.closed:
            np.testing.assert_allclose(element.points[[0, -1]], truth.points[[0, -1]], atol=1e-4)


def test_perfect_masks_decode_to_the_truth() -> None:
    targets = build([DIVIDER, CROSSING, BOUNDARY, ISLAND])
    found = decode_masks(targets.masks[0].float().numpy(), MaskDecodeConfig(), classes=CLASSES, grid=GRID)
    assert sorted((e.label.value, e.closed) for e in found) == sorted(
        (e.label.value, e.closed) for e in (DIVIDER, CROSSING, BOUNDARY, ISLAND)
    )


def test_masks_fill_crossings_and_draw_rings_of_boundaries() -> None:
    masks = build([CROSSING, ISLAND]).masks[0].numpy()
    row, column = np.round(FINE.to_cells(np.array([[7.0, 0.0], [-5.0, -7.5]]))).astype(int)[:, ::-1].T
    assert masks[1, row[0], column[0]] == 1, "inside the crossing"
    assert masks[2, row[1], column[1]] == 0, "inside the island"
    assert masks[1].sum() * FINE.resolution**2 == pytest.approx(48, rel=0.07)
    assert masks[2].sum() * FINE.resolution**2 == pytest.approx(26 * 0.45, rel=0.15)


def test_elements_are_left_as_they_were() -> None:
    before = DIVIDER.points.copy()
    build([DIVIDER])
    np.testing.assert_array_equal(DIVIDER.points, before)
