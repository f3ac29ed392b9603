"""Vector losses: least at the truth, blind to the order that points are listed in, equal to a slow version."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from hdmap_core.model_io import VectorOutput
from training.data.targets import Targets
from training.losses.vector import direction_loss, focal_loss, vector_losses

Make = Callable[..., Targets]
Perfect = Callable[..., VectorOutput]
WEIGHTS = {"class_weight": 2.0, "points_weight": 5.0}
NAMES = {"class", "points", "direction"}


def terms(output: VectorOutput, targets: Targets, **options: float) -> dict[str, float]:
    return {name: value.item() for name, value in vector_losses(output, targets, **WEIGHTS, **options).items()}


@pytest.mark.parametrize("closed_orders", ["all", "published"])
def test_zero_at_the_truth(closed_orders: str, targets_of: Make, perfect: Perfect) -> None:
    targets = targets_of("divider crossing centerline", "boundary", closed_orders=closed_orders)
    output = replace(perfect(targets), one_to_many=perfect(targets, 40, repeat=6))
    found = terms(output, targets)
    assert set(found) == NAMES | {name + "_many" for name in NAMES}
    for name, value in found.items():
        assert value == pytest.approx(0, abs=1e-5), name


def listed(
    targets_of: Make, perfect: Perfect, name: str, change: Callable[[torch.Tensor], torch.Tensor]
) -> dict[str, float]:
    """Terms when one element's points are predicted in another order."""
    targets = targets_of(f"boundary {name}")
    output = perfect(targets)
    query = output.logits[0, 0, :, targets.labels[0, 1]].argmax()
    output.points[:, :, query] = change(output.points[:, :, query])
    return terms(output, targets)


@settings(max_examples=25, deadline=None)
@given(reverse=st.booleans(), shift=st.integers(0, 5))
def test_blind_to_the_orders_of_a_ring(reverse: bool, shift: int, targets_of: Make, perfect: Perfect) -> None:
    def change(points: torch.Tensor) -> torch.Tensor:
        return (points.flip(2) if reverse else points).roll(shift, dims=2)

    found = listed(targets_of, perfect, "crossing", change)
    assert found["points"] == pytest.approx(0, abs=1e-5) and found["direction"] == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(
    ("name", "change", "same"),
    [
        ("divider", lambda points: points.flip(2), True),
        ("divider", lambda points: points.roll(1, dims=2), False),
        ("centerline", lambda points: points, True),
        ("centerline", lambda points: points.flip(2), False),
        ("crossing", lambda points: points[:, :, [1, 0, 2, 3, 4, 5]], False),
    ],
)
def test_which_orders_of_lines_mean_the_same(
    name: str, change: Callable, same: bool, targets_of: Make, perfect: Perfect
) -> None:
    found = listed(targets_of, perfect, name, change)
    if same:
        assert found["points"] == pytest.approx(0, abs=1e-5) and found["direction"] == pytest.approx(0, abs=1e-5)
    else:
        assert found["points"] > 0.1 and found["direction"] > 0.1


@pytest.mark.parametrize(("axis", "metres"), [(1, 0.3), (0, 0.6)])
def test_weighted_points_term_of_a_shift(axis: int, metres: float, targets_of: Make, perfect: Perfect) -> None:
    """20 points off by 0.3 m where the grid is 30 m wide: 5 x 20 x 0.01 per element and layer."""
    targets = targets_of("divider boundary centerline", num_points=20)
    output = perfect(targets, layers=3, confidence=20.0)
    output.points[..., axis] += metres / targets.extent[axis]
    found = terms(output, targets)
    assert 5.0 * found["points"] == pytest.approx(3 * 1.0, rel=1e-4)
    assert found["direction"] == pytest.approx(0, abs=1e-4), "a shift keeps every direction"


def test_direction_is_measured_in_metres() -> None:
    """A right angle in metres is one only there: in coordinates over 60 m x 30 m it is not."""
    extent = torch.tensor([60.0, 30.0])
    predicted = torch.tensor([[[0.0, 0.0], [0.1, 0.2]]]) * extent  # 6 m, 6 m
    true = torch.tensor([[[0.0, 0.0], [0.1, -0.2]]]) * extent
    assert direction_loss(predicted, true).item() == pytest.approx(1.0, abs=1e-6)
    assert direction_loss(true, true).item() == pytest.approx(0.0, abs=1e-6)
    assert direction_loss(true, true.flip(1)).item() == pytest.approx(2.0, abs=1e-6)


def test_short_edges_have_no_direction() -> None:
    true = torch.tensor([[[0.0, 0], [1, 0], [1, 0], [1.0, 1.0]]])
    predicted = torch.tensor([[[0.0, 0], [0, 0], [0, 1], [0.0, 1.02]]], requires_grad=True)
    value = direction_loss(predicted, true)
    value.backward()
    assert value.item() == 0, "one of each pair is shorter than 3 cm"
    assert predicted.grad is not None and not predicted.grad.any()
    assert direction_loss(torch.tensor([[[0.0, 0], [0, 0.04]]]), true[:, :2]).item() == pytest.approx(1)


@pytest.mark.parametrize("frames", [("",), ("", "")])
def test_no_element_at_all(frames: tuple[str, ...], targets_of: Make, perfect: Perfect) -> None:
    targets = targets_of(*frames)
    output = perfect(targets, confidence=1.0)
    output.one_to_many = perfect(targets, 20, confidence=1.0)
    leaves = [output.logits, output.points, output.one_to_many.logits, output.one_to_many.points]
    for leaf in leaves:
        leaf.requires_grad_()
    found = vector_losses(output, targets, **WEIGHTS)
    for suffix in ("", "_many"):
        assert found["points" + suffix].item() == found["direction" + suffix].item() == 0
        assert found["class" + suffix].item() > 0
    torch.stack(list(found.values())).sum().backward()
    for logits, points in (leaves[:2], leaves[2:]):
        assert points.grad is not None and not points.grad.any()
        assert logits.grad is not None and (logits.grad > 0).all(), "every query is pushed down"


def test_one_empty_frame_of_a_batch(targets_of: Make, perfect: Perfect) -> None:
    both, one = targets_of("divider", ""), targets_of("divider")
    output = perfect(both, confidence=20.0)
    alone = VectorOutput(output.logits[:, :1], output.points[:, :1])
    assert terms(output, both) == pytest.approx(terms(alone, one), abs=1e-6)


@pytest.mark.parametrize("name", ["divider", "boundary"])
def test_order_of_the_true_elements_does_not_matter(name: str, targets_of: Make, perfect: Perfect) -> None:
    output = perfect(targets_of(name), confidence=1.0)
    first, second = targets_of("divider crossing boundary"), targets_of("boundary divider crossing")
    assert terms(output, first) == pytest.approx(terms(output, second), rel=1e-5)


def slow_direction(predicted: np.ndarray, true: np.ndarray) -> float:
    """One minus the cosine, edge by edge; (P, 2) metres."""
    total = 0.0
    for one, other in zip(np.diff(predicted, axis=0), np.diff(true, axis=0), strict=True):
        lengths = np.linalg.norm(one), np.linalg.norm(other)
        total += 1 - one @ other / np.prod(lengths) if min(lengths) >= 0.03 else 0.0
    return total


def slow_terms(output: VectorOutput, targets: Targets, repeat: int) -> dict[str, float]:
    """The terms pair by pair in float64, from the formulas: focal loss and cost, L1, cosine.

    L1 distances to two orders of a ring are often equal: `direction_least` and `direction_most` over such ties.
    """
    total = dict.fromkeys(("class", "points", "direction_least", "direction_most"), 0.0)
    extent = targets.extent.double().numpy()
    for logits, points in zip(output.logits.double().numpy(), output.points.double().numpy(), strict=True):
        for b in range(len(logits)):
            labels = [label for label in targets.labels[b].tolist() if label >= 0] * repeat
            number = max(len(labels) // repeat, 1)
            orders = [targets.orders[b, targets.owners[b] == g % number].double().numpy() for g in range(len(labels))]
            p = 1 / (1 + np.exp(-logits[b]))
            positive, negative = 0.25 * (1 - p) ** 2 * -np.log(p), 0.75 * p**2 * -np.log(1 - p)
            cost = np.zeros((len(p), len(labels)))
            for q, g in np.ndindex(*cost.shape):
                distance = min(np.abs(points[b, q] - order).sum() for order in orders[g])
                cost[q, g] = 2 * (positive - negative)[q, labels[g]] + 5 * distance
            loss = negative.copy()
            for q, g in zip(*linear_sum_assignment(cost), strict=True):
                loss[q, labels[g]] = positive[q, labels[g]]
                distances = [np.abs(points[b, q] - order).sum() for order in orders[g]]
                total["points"] += min(distances)
                tied = [order for order, d in zip(orders[g], distances, strict=True) if d < min(distances) + 1e-4]
                directions = [slow_direction(points[b, q] * extent, order * extent) for order in tied]
                total["direction_least"] += min(directions)
                total["direction_most"] += max(directions)
            total["class"] += loss.sum()
    count = max(int((targets.labels >= 0).sum()), 1) * repeat
    return {name: value / count for name, value in total.items()}


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    frames=st.lists(
        st.sampled_from(["", "divider", "crossing boundary", "divider crossing boundary centerline"]),
        min_size=1,
        max_size=3,
    ),
    closed_orders=st.sampled_from(["all", "published"]),
)
def test_equal_to_the_slow_version(
    seed: int, frames: list[str], closed_orders: str, targets_of: Make, perfect: Perfect
) -> None:
    generator = torch.Generator().manual_seed(seed)
    targets = targets_of(*frames, closed_orders=closed_orders)

    def noisy(num_queries: int, repeat: int) -> VectorOutput:
        truth = perfect(targets, num_queries, confidence=1.0, repeat=repeat)
        noise = 0.2 * torch.rand(truth.points.shape, generator=generator)
        return VectorOutput(torch.randn(truth.logits.shape, generator=generator), (truth.points + noise).clamp(0, 1))

    output = replace(noisy(7, 1), one_to_many=noisy(14, 3))
    found = terms(output, targets, repeats=3)
    for group, repeat, suffix in ((output, 1, ""), (output.one_to_many, 3, "_many")):
        expected = slow_terms(group, targets, repeat)
        for name in ("class", "points"):
            assert found[name + suffix] == pytest.approx(expected[name], rel=1e-4, abs=1e-5)
        margin = 1e-4 * (1 + expected["direction_most"])
        direction = found["direction" + suffix]
        assert expected["direction_least"] - margin <= direction <= expected["direction_most"] + margin


def test_more_elements_than_queries(targets_of: Make, perfect: Perfect) -> None:
    output = perfect(targets_of("divider"), num_queries=2, confidence=1.0)
    assert all(np.isfinite(value) for value in terms(output, targets_of("divider crossing boundary")).values())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_gives_float32_terms_and_finite_gradients(
    dtype: torch.dtype, targets_of: Make, perfect: Perfect
) -> None:
    targets = targets_of("divider crossing", "")
    output = perfect(targets, confidence=3.0)
    output.points = (output.points + 0.05).clamp(0, 1)
    half = VectorOutput(output.logits.to(dtype).requires_grad_(), output.points.to(dtype).requires_grad_())
    with torch.autocast("cpu", torch.bfloat16):
        found = vector_losses(half, targets, **WEIGHTS)
    assert all(value.dtype == torch.float32 for value in found.values())
    rounded = VectorOutput(half.logits.detach().float(), half.points.detach().float())
    assert {name: value.item() for name, value in found.items()} == pytest.approx(terms(rounded, targets), rel=1e-6)
    torch.stack(list(found.values())).sum().backward()
    for leaf in (half.logits, half.points):
        assert leaf.grad is not None and torch.isfinite(leaf.grad).all() and leaf.grad.any()


def test_falls_after_one_step_down_the_gradient(targets_of: Make) -> None:
    targets = targets_of("divider crossing")
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(2, 1, 8, 4, generator=generator, requires_grad=True)
    points = torch.rand(2, 1, 8, 6, 2, generator=generator, requires_grad=True)

    def loss(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return torch.stack(list(vector_losses(VectorOutput(a, b), targets, **WEIGHTS).values())).sum()

    before = loss(logits, points)
    before.backward()
    with torch.no_grad():
        assert logits.grad is not None and points.grad is not None
        assert loss(logits - 1e-2 * logits.grad, points - 1e-4 * points.grad) < before


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("where", ["logits", "points"])
@pytest.mark.parametrize("query", range(4))
def test_numbers_that_are_none_reach_the_loss(
    value: float, where: str, query: int, targets_of: Make, perfect: Perfect
) -> None:
    """The loop stops on a loss that is no number; nothing before it may trip, and no query may hide one."""
    targets = targets_of("divider crossing")
    output = perfect(targets, num_queries=4)
    getattr(output, where)[:, 0, query] = value
    found = vector_losses(output, targets, **WEIGHTS)
    assert not torch.isfinite(torch.stack(list(found.values())).sum())


def test_inputs_are_left_as_they_were(targets_of: Make, perfect: Perfect) -> None:
    targets = targets_of("divider crossing", "")
    output = perfect(targets)
    tensors = [output.logits, output.points, targets.labels, targets.orders, targets.owners, targets.extent]
    before = [tensor.clone() for tensor in tensors]
    vector_losses(output, targets, **WEIGHTS)
    assert all(torch.equal(one, other) for one, other in zip(before, tensors, strict=True))


def test_focal_loss_by_hand() -> None:
    assert focal_loss(torch.zeros(1), torch.ones(1)).item() == pytest.approx(0.25 * 0.25 * np.log(2))
    assert focal_loss(torch.zeros(1), torch.zeros(1)).item() == pytest.approx(0.75 * 0.25 * np.log(2))
