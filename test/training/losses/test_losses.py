"""Losses: least at the truth, blind to the order that points are listed in; matching against brute force."""

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hdmap_core.elements import MapClass, MapElement
from hdmap_core.geometry import BEVGrid
from hdmap_core.model_io import VectorOutput
from training.data.targets import Targets, build_targets
from training.losses.matching import focal_cost, match
from training.losses.segmentation import mask_losses
from training.losses.vector import focal_loss, vector_losses

GRID = BEVGrid()
CLASSES = (MapClass.DIVIDER, MapClass.PED_CROSSING, MapClass.BOUNDARY)
POINTS = 6
DIVIDER = MapElement(MapClass.DIVIDER, np.array([[-20.0, 2], [-5, 3], [10, 1], [25, 2]]))
BOUNDARY = MapElement(MapClass.BOUNDARY, np.array([[-25.0, 8], [25, 9]]))
CROSSING = MapElement(MapClass.PED_CROSSING, np.array([[5.0, -6], [9, -6], [9, 6], [5, 6]]), closed=True)
WEIGHTS = {"class_weight": 2.0, "points_weight": 5.0}


def targets_of(*frames: list[MapElement]) -> Targets:
    return build_targets(frames, grid=GRID, mask_grid=GRID, classes=CLASSES, num_points=POINTS, line_width=0.45)


def perfect(targets: Targets, num_queries: int = 8, layers: int = 2, confidence: float = 20.0) -> VectorOutput:
    """Queries that say the truth, in a scrambled order."""
    batch = len(targets.labels)
    logits = torch.full((layers, batch, num_queries, len(CLASSES)), -confidence)
    points = torch.rand(layers, batch, num_queries, POINTS, 2, generator=torch.Generator().manual_seed(0))
    for b in range(batch):
        for g, label in enumerate(targets.labels[b].tolist()):
            if label >= 0:
                query = num_queries - 1 - 2 * g
                logits[:, b, query, label] = confidence
                points[:, b, query] = targets.orders[b, g, 0]
    return VectorOutput(logits, points)


def terms(output: VectorOutput, targets: Targets) -> dict[str, float]:
    return {name: value.item() for name, value in vector_losses(output, targets, **WEIGHTS).items()}


def test_zero_at_the_truth() -> None:
    targets = targets_of([DIVIDER, CROSSING], [BOUNDARY])
    for name, value in terms(perfect(targets), targets).items():
        assert value == pytest.approx(0, abs=1e-5), name


@pytest.mark.parametrize("element", [DIVIDER, CROSSING])
def test_blind_to_equivalent_orders(element: MapElement) -> None:
    targets = targets_of([element, BOUNDARY])
    allowed = [torch.arange(POINTS), torch.arange(POINTS).flip(0)]
    if element.closed:
        allowed = [order.roll(shift) for order in allowed for shift in range(POINTS)]
    for order in allowed:
        output = perfect(targets)
        query = output.points.shape[2] - 1
        output.points[:, :, query] = output.points[:, :, query][:, :, order]
        assert terms(output, targets)["points"] == pytest.approx(0, abs=1e-5)
        assert terms(output, targets)["direction"] == pytest.approx(0, abs=1e-5)


def test_an_open_line_may_not_start_in_the_middle() -> None:
    targets = targets_of([DIVIDER])
    output = perfect(targets)
    output.points[:, :, -1] = output.points[:, :, -1].roll(1, dims=2)
    assert terms(output, targets)["points"] > 0.5


def test_points_term_is_the_l1_distance_per_element_summed_over_layers() -> None:
    targets = targets_of([DIVIDER, BOUNDARY])
    output = perfect(targets, layers=3)
    output.points[:, :, -1, :, 1] += 0.01
    assert terms(output, targets)["points"] == pytest.approx(3 * POINTS * 0.01 / 2, rel=1e-3)
    assert terms(output, targets)["direction"] == pytest.approx(0, abs=1e-4), "a shift keeps every direction"


@pytest.mark.parametrize("element", [0, 1])
def test_order_of_the_true_elements_does_not_matter(element: int) -> None:
    first, second = targets_of([DIVIDER, CROSSING, BOUNDARY]), targets_of([BOUNDARY, DIVIDER, CROSSING])
    output = perfect(targets_of([DIVIDER, BOUNDARY][element : element + 1]), confidence=1.0)
    assert terms(output, first) == pytest.approx(terms(output, second), rel=1e-5)


def test_frames_without_elements() -> None:
    targets = targets_of([], [])
    output = perfect(targets, confidence=1.0)
    output.logits.requires_grad_()
    output.points.requires_grad_()
    found = vector_losses(output, targets, **WEIGHTS)
    assert found["points"].item() == found["direction"].item() == 0 and found["class"].item() > 0
    torch.stack(list(found.values())).sum().backward()
    assert output.points.grad is not None and not output.points.grad.any()
    assert output.logits.grad is not None and (output.logits.grad > 0).all(), "every query is pushed down"


def test_one_empty_frame_of_a_batch() -> None:
    both, one = targets_of([DIVIDER], []), targets_of([DIVIDER])
    output = perfect(both, confidence=20.0)
    alone = VectorOutput(output.logits[:, :1], output.points[:, :1])
    assert terms(output, both) == pytest.approx(terms(alone, one), abs=1e-6)


def test_more_elements_than_queries() -> None:
    targets = targets_of([DIVIDER, CROSSING, BOUNDARY])
    output = perfect(targets_of([DIVIDER]), num_queries=2, confidence=1.0)
    assert all(np.isfinite(value) for value in terms(output, targets).values())


def test_falls_after_one_step_down_the_gradient() -> None:
    targets = targets_of([DIVIDER, CROSSING])
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(2, 1, 8, 3, generator=generator, requires_grad=True)
    points = torch.rand(2, 1, 8, POINTS, 2, generator=generator, requires_grad=True)

    def loss(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return torch.stack(list(vector_losses(VectorOutput(a, b), targets, **WEIGHTS).values())).sum()

    before = loss(logits, points)
    before.backward()
    with torch.no_grad():
        assert logits.grad is not None and points.grad is not None
        assert loss(logits - 1e-2 * logits.grad, points - 1e-4 * points.grad) < before


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_none_reach_the_loss(value: float) -> None:
    """The loop stops on a loss that is no number; nothing before it may trip."""
    targets = targets_of([DIVIDER, CROSSING])
    output = perfect(targets)
    output.points[:, 0, 3, 2] = value
    output.logits[:, 0, -1] = float("nan")
    found = vector_losses(output, targets, **WEIGHTS)
    assert not torch.isfinite(torch.stack(list(found.values())).sum())


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), queries=st.integers(1, 5), elements=st.integers(1, 4))
def test_matching_is_as_good_as_brute_force(seed: int, queries: int, elements: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(queries, 3, generator=generator)
    points = torch.rand(queries, 4, 2, generator=generator)
    labels = torch.randint(0, 3, (elements,), generator=generator)
    orders = torch.rand(elements, 8, 4, 2, generator=generator)
    query, element, order = match(logits, points, labels, orders, **WEIGHTS)
    pairs = min(queries, elements)
    assert len(query) == len(element) == len(order) == pairs
    assert len(set(query.tolist())) == len(set(element.tolist())) == pairs

    def cost(q: int, g: int, o: int) -> float:
        distance = (points[q] - orders[g, o]).abs().sum()
        return float(2.0 * focal_cost(logits)[q, labels[g]] + 5.0 * distance)

    best = {(q, g): min(cost(q, g, o) for o in range(8)) for q in range(queries) for g in range(elements)}
    found = sum(cost(q, g, o) for q, g, o in zip(query.tolist(), element.tolist(), order.tolist(), strict=True))
    if queries >= elements:
        brute = min(sum(best[q, g] for g, q in enumerate(p)) for p in permutations(range(queries), elements))
    else:
        brute = min(sum(best[q, g] for q, g in enumerate(p)) for p in permutations(range(elements), queries))
    assert found == pytest.approx(brute, rel=1e-4, abs=1e-4)


def test_focal_cost_is_the_change_of_the_focal_loss() -> None:
    logits = torch.linspace(-4, 4, 9)[:, None]
    for row, cost in zip(logits, focal_cost(logits)[:, 0], strict=True):
        change = focal_loss(row, torch.ones(1)) - focal_loss(row, torch.zeros(1))
        assert cost.item() == pytest.approx(change.item(), abs=1e-4)


def test_focal_loss_by_hand() -> None:
    assert focal_loss(torch.zeros(1), torch.ones(1)).item() == pytest.approx(0.25 * 0.25 * np.log(2))
    assert focal_loss(torch.zeros(1), torch.zeros(1)).item() == pytest.approx(0.75 * 0.25 * np.log(2))


def test_masks_zero_at_the_truth_and_worst_at_its_opposite() -> None:
    masks = targets_of([DIVIDER, CROSSING], [BOUNDARY]).masks
    truth = (masks.float() * 2 - 1) * 30
    right, wrong = mask_losses(truth, masks, 3.0), mask_losses(-truth, masks, 3.0)
    assert right["mask_bce"].item() == pytest.approx(0, abs=1e-6)
    assert right["mask_dice"].item() == pytest.approx(0, abs=1e-6)
    assert wrong["mask_bce"] > 20 and wrong["mask_dice"] > 0.99


def test_masks_of_an_empty_batch() -> None:
    masks = torch.zeros(2, 3, 4, 5, dtype=torch.uint8)
    logits = torch.full((2, 3, 4, 5), -30.0, requires_grad=True)
    found = mask_losses(logits, masks, 3.0)
    assert found["mask_dice"].item() == pytest.approx(0, abs=1e-6)
    (found["mask_bce"] + found["mask_dice"]).backward()
    assert logits.grad is not None and torch.isfinite(logits.grad).all()


def test_missing_cells_of_the_class_cost_more_than_false_ones() -> None:
    masks = torch.tensor([[[[1, 0]]]], dtype=torch.uint8)
    missed = mask_losses(torch.tensor([[[[-3.0, -30.0]]]]), masks, 3.0)["mask_bce"]
    false = mask_losses(torch.tensor([[[[30.0, 3.0]]]]), masks, 3.0)["mask_bce"]
    assert missed.item() == pytest.approx(3 * false.item(), rel=1e-3)
