"""Matching: as good as brute force, each element as often as asked, whatever the batch holds."""

from collections import Counter
from collections.abc import Callable
from itertools import permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hdmap_core.model_io import VectorOutput
from training.data.targets import Targets
from training.losses.matching import Matches, focal_cost, match
from training.losses.vector import focal_loss

Make = Callable[..., Targets]
WEIGHTS = {"class_weight": 2.0, "points_weight": 5.0}


def random_targets(counts: list[int], num_points: int, num_classes: int, generator: torch.Generator) -> Targets:
    """Frames of `counts` elements, each of 1 to 5 unrelated orders."""
    frames = [[int(torch.randint(1, 6, (1,), generator=generator)) for _ in range(count)] for count in counts]
    most, rows = max([1, *counts]), max([1, *(sum(frame) for frame in frames)])
    labels = torch.full((len(counts), most), -1)
    owners = torch.full((len(counts), rows), -1)
    for b, frame in enumerate(frames):
        labels[b, : len(frame)] = torch.randint(0, num_classes, (len(frame),), generator=generator)
        owners[b, : sum(frame)] = torch.repeat_interleave(torch.arange(len(frame)), torch.tensor(frame, dtype=int))
    orders = torch.rand(len(counts), rows, num_points, 2, generator=generator)
    masks = torch.zeros(len(counts), num_classes, 1, 1, dtype=torch.uint8)
    return Targets(masks, labels, orders, owners, torch.tensor([60.0, 30.0]))


def random_output(layers: int, batch: int, queries: int, num_points: int, generator: torch.Generator) -> VectorOutput:
    logits = torch.randn(layers, batch, queries, 3, generator=generator)
    return VectorOutput(logits, torch.rand(layers, batch, queries, num_points, 2, generator=generator))


def pairs_of(found: Matches, layer: int, frame: int) -> list[tuple[int, int, int]]:
    here = (found.layer == layer) & (found.frame == frame)
    return list(zip(found.query[here].tolist(), found.element[here].tolist(), found.row[here].tolist(), strict=True))


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    queries=st.integers(1, 5),
    counts=st.lists(st.integers(0, 4), min_size=1, max_size=3),
)
def test_as_good_as_brute_force(seed: int, queries: int, counts: list[int]) -> None:
    generator = torch.Generator().manual_seed(seed)
    targets = random_targets(counts, 4, 3, generator)
    output = random_output(2, len(counts), queries, 4, generator)
    (found,) = match([output], [1], targets, **WEIGHTS)

    for layer in range(2):
        for b, count in enumerate(counts):
            logits, points, owners = output.logits[layer, b], output.points[layer, b], targets.owners[b]

            def cost(q: int, g: int, row: int, logits=logits, points=points, b=b) -> float:
                distance = (points[q] - targets.orders[b, row]).abs().sum()
                return float(2.0 * focal_cost(logits)[q, targets.labels[b, g]] + 5.0 * distance)

            rows = [(owners == g).nonzero().flatten().tolist() for g in range(count)]
            best = {(q, g): min(cost(q, g, row) for row in rows[g]) for q in range(queries) for g in range(count)}
            pairs = pairs_of(found, layer, b)
            assert len(pairs) == len({q for q, _, _ in pairs}) == len({g for _, g, _ in pairs}) == min(queries, count)
            assert all(owners[row] == g for _, g, row in pairs)
            if queries >= count:
                options = (sum(best[q, g] for g, q in enumerate(p)) for p in permutations(range(queries), count))
            else:
                options = (sum(best[q, g] for q, g in enumerate(p)) for p in permutations(range(count), queries))
            assert sum(cost(*pair) for pair in pairs) == pytest.approx(min(options), rel=1e-4, abs=1e-4)


def test_one_to_many_gives_each_element_to_as_many_queries(targets_of: Make) -> None:
    targets = targets_of("divider crossing boundary", "", "centerline crossing")
    generator = torch.Generator().manual_seed(3)
    one = VectorOutput(torch.randn(2, 3, 5, 4, generator=generator), torch.rand(2, 3, 5, 6, 2, generator=generator))
    many = VectorOutput(torch.randn(2, 3, 20, 4, generator=generator), torch.rand(2, 3, 20, 6, 2, generator=generator))
    first, second = match([one, many], [1, 4], targets, **WEIGHTS)
    for layer in range(2):
        for b, count in enumerate([3, 0, 2]):
            assert Counter(g for _, g, _ in pairs_of(first, layer, b)) == dict.fromkeys(range(count), 1)
            assert Counter(g for _, g, _ in pairs_of(second, layer, b)) == dict.fromkeys(range(count), 4)
            queries = [q for q, _, _ in pairs_of(second, layer, b)]
            assert len(queries) == len(set(queries)) and all(0 <= q < 20 for q in queries)
    alone = match([many], [4], targets, **WEIGHTS)[0]
    for name in ("layer", "frame", "query", "element", "row"):
        assert torch.equal(getattr(alone, name), getattr(second, name)), "the groups are matched for themselves"


def test_more_copies_than_queries(targets_of: Make, perfect: Callable[..., VectorOutput]) -> None:
    targets = targets_of("divider crossing boundary")
    (found,) = match([perfect(targets, num_queries=7, layers=1)], [6], targets, **WEIGHTS)
    assert sorted(found.query.tolist()) == list(range(7))


def test_a_padded_frame_matches_as_it_does_alone(targets_of: Make, perfect: Callable[..., VectorOutput]) -> None:
    both, alone = targets_of("divider", "divider crossing boundary"), targets_of("divider")
    output = perfect(both, confidence=0.5)
    (batched,) = match([output], [1], both, **WEIGHTS)
    (single,) = match([VectorOutput(output.logits[:, :1], output.points[:, :1])], [1], alone, **WEIGHTS)
    for layer in range(2):
        assert pairs_of(batched, layer, 0) == pairs_of(single, layer, 0)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("where", ["logits", "points", "all"])
def test_numbers_that_are_none_do_not_crash(
    value: float, where: str, targets_of: Make, perfect: Callable[..., VectorOutput]
) -> None:
    targets = targets_of("divider crossing", "boundary", "")
    output = perfect(targets, num_queries=3, layers=1)
    if where != "points":
        output.logits[:, 0] = value
    if where != "logits":
        output.points[:, 0] = value
    (found,) = match([output], [1], targets, **WEIGHTS)
    assert len(pairs_of(found, 0, 0)) == 2 and pairs_of(found, 0, 2) == []
    query, element, row = pairs_of(found, 0, 1)[0]
    assert output.logits[0, 1, query].argmax() == 2 and element == 0 and row == 0, "the other frame keeps its match"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype: torch.dtype, targets_of: Make, perfect: Callable[..., VectorOutput]) -> None:
    targets = targets_of("divider crossing boundary centerline")
    output = perfect(targets)
    (full,) = match([output], [1], targets, **WEIGHTS)
    half = VectorOutput(output.logits.to(dtype), output.points.to(dtype))
    (found,) = match([half], [1], targets, **WEIGHTS)
    assert torch.equal(full.query, found.query) and torch.equal(full.element, found.element)


def test_focal_cost_is_the_change_of_the_focal_loss() -> None:
    logits = torch.linspace(-4, 4, 9)[:, None]
    for row, cost in zip(logits, focal_cost(logits)[:, 0], strict=True):
        change = focal_loss(row, torch.ones(1)) - focal_loss(row, torch.zeros(1))
        assert cost.item() == pytest.approx(change.item(), abs=1e-4)
